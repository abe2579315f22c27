"""The scenario with fhirclient (SMART on FHIR, Python)."""

import sys

from fhirclient import client, server
from fhirclient.models.bundle import Bundle, BundleEntry, BundleEntryRequest
from fhirclient.models.humanname import HumanName
from fhirclient.models.identifier import Identifier
from fhirclient.models.patient import Patient

PAGE = 7
PATIENTS = 40


def connect(base):
    return client.FHIRClient(settings={"app_id": "clients", "api_base": base}).server


def named(family, system, value):
    patient = Patient({"name": [{"family": family}]})
    patient.identifier = [Identifier({"system": system, "value": value})]
    return patient


def main(bases):
    at = connect(bases[0])

    # Create, read, update.
    patient = named("Py", "urn:clients", "fhirclient")
    created = patient.create(at)
    identity = created["id"]
    again = Patient.read(identity, at)
    assert again.name[0].family == "Py"
    again.name = [HumanName({"family": "Smart"})]
    again.update(at)
    assert Patient.read(identity, at).name[0].family == "Smart"

    # A transaction.
    bundle = Bundle({"type": "transaction"})
    bundle.entry = []
    for number in range(PATIENTS):
        entry = BundleEntry({"request": {"method": "POST", "url": "Patient"}})
        entry.resource = named("Paged", "urn:paged", str(number))
        bundle.entry.append(entry)
    done = at.post_json("", bundle.as_json())
    assert done.status_code == 200, done.text

    # Searches, with pages as the client follows them.
    found = Patient.where({"family": "paged", "_count": str(PAGE)}).perform_resources(at)
    assert len(found) in (PAGE, PATIENTS), len(found)
    one = Patient.where({"identifier": "urn:clients|fhirclient"}).perform_resources(at)
    assert [it.id for it in one] == [identity]

    # Pages go on at another node when the first is killed.
    page = Patient.where({"family": "paged", "_count": str(PAGE)}).perform(at)
    seen, base = [], 0
    while True:
        seen += [entry.resource.id for entry in page.entry]
        url = next((link.url for link in page.link if link.relation == "next"), None)
        if url is None:
            break
        if len(seen) == PAGE:
            print("kill", flush=True)
            sys.stdin.readline()
            base = 1
        at = connect(bases[base])
        page = Bundle.read_from(url.replace(bases[0], bases[base]), at)
    assert len(seen) == len(set(seen)) == PATIENTS, len(seen)

    # Delete.
    Patient.read(identity, at).delete()
    try:
        Patient.read(identity, at)
        raise AssertionError("it is deleted")
    except (server.FHIRNotFoundException, Exception) as error:
        assert "deleted" not in str(type(error)) and not isinstance(error, AssertionError), error
    print("passed", flush=True)


main(sys.argv[1:])
