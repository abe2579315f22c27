// The scenario with fhirclient (SMART on FHIR, JavaScript).

import assert from "node:assert";
import { createInterface } from "node:readline/promises";
import module from "node:module";

const smart = module.createRequire(import.meta.url)("fhirclient");
const bases = process.argv.slice(2);
const PAGE = 7;
const PATIENTS = 40;

const connect = (base) => smart({ method: "GET", url: "/", headers: {}, protocol: "http" }, {}).client(base);
let client = connect(bases[0]);

// Create, read, update.
const created = await client.create({
  resourceType: "Patient",
  name: [{ family: "Smart" }],
  identifier: [{ system: "urn:clients", value: "smart" }],
});
const id = created.id;
assert.equal((await client.request(`Patient/${id}`)).name[0].family, "Smart");
const updated = await client.update({ ...created, birthDate: "1970-01-02" });
assert.equal(updated.birthDate, "1970-01-02");

// A transaction.
const entry = [...Array(PATIENTS).keys()].map((number) => ({
  resource: {
    resourceType: "Patient",
    name: [{ family: "Paged" }],
    identifier: [{ system: "urn:paged", value: `${number}` }],
  },
  request: { method: "POST", url: "Patient" },
}));
await client.request({
  url: bases[0],
  method: "POST",
  headers: { "content-type": "application/fhir+json" },
  body: JSON.stringify({ resourceType: "Bundle", type: "transaction", entry }),
});

// Searches, with all pages as the client follows them, and with what is referred to.
const all = await client.request(`Patient?family=paged&_count=${PAGE}`, { pageLimit: 0, flat: true });
assert.equal(all.length, PATIENTS);
const one = await client.request("Patient?identifier=urn:clients|smart");
assert.deepEqual(one.entry.map((it) => it.resource.id), [id]);

// Pages go on at another node when the first is killed.
const lines = createInterface({ input: process.stdin });
let page = await client.request(`Patient?family=paged&_count=${PAGE}`);
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
  client = connect(bases[base]);
  page = await client.request(link.url.replace(bases[0], bases[base]));
}
lines.close();
assert.equal(new Set(seen).size, PATIENTS);
assert.equal(seen.length, PATIENTS);

// Delete.
await client.delete(`Patient/${id}`);
await assert.rejects(client.request(`Patient/${id}`), /410|deleted/i);
console.log("passed");
process.exit(0);
