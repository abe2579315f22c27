"""The scenario with fhirpy."""

import sys

from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound

PAGE = 7
PATIENTS = 40


def main(bases):
    client = SyncFHIRClient(bases[0])

    # Create, read, update, conditional create.
    patient = client.resource("Patient", name=[{"family": "Py", "given": ["Fhir"]}],
                              identifier=[{"system": "urn:clients", "value": "fhirpy"}])
    patient.save()
    assert patient.id
    again = client.reference("Patient", patient.id).to_resource()
    assert again["name"][0]["family"] == "Py"
    again["birthDate"] = "1970-01-02"
    again.save()
    assert client.reference("Patient", patient.id).to_resource()["birthDate"] == "1970-01-02"
    found, created = client.resources("Patient").search(
        identifier="urn:clients|fhirpy").get_or_create(
            client.resource("Patient", name=[{"family": "Other"}]))
    assert not created and found.id == patient.id

    # A transaction.
    entries = [{"resource": {"resourceType": "Patient", "name": [{"family": "Paged"}],
                             "identifier": [{"system": "urn:paged", "value": str(number)}]},
                "request": {"method": "POST", "url": "Patient"}} for number in range(PATIENTS)]
    client.execute("/", method="POST",
                   data={"resourceType": "Bundle", "type": "transaction", "entry": entries})

    # Searches: parameters, sorting, counting, including.
    search = client.resources("Patient").search(family="paged")
    assert search.count() == PATIENTS
    assert len(search.sort("-_lastUpdated").limit(PAGE).fetch()) == PAGE
    assert client.resources("Patient").search(identifier="urn:clients|fhirpy").first().id == patient.id
    assert len(search.limit(PAGE).fetch_all()) == PATIENTS

    # Pages go on at another node when the first is killed: the link says where, not to whom.
    bundle = client.execute("Patient", method="GET", params={"family": "paged", "_count": str(PAGE)})
    seen, base = [], 0
    while True:
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
        if url is None:
            break
        if len(seen) == PAGE:
            print("kill", flush=True)
            sys.stdin.readline()
            base = 1
        client = SyncFHIRClient(bases[base])
        bundle = client.execute(url.replace(bases[0], bases[base]), method="GET")
    assert len(seen) == len(set(seen)) == PATIENTS, len(seen)

    # Delete.
    client.reference("Patient", patient.id).delete()
    try:
        client.reference("Patient", patient.id).to_resource()
        raise AssertionError("it is deleted")
    except ResourceNotFound:
        pass
    except Exception as error:  # 410 is an error of its own in some versions
        assert "deleted" in str(error), error
    print("passed", flush=True)


main(sys.argv[1:])
