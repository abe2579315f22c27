//! This module tests bundles: entries, the links between them, and what is refused.

use super::*;
use crate::command::{Link, LinkTarget};

fn bundle(kind: &str, entries: &[&str]) -> Result<PostedBundle, Invalid> {
    let entries = entries.join(",\n");
    let entry = if entries.is_empty() { String::new() } else { format!(r#","entry":[{entries}]"#) };
    let text = format!(r#"{{"resourceType":"Bundle","type":"{kind}"{entry}}}"#);
    PostedBundle::parse(text.as_bytes())
}

fn transaction(entries: &[&str]) -> Vec<Operation> {
    match bundle("transaction", entries) {
        Ok(PostedBundle::Transaction(writes)) => writes.into_iter().map(operation).collect(),
        other => panic!("{other:?}"),
    }
}

fn operation(write: BundledWrite) -> Operation {
    match write {
        BundledWrite::Operation(operation) => operation,
        BundledWrite::Patch(patch) => panic!("{patch:?}"),
    }
}

/// The first problem of a transaction: path and reason.
fn refused(entries: &[&str]) -> (String, String) {
    let invalid = bundle("transaction", entries).expect_err("it is refused");
    let problem = &invalid.problems()[0];
    (problem.path.clone(), problem.reason.clone())
}

fn check_refused(entries: &[&str], path: &str, part: &str) {
    let (found, reason) = refused(entries);
    assert_eq!(found, path, "{reason}");
    assert!(reason.contains(part), "{reason}");
}

fn post(url: &str, resource: &str) -> String {
    let kind = resource.split('"').nth(3).unwrap_or_default();
    format!(
        r#"{{"fullUrl":"{url}","resource":{resource},"request":{{"method":"POST","url":"{kind}"}}}}"#
    )
}

fn request(method: &str, url: &str, more: &str) -> String {
    format!(r#"{{"request":{{"method":"{method}","url":"{url}"{more}}}}}"#)
}

fn put(url: &str, resource: &str, more: &str) -> String {
    format!(r#"{{"resource":{resource},"request":{{"method":"PUT","url":"{url}"{more}}}}}"#)
}

/// The text of each link, and what it refers to.
fn links(operation: &Operation) -> Vec<(String, LinkTarget)> {
    let draft = operation.draft().expect("it writes");
    let text = std::str::from_utf8(draft.resource.content()).expect("content is text");
    let shown = |link: &Link| (text[link.at.clone()].to_owned(), link.target.clone());
    draft.links.iter().map(shown).collect()
}

const A: &str = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520";
const B: &str = "urn:oid:1.2.3";
const PATIENT: &str = r#"{"resourceType":"Patient","active":true}"#;
const DIV: &str = r#"<div xmlns=\"http://www.w3.org/1999/xhtml\">"#;

#[test]
fn every_kind_of_link_to_an_entry_is_found() {
    let tag = format!(r#"{{"system":"{A}","code":"x"}}"#);
    let basic = format!(
        r##"{{ "resourceType" : "Basic", "code": {{ "text": "{A}" }},
        "subject": {{ "reference": "{A}" }},
        "text": {{"status":"generated","div":"{DIV}\n<a href=\"{B}\">x</a><img src='{A}'/></div>"}},
        "extension": [
            {{ "url": "u", "valueUri": "{A}" }}, {{ "url": "u", "valueUuid": "{A}" }},
            {{ "url": "u", "valueOid": "{B}" }}, {{ "url": "u", "valueUrl": "{A}" }},
            {{ "url": "u", "valueCanonical": "{A}" }}, {{ "url": "u", "valueString": "{A}" }},
            {{ "url": "u", "valueReference": {{ "reference": "{B}\u0023part" }} }}],
        "contained": [{{"resourceType":"Basic","id":"c","code":{{"text":"x"}},
            "subject":{{"reference":"#c"}},"author":{{"reference":"urn:oid:1.2\u002e3"}}}}],
        "meta": {{ "tag": [{tag}] }} }}"##
    );
    let operations =
        transaction(&[&post(A, PATIENT), &post(B, PATIENT), &post("urn:uuid:x", &basic)]);

    let entry = LinkTarget::Entry;
    let expected: Vec<(&str, LinkTarget)> = vec![
        (A, entry(0)), // meta.tag.system, which stands first in what is stored
        (A, entry(0)),
        (B, entry(1)),
        (A, entry(0)),
        (A, entry(0)),
        (A, entry(0)),
        (B, entry(1)),
        (A, entry(0)),
        (B, entry(1)),
        ("urn:oid:1.2\\u002e3", entry(1)),
    ];
    let found = links(&operations[2]);
    let found: Vec<_> = found.iter().map(|(text, target)| (&**text, target.clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn references_are_resolved_against_the_url_of_their_entry() {
    let reference = |text: &str| {
        format!(
            r#"{{"resourceType":"Basic","code":{{"text":"x"}},"subject":{{"reference":"{text}"}}}}"#
        )
    };
    let check = |own_url: &str, text: &str, expected: Option<&str>| {
        let patient = post("http://a/fhir/Patient/1", PATIENT);
        let known = r#"{"fullUrl":"http://a/fhir/Patient/2","#.to_owned()
            + &put("Patient/2", r#"{"resourceType":"Patient","id":"2"}"#, "")[1..];
        let basic = post(own_url, &reference(text));
        let operations = transaction(&[&patient, &known, &basic]);
        let found = links(&operations[2]);
        assert_eq!(found.first().map(|(text, _)| &**text), expected, "{own_url} {text}");
    };
    let url = "http://a/fhir/Basic/x";
    check(url, "Patient/1", Some("Patient/1"));
    check(url, "http://a/fhir/Patient/1", Some("http://a/fhir/Patient/1"));
    check(A, "http://a/fhir/Patient/1", Some("http://a/fhir/Patient/1"));
    check(url, "Patient/1/_history/4", Some("Patient/1/_history/4"));
    check(url, "Patient/1#part", Some("Patient/1"));
    check(
        url,
        "http://a/fhir/Patient/1/_history/4#part",
        Some("http://a/fhir/Patient/1/_history/4"),
    );
    check(A, "Patient/1", None);
    check("http://b/fhir/Basic/x", "Patient/1", None);
    check(url, "Patient/9", None);
    check(url, "http://b/fhir/Patient/1", None);
    check(url, "Patient/2", None);
    check(url, "Patient/2/_history/3-pac.7h2k4m9qzx", None);
    check(url, "http://a/fhir/Patient/2", Some("http://a/fhir/Patient/2"));
    check(url, "#local", None);
}

#[test]
fn a_resource_keeps_its_own_canonical_url() {
    let url = "http://a/fhir/ValueSet/1";
    let set = format!(r#"{{"resourceType":"ValueSet","status":"draft","url":"{url}"}}"#);
    let operations = transaction(&[&post(url, &set)]);
    assert_eq!(links(&operations[0]), []);
}

#[test]
fn conditional_references_are_criteria() {
    let basic = r#"{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"Patient?identifier=a|1"}}"#;
    let operations = transaction(&[&post(A, basic)]);
    let criteria = Criteria::parse("Patient".parse().unwrap(), "identifier=a|1").unwrap();
    let expected = ("Patient?identifier=a|1".to_owned(), LinkTarget::Match(criteria));
    assert_eq!(links(&operations[0]), [expected]);

    let bad = basic.replace("identifier=a|1", "phone=%1");
    check_refused(&[&post(A, &bad)], "Bundle.entry[0].resource.subject.reference", "%1");
}

#[test]
fn requests_become_operations() {
    let one = |entry: &str| transaction(&[entry]).remove(0);
    let key = ResourceKey { kind: "Patient".parse().unwrap(), id: "1".parse().unwrap() };
    let kind = key.kind;
    let found = |query: &str| Criteria::parse(kind, query).unwrap();
    let with_id = r#"{"resourceType":"Patient","id":"1"}"#;
    let tags =
        |tags: &[&str]| Precondition::Match(tags.iter().map(|t| EntityTag((*t).into())).collect());

    let unless = format!(
        r#"{{"resource":{PATIENT},"request":{{"method":"POST","url":"Patient","ifNoneExist":"identifier=a|1"}}}}"#
    );
    assert!(
        matches!(one(&unless), Operation::Create { unless: Some(c), .. } if c == found("identifier=a|1"))
    );
    for (more, expected) in [
        ("", Precondition::None),
        (r#","ifMatch":"W/\"1\", \"2\"""#, tags(&["1", "2"])),
        (r#","ifMatch":"*""#, Precondition::Exists),
        (r#","ifNoneMatch":"*""#, Precondition::Absent),
    ] {
        let operation = one(&put("Patient/1", with_id, more));
        let Operation::Update { key: found, precondition, .. } = operation else {
            panic!("{more}")
        };
        assert_eq!((found, precondition), (key.clone(), expected), "{more}");
    }
    let put_where = put("Patient?identifier=a|1", PATIENT, "");
    assert!(
        matches!(one(&put_where), Operation::UpdateWhere { criteria, .. } if criteria == found("identifier=a|1"))
    );
    let delete = Operation::Delete { key: key.clone(), precondition: Precondition::None };
    assert_eq!(one(&request("DELETE", "Patient/1", "")), delete);
    let delete_where = Operation::DeleteWhere { criteria: found("_id=1") };
    assert_eq!(one(&request("DELETE", "Patient?_id=1", "")), delete_where);
    assert_eq!(one(&request("GET", "Patient/1", "")), Operation::Read { key });
}

#[test]
fn entries_that_cannot_be_carried_out_are_named() {
    let with_id = r#"{"resourceType":"Patient","id":"1"}"#;
    let at = "Bundle.entry[0].request";
    for (entry, part) in [
        (put("Patient/2", with_id, ""), "the resource 1"),
        (put("Patient/1", PATIENT, ""), "the resource none"),
        (put("Group/1", with_id, ""), "the resource is a Patient"),
        (put("Patient", with_id, ""), "does not go with the URL"),
        (put("Patient/1", with_id, r#","ifMatch":"\"1""#), "ifMatch must be"),
        (put("Patient/1", with_id, r#","ifNoneExist":"_id=1""#), "does not go with PUT"),
        (put("Patient?phone=%1", PATIENT, ""), "%1"),
        (put("http://a/fhir/Patient/1", with_id, ""), "relative"),
        (put("Patient/a_b", with_id, ""), "not a resource id"),
        (put("Patients/1", with_id, ""), "not a resource type"),
        (put("Patient/1/2/3/4", with_id, ""), "leads nowhere"),
        (request("POST", "Patient", ""), "must have a resource"),
        (request("POST", "Patient/1/$everything", ""), "not supported"),
        (request("PATCH", "Patient/1", ""), "a PATCH needs a Binary that holds a patch"),
        (request("HEAD", "Patient/1", ""), "HEAD within a bundle is not supported"),
        (request("DELETE", "Patient", ""), "does not go with the URL"),
        (request("DELETE", "Patient?_id=1", r#","ifMatch":"\"1\"""#), "conditional delete"),
    ] {
        check_refused(&[&entry], at, part);
    }
    for url in ["Patient/1/_history", "Patient?name=x", "metadata", "Patient/1/$everything"] {
        check_refused(&[&request("GET", url, "")], "Bundle.entry[0]", "no versions");
    }
    check_refused(
        &[&format!(r#"{{"resource":{PATIENT}}}"#)],
        "Bundle.entry[0].request",
        "must have a request",
    );
    check_refused(&[&post("Patient/1", PATIENT)], "Bundle.entry[0]", "absolute");
    check_refused(&[PATIENT], "Bundle.entry[0].resourceType", "not an element");
    let invalid = r#"{"resourceType":"Patient","active":7}"#;
    check_refused(
        &[&post(A, PATIENT), &post(B, invalid)],
        "Bundle.entry[1].resource.active",
        "boolean",
    );
}

#[test]
fn entries_must_not_collide_nor_refer_to_nothing() {
    let with_id = r#"{"resourceType":"Patient","id":"1"}"#;
    check_refused(
        &[&post(A, PATIENT), &post(A, PATIENT)],
        "Bundle.entry[1]",
        "Bundle.entry[0] has the fullUrl",
    );
    check_refused(
        &[&put("Patient/1", with_id, ""), &request("DELETE", "Patient/1", "")],
        "Bundle.entry[1]",
        "Patient/1 is written by Bundle.entry[0] too",
    );
    let basic =
        r#"{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"urn:uuid:x"}}"#;
    check_refused(&[&post(A, basic)], "Bundle.entry[0].resource.subject.reference", "urn:uuid:x");
    let deleted =
        format!(r#"{{"fullUrl":"urn:uuid:x",{}"#, &request("DELETE", "Patient/1", "")[1..]);
    check_refused(
        &[&post(A, basic), &deleted],
        "Bundle.entry[0].resource.subject.reference",
        "no entry that writes",
    );
    transaction(&[&put("Patient/1", with_id, ""), &request("GET", "Patient/1", "")]);
}

#[test]
fn a_bundle_that_is_written_resolves_its_own_references() {
    let inner =
        r#"{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"urn:uuid:x"}}"#;
    let document = format!(
        r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"fullUrl":"{A}","resource":{inner}}}]}}"#
    );
    let entry = post("urn:uuid:2f0f65c7-6c5b-4a4e-8f4e-0d8f2b0a1c11", &document);

    let operations = transaction(&[&post(A, PATIENT), &entry]);

    let draft = operations[1].draft().expect("a Bundle is written");
    assert_eq!(draft.links, []);
}

#[test]
fn the_bundle_itself_must_be_right() {
    let check = |text: &str, path: &str| {
        let invalid = PostedBundle::parse(text.as_bytes()).expect_err(text);
        assert_eq!(invalid.problems()[0].path, path, "{invalid}");
    };
    check("{", "");
    check(r#"{"resourceType":"Patient"}"#, "Patient");
    check(r#"{"resourceType":"Bundle"}"#, "Bundle.type");
    check(r#"{"resourceType":"Bundle","type":"collection"}"#, "Bundle.type");
    check(r#"{"resourceType":"Bundle","type":"batch","entry":[]}"#, "Bundle.entry");
    check(r#"{"resourceType":"Bundle","type":"batch","entries":[]}"#, "Bundle.entries");
    assert_eq!(bundle("transaction", &[]), Ok(PostedBundle::Transaction(Vec::new())));
    assert_eq!(bundle("batch", &[]), Ok(PostedBundle::Batch(Vec::new())));

    let many = vec!["{}"; limits::MAX_BUNDLE_ENTRIES + 1].join(",");
    let text = format!(r#"{{"resourceType":"Bundle","type":"batch","entry":[{many}]}}"#);
    let invalid = PostedBundle::parse(text.as_bytes()).expect_err("it has too many entries");
    assert!(invalid.is_too_much());
}

#[test]
fn the_entries_of_a_batch_stand_each_for_itself() {
    let basic = format!(
        r#"{{"resourceType":"Basic","code":{{"text":"x"}},"subject":{{"reference":"{A}"}}}}"#
    );
    let cached = r#","ifNoneMatch":"W/\"1\"","ifModifiedSince":"2026-11-21T20:00:00Z""#;
    let Ok(PostedBundle::Batch(entries)) = bundle(
        "batch",
        &[
            &post(A, PATIENT),
            &post(A, &basic),
            &request("GET", "Patient/1", cached),
            &request("GET", "Patient/1/_history/2", ""),
            &request("GET", "Patient/1/_history", ""),
            &request("PATCH", "Patient/1", ""),
            &post(B, r#"{"resourceType":"Patient","active":7}"#),
        ],
    ) else {
        panic!("a batch is taken whatever its entries are")
    };

    let key = ResourceKey { kind: "Patient".parse().unwrap(), id: "1".parse().unwrap() };
    let read = |what, tag: Option<&str>, since: Option<&str>| {
        Ok(BatchEntry::Read(BundledRead {
            what,
            if_none_match: tag.map(str::to_owned),
            if_modified_since: since.map(str::to_owned),
        }))
    };
    let written = |entry: &Result<BatchEntry, Invalid>| match entry {
        Ok(BatchEntry::Write(write)) => operation(write.clone()),
        other => panic!("{other:?}"),
    };
    assert!(matches!(written(&entries[0]), Operation::Create { .. }));
    let operation = &written(&entries[1]);
    assert_eq!(links(operation), [], "entries of a batch do not know each other");
    let current = ReadTarget::Resource(key.clone());
    assert_eq!(entries[2], read(current, Some("W/\"1\""), Some("2026-11-21T20:00:00Z")));
    assert_eq!(entries[3], read(ReadTarget::Version(key.clone(), "2".into()), None, None));
    assert_eq!(entries[4], read(ReadTarget::History(key), None, None));
    assert_eq!(entries[5].as_ref().unwrap_err().problems()[0].sort, ProblemSort::Required);
    assert_eq!(
        entries[6].as_ref().unwrap_err().problems()[0].path,
        "Bundle.entry[6].resource.active"
    );
}

#[test]
fn a_patch_comes_in_a_binary_or_as_a_parameters_resource() {
    let patch = |url: &str, resource: &str, more: &str| {
        format!(r#"{{"resource":{resource},"request":{{"method":"PATCH","url":"{url}"{more}}}}}"#)
    };
    let binary = |kind: &str, text: &str| {
        let data = BASE64.encode(text);
        format!(r#"{{"resourceType":"Binary","contentType":"{kind}","data":"{data}"}}"#)
    };
    let steps = r#"[{"op":"remove","path":"/active"}]"#;
    let parameters = concat!(
        r#"{"resourceType":"Parameters","parameter":[{"name":"operation","part":["#,
        r#"{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Patient.active"}]}]}"#
    );
    let key = ResourceKey { kind: "Patient".parse().unwrap(), id: "1".parse().unwrap() };
    let resource = PatchTarget::Resource(key);
    let criteria = Criteria::parse("Patient".parse().unwrap(), "identifier=a").unwrap();
    let tags = Precondition::Match(EntityTag::list("W/\"3\"").unwrap());
    for (entry, expected) in [
        (
            patch("Patient/1", &binary("application/json-patch+json", steps), ""),
            (resource.clone(), Patch::json(steps.as_bytes()), Precondition::None),
        ),
        (
            patch(
                "Patient/1",
                &binary("application/merge-patch+json", "{}"),
                r#","ifMatch":"W/\"3\"""#,
            ),
            (resource, Patch::merge(b"{}"), tags),
        ),
        (
            patch("Patient?identifier=a", parameters, ""),
            (PatchTarget::Match(criteria), Patch::any(parameters.as_bytes()), Precondition::None),
        ),
    ] {
        let Ok(PostedBundle::Transaction(writes)) = bundle("transaction", &[&entry]) else {
            panic!("{entry}: {:?}", bundle("transaction", &[&entry]))
        };
        let (target, patch, precondition) = expected;
        let expected = PatchRequest { target, patch: patch.unwrap(), precondition };
        assert_eq!(writes, [BundledWrite::Patch(expected)], "{entry}");
    }
    let at = "Bundle.entry[0].request";
    check_refused(&[&patch("Patient/1", &binary("text/plain", "x"), "")], at, "a patch of type");
    check_refused(
        &[&patch("Patient/1", &binary("application/json-patch+json", "x"), "")],
        at,
        "line 1",
    );
    check_refused(&[&patch("Patient/1", PATIENT, "")], at, "a PATCH needs a Binary");
    let named = format!(r#"[{{"op":"add","path":"/x","value":"{A}"}}]"#);
    let named = patch("Patient/1", &binary("application/json-patch+json", &named), "");
    check_refused(&[&named, &post(A, PATIENT)], "Bundle.entry[0]", "cannot refer to another entry");
    let once = patch("Patient/1", &binary("application/json-patch+json", steps), "");
    check_refused(&[&once, &request("DELETE", "Patient/1", "")], "Bundle.entry[1]", "too");
}
