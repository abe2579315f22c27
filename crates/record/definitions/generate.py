#!/usr/bin/env python3
"""Makes r4.txt, the table of all elements of FHIR R4 (4.0.1), from the official definitions.

    python3 generate.py [PACKAGE.tgz]

The definitions are those of the npm package hl7.fhir.r4.examples 4.0.1 (CC0), fetched with npm
unless the file is given, and checked against its SHA-256.

The table has one paragraph per type, then one line per set of codes:

    Address < Element               a type and what it extends (inherited elements are not repeated)
    ?^use code=address-use          at the most one; a code of this set; `^` for part of a summary
    *^line string                   any number of them
    Patient.link < BackboneElement  the type of the elements defined in place at this path
    !other Reference                exactly one
    ?value[x] boolean|dateTime      a choice of types: valueBoolean, valueDateTime
    = address-use home work temp old billing

`+` is one or more. A type `Resource` is any resource, its elements those of its own type. Primitive
types have lower-case names; `resource-id`, `element-id` and `extension-url` are the three that can
have no extensions.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "hl7.fhir.r4.examples"
VERSION = "4.0.1"
SHA256 = "dce87f1b5b9341867033f7d1f544fa1b5232503f6d62813887ac6b8a8b6cb682"
BASE = "http://hl7.org/fhir/StructureDefinition/"
SYSTEM_TYPE = "http://hl7.org/fhirpath/System.String"
# The definitions give the ids and the url of an extension as plain strings; the specification's
# text says what they are (its pages resource, element and extensibility).
SYSTEM_TYPES = {
    "Resource.id": "resource-id",
    "Element.id": "element-id",
    "Extension.url": "extension-url",
}
IN_PLACE = ("BackboneElement", "Element")


class Unlisted(Exception):
    """The codes of a set come from a grammar or a publication elsewhere, not from a list here."""


def fetch(folder):
    """The package as a file, fetched with npm."""
    subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    return pathlib.Path(folder) / f"{PACKAGE}-{VERSION}.tgz"


def resources(archive):
    """The definitions in the package that matter, by canonical URL."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if name.startswith(("StructureDefinition-", "ValueSet-", "CodeSystem-")):
                resource = json.load(tar.extractfile(member))
                found[resource["resourceType"], resource["url"]] = resource
    return found


