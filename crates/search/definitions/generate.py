#!/usr/bin/env python3
"""Makes parameters.txt, compartments.txt and systems.txt, what search needs to know of FHIR R4 (4.0.1), from the
official definitions.

    python3 generate.py [PACKAGE.tgz]

The definitions are those of the npm package hl7.fhir.r4.examples 4.0.1 (CC0), fetched with npm unless the file is
given, and checked against its SHA-256.

parameters.txt has one paragraph per type: its name, then one line per search parameter, with tabs between

    birthdate   date   individual-birthdate   -   Patient.birthDate
    code        type   id                     types that a reference may lead to, or -   expression

and, for a composite, a further column per component: type=expression. The expression has only those alternatives that
concern the type. The URL of a parameter is http://hl7.org/fhir/SearchParameter/ and its id.

systems.txt has one line per value set that an element is bound to and whose codes are of one system: its id and
the system.

compartments.txt has one paragraph per compartment: its name, then one line per type in it: the type and the parameters
by which its resources belong to the compartment.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "hl7.fhir.r4.examples"
VERSION = "4.0.1"
SHA256 = "dce87f1b5b9341867033f7d1f544fa1b5232503f6d62813887ac6b8a8b6cb682"
URL = "http://hl7.org/fhir/SearchParameter/"
COMPARTMENTS = ("device", "encounter", "patient", "practitioner", "relatedPerson")
# The definitions of its two components stand in each other's place: the one of a reference with the code.
SWAPPED = ("DocumentReference-relationship",)
# What all types extend: their parameters are everybody's.
EVERYWHERE = ("Resource", "DomainResource")


def fetch(folder):
    """The package as a file, fetched with npm."""
    subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    return pathlib.Path(folder) / f"{PACKAGE}-{VERSION}.tgz"


def resources(archive):
    """All search parameters of the core specification, by canonical URL, the compartments, and the value sets."""
    with tarfile.open(archive) as tar:
        def read(name):
            return json.load(tar.extractfile(f"package/{name}.json"))
        bundle = [entry["resource"] for entry in read("Bundle-searchParams")["entry"]]
        compartments = [read(f"CompartmentDefinition-{name}") for name in COMPARTMENTS]
        value_sets = [json.load(tar.extractfile(member)) for member in tar
                      if member.name.startswith("package/ValueSet-")]
    parameters = {it["url"]: it for it in bundle if it["resourceType"] == "SearchParameter"}
    return parameters, compartments, value_sets


def alternatives(expression):
    """The parts of an expression between the bars outside parentheses."""
    depth, part = 0, ""
    for letter in expression:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "|" and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += letter
    yield part.strip()


def of_base(expression, base):
    """The alternatives of an expression that concern a type: those that begin with it, or with no type."""
    def concerns(part):
        first = re.match(r"\(*(\w+)", part).group(1)
        return first in (base, *EVERYWHERE) or first[0].islower()
    return " | ".join(part for part in alternatives(expression) if concerns(part))


def line(parameter, base, parameters):
    """The line of a parameter in the paragraph of a type."""
    targets = ",".join(sorted(parameter.get("target", []))) or "-"
    identifier = parameter["url"].removeprefix(URL)
    expression = of_base(parameter["expression"], base)
    columns = [parameter["code"], parameter["type"], identifier, targets, expression]
    components = parameter.get("component", [])
    definitions = [component["definition"] for component in components]
    if identifier in SWAPPED:
        definitions.reverse()
    for component, definition in zip(components, definitions):
        kind = parameters[definition]["type"]
        columns.append(f"{kind}={component['expression']}")
    return "\t".join(columns)


def parameter_table(parameters):
    """The text of parameters.txt."""
    paragraphs = {}
    for parameter in parameters.values():
        # _text, _content and _query have none.
        if "expression" not in parameter:
            continue
        for base in parameter["base"]:
            paragraphs.setdefault(base, []).append(line(parameter, base, parameters))
    return "\n\n".join("\n".join([base, *sorted(lines)]) for base, lines in sorted(paragraphs.items())) + "\n"


def compartment_table(compartments):
    """The text of compartments.txt."""
    paragraphs = []
    for compartment in compartments:
        lines = [f"{it['code']} {' '.join(it['param'])}" for it in compartment["resource"] if it.get("param")]
        paragraphs.append("\n".join([compartment["code"], *sorted(lines)]))
    return "\n\n".join(paragraphs) + "\n"


def system_table(value_sets):
    """The text of systems.txt."""
    table = pathlib.Path(__file__).parents[2] / "record" / "definitions" / "r4.txt"
    bound = {line.split()[1] for line in table.read_text().splitlines() if line.startswith("= ")}
    lines = []
    for value_set in value_sets:
        includes = value_set.get("compose", {}).get("include", [])
        systems = {include.get("system") for include in includes}
        if value_set["id"] in bound and len(systems) == 1 and None not in systems:
            lines.append(f"{value_set['id']} {systems.pop()}")
    return "\n".join(sorted(lines)) + "\n"


def main():
    """Writes the tables beside this script."""
    with tempfile.TemporaryDirectory() as folder:
        archive = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else fetch(folder)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            sys.exit(f"{archive} is not {PACKAGE} {VERSION}: its SHA-256 differs")
        parameters, compartments, value_sets = resources(archive)
    here = pathlib.Path(__file__).parent
    (here / "parameters.txt").write_text(parameter_table(parameters))
    (here / "compartments.txt").write_text(compartment_table(compartments))
    (here / "systems.txt").write_text(system_table(value_sets))


if __name__ == "__main__":
    main()
