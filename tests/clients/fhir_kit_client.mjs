// The scenario with fhir-kit-client.

import assert from "node:assert";
import { createInterface } from "node:readline/promises";
import { Client } from "fhir-kit-client";

const bases = process.argv.slice(2);
const PAGE = 7;
const PATIENTS = 40;

let client = new Client({ baseUrl: bases[0] });

// What the server can do.
const statement = await client.capabilityStatement();
assert.equal(statement.fhirVersion, "4.0.1");

// Create, read, vread, update, conditional create.
const created = await client.create({
  resourceType: "Patient",
  body: { resourceType: "Patient", name: [{ family: "Kit" }], identifier: [{ system: "urn:clients", value: "kit" }] },
});
const id = created.id;
assert.equal((await client.read({ resourceType: "Patient", id })).name[0].family, "Kit");
const updated = await client.update({
  resourceType: "Patient",
  id,
  body: { ...created, birthDate: "1970-01-02" },
});
assert.equal(updated.birthDate, "1970-01-02");
const first = await client.vread({ resourceType: "Patient", id, version: created.meta.versionId });
assert.equal(first.birthDate, undefined);
const same = await client.create({
  resourceType: "Patient",
  body: { resourceType: "Patient", name: [{ family: "Other" }] },
  options: { headers: { "If-None-Exist": "identifier=urn:clients|kit" } },
});
assert.ok(same === undefined || same.id === id || same.id === undefined);
const history = await client.resourceHistory({ resourceType: "Patient", id });
assert.equal(history.entry.length, 2);

// A transaction, and a batch that searches.
const entry = [...Array(PATIENTS).keys()].map((number) => ({
  resource: {
    resourceType: "Patient",
    name: [{ family: "Paged" }],
    identifier: [{ system: "urn:paged", value: `${number}` }],
  },
  request: { method: "POST", url: "Patient" },
}));
await client.transaction({ body: { resourceType: "Bundle", type: "transaction", entry } });
const batch = await client.batch({
  body: { resourceType: "Bundle", type: "batch", entry: [{ request: { method: "GET", url: "Patient?family=paged&_summary=count" } }] },
});
assert.equal(batch.entry[0].resource.total, PATIENTS);

// Searches by GET and POST, forwards and backwards.
const one = await client.search({ resourceType: "Patient", searchParams: { identifier: "urn:clients|kit" } });
assert.deepEqual(one.entry.map((it) => it.resource.id), [id]);
const posted = await client.search({
  resourceType: "Patient",
  searchParams: { family: "paged", _count: PAGE },
  options: { postSearch: true },
});
assert.equal(posted.entry.length, PAGE);
const next = await client.nextPage({ bundle: posted });
const back = await client.prevPage({ bundle: next });
assert.deepEqual(back.entry.map((it) => it.resource.id), posted.entry.map((it) => it.resource.id));
const compartment = await client.compartmentSearch({
  resourceType: "Observation",
  compartment: { resourceType: "Patient", id },
});
assert.equal(compartment.entry, undefined);
const everything = await client.operation({ name: "$everything", resourceType: "Patient", id, method: "GET" });
assert.deepEqual(everything.entry.map((it) => it.resource.id), [id]);

// Pages go on at another node when the first is killed.
const lines = createInterface({ input: process.stdin });
let page = await client.search({ resourceType: "Patient", searchParams: { family: "paged", _count: PAGE } });
const seen = [];
let base = 0;
for (;;) {
  seen.push(...page.entry.map((it) => it.resource.id));
  const link = page.link.find((it) => it.relation === "next");
  if (!link) break;
  if (seen.length === PAGE) {
    console.log("kill");
    await new Promise((resolve) => lines.once("line", resolve));
    base = 1;
  }
  client = new Client({ baseUrl: bases[base] });
  page = await client.request(link.url.replace(bases[0], bases[base]));
}
lines.close();
assert.equal(new Set(seen).size, PATIENTS);
assert.equal(seen.length, PATIENTS);

// Delete.
await client.delete({ resourceType: "Patient", id });
await assert.rejects(client.read({ resourceType: "Patient", id }), (error) => error.response.status === 410);
console.log("passed");
process.exit(0);