class Table:
    """The lines of the table, and the code sets that they name."""

    def __init__(self, definitions):
        self.definitions = definitions
        self.types = {}
        self.codes = {}

    def add(self, definition):
        """Adds the type that a StructureDefinition defines, and those in place within it."""
        elements = definition["snapshot"]["element"]
        root = definition["name"]
        parent = definition.get("baseDefinition", "").removeprefix(BASE)
        if definition.get("derivation") == "constraint":
            parent = "Element"
        self.types[root] = (parent, [])
        for element in elements[1:]:
            path = element["path"].split(".")
            path[0] = root
            owner, name = ".".join(path[:-1]), path[-1]
            if element["max"] == "0" or self.inherited(element, definition):
                continue
            kinds = [self.kind(element, t, ".".join(path)) for t in element.get("type", [])]
            if "contentReference" in element:
                kinds = [element["contentReference"].removeprefix("#")]
            if kinds[0] == ".".join(path):
                self.types[kinds[0]] = (element["type"][0]["code"], [])
            self.types[owner][1].append(f"{self.signs(element)}{name} {'|'.join(kinds)}")

    @staticmethod
    def inherited(element, definition):
        """Whether the element comes from the type that its owner extends."""
        base = element["base"]["path"]
        return definition.get("derivation") != "constraint" and base != element["path"] or (
            base.startswith("Element.") and definition["name"] != "Element")

    def kind(self, element, type_, path):
        """The name of an element's type."""
        code = type_["code"]
        if code == SYSTEM_TYPE:
            return SYSTEM_TYPES[element["base"]["path"]]
        if code in IN_PLACE and any(
                e.startswith(element["path"] + ".") for e in self.paths(path.split(".")[0])):
            return path
        profiles = [p.removeprefix(BASE) for p in type_.get("profile", [])]
        if code == "Quantity" and profiles and profiles[0] in ("SimpleQuantity", "MoneyQuantity"):
            return profiles[0]
        binding = element.get("binding", {})
        if code == "code" and binding.get("strength") == "required":
            name = self.code_set(binding["valueSet"].split("|")[0])
            return f"code={name}" if name else code
        return code

    def paths(self, root):
        definition = self.definitions["StructureDefinition", BASE + root]
        return [e["path"] for e in definition["snapshot"]["element"]]

    @staticmethod
    def signs(element):
        signs = {(0, "1"): "?", (1, "1"): "!", (0, "*"): "*", (1, "*"): "+"}
        summary = "^" if element.get("isSummary") else ""
        return signs[element["min"], element["max"]] + summary

    def code_set(self, url):
        """The name of a value set whose codes are listed; None if they cannot be."""
        value_set = self.definitions["ValueSet", url]
        name = value_set["id"]
        if name not in self.codes:
            try:
                self.codes[name] = self.expand(value_set)
            except Unlisted:
                self.codes[name] = None
        return name if self.codes[name] else None

    def expand(self, value_set):
        """The codes of a value set, in its order."""
        compose = value_set["compose"]
        codes = {}
        for include in compose["include"]:
            codes.update(dict.fromkeys(self.included(include)))
        for exclude in compose.get("exclude", []):
            for code in self.included(exclude):
                codes.pop(code, None)
        return list(codes)

    def included(self, include):
        for url in include.get("valueSet", []):
            yield from self.expand(self.definitions["ValueSet", url.split("|")[0]])
        if "concept" in include:
            yield from (concept["code"] for concept in include["concept"])
        elif "system" in include:
            system = self.definitions.get(("CodeSystem", include["system"]))
            if system is None or system["content"] != "complete":
                raise Unlisted(include["system"])
            yield from self.filtered(system, include.get("filter", []))

    def filtered(self, system, filters):
        """The codes of a code system that pass these filters; abstract ones are no codes."""
        for concept, ancestors in walk(system.get("concept", []), ()):
            abstract = any(p["code"] in ("notSelectable", "abstract") and p.get("valueBoolean")
                           for p in concept.get("property", []))
            lineage = (*ancestors, concept["code"])
            if not abstract and all(passes(f, lineage) for f in filters):
                yield concept["code"]

    def text(self):
        paragraphs = []
        for name, (parent, elements) in sorted(self.types.items()):
            head = f"{name} < {parent}" if parent else name
            paragraphs.append("\n".join([head, *elements]))
        sets = [f"= {name} {' '.join(codes)}" for name, codes in sorted(self.codes.items()) if codes]
        return "\n\n".join([*paragraphs, "\n".join(sets)]) + "\n"


def walk(concepts, ancestors):
    """All concepts of a hierarchy with the codes above them."""
    for concept in concepts:
        yield concept, ancestors
        yield from walk(concept.get("concept", []), (*ancestors, concept["code"]))


def passes(filter_, lineage):
    """Whether a code with this lineage, itself last, passes a filter."""
    if filter_["property"] == "concept" and filter_["op"] == "is-a":
        return filter_["value"] in lineage
    if filter_["property"] == "concept" and filter_["op"] == "is-not-a":
        return filter_["value"] not in lineage
    raise ValueError(f"filter {filter_} is not understood")


def wanted(definition):
    """Whether a StructureDefinition defines a type with elements of its own."""
    if definition["name"] in ("SimpleQuantity", "MoneyQuantity"):
        return True
    return (definition["kind"] in ("resource", "complex-type")
            and definition.get("derivation") != "constraint")


def main():
    with tempfile.TemporaryDirectory() as folder:
        archive = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else fetch(folder)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            sys.exit(f"{archive} is not {PACKAGE} {VERSION}: its SHA-256 differs")
        definitions = resources(archive)
    table = Table(definitions)
    for (kind, _), definition in sorted(definitions.items()):
        if kind == "StructureDefinition" and wanted(definition):
            table.add(definition)
    target = pathlib.Path(__file__).with_name("r4.txt")
    target.write_text(table.text())
    unlisted = [name for name, codes in sorted(table.codes.items()) if not codes]
    print(f"{target.name}: {len(table.types)} types, {len(table.codes) - len(unlisted)} sets of "
          f"codes, {target.stat().st_size} bytes; any code passes for {', '.join(unlisted)}")


if __name__ == "__main__":
    main()
