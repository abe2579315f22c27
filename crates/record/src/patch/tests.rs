//! This module tests patches, on a made-up resource.

use proptest::prelude::*;

use super::*;

const PATIENT: &str = concat!(
    r#"{"resourceType":"Patient","id":"1","active":true,"#,
    r#""name":[{"use":"official","family":"Muster","given":["Eva","Ada"],"_given":[null,{"id":"g"}]},"#,
    r#"{"use":"nickname","given":["Evi"]}],"gender":"female","birthDate":"1970-01-01","#,
    r#""_birthDate":{"id":"b"},"deceasedBoolean":false,"#,
    r#""identifier":[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"2"}],"#,
    r#""contact":[{"name":{"text":"x"}}],"multipleBirthInteger":2}"#,
);

fn patient() -> ResourceType {
    "Patient".parse().expect("a type")
}

fn applied(patch: Result<Patch, Invalid>) -> Result<String, String> {
    let patch = patch.map_err(|invalid| format!("malformed: {invalid}"))?;
    let patched = patch.apply(patient(), PATIENT.as_bytes()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(patched.to_vec()).expect("JSON is UTF-8"))
}

/// The whole resource with these parts replaced.
fn with(changes: &[(&str, &str)]) -> Result<String, String> {
    let replaced = changes.iter().fold(PATIENT.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    Ok(replaced)
}

#[test]
fn a_json_patch_does_what_its_operations_say_and_leaves_the_rest_to_the_letter() {
    let json = |text: &str| applied(Patch::json(text.as_bytes()));
    assert_eq!(json("[]"), with(&[]));
    assert_eq!(
        json(r#"[{"op":"replace","path":"/gender","value":"other"}]"#),
        with(&[("\"female\"", "\"other\"")])
    );
    assert_eq!(
        json(r#"[{"op":"test","path":"/active","value":true},{"op":"remove","path":"/active"}]"#),
        with(&[(r#""active":true,"#, "")])
    );
    assert_eq!(
        json(r#"[{"op":"add","path":"/name/1/given/0","value":"Eve\u0041"}]"#),
        with(&[(r#"["Evi"]"#, r#"["Eve\u0041","Evi"]"#)])
    );
    assert_eq!(
        json(r#"[{"op":"add","path":"/name/1/given/-","value":"Z"}]"#),
        with(&[(r#"["Evi"]"#, r#"["Evi","Z"]"#)])
    );
    assert_eq!(
        json(r#"[{"op":"move","from":"/identifier/0","path":"/identifier/1"}]"#),
        with(&[(
            r#"[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"2"}]"#,
            r#"[{"system":"urn:b","value":"2"},{"system":"urn:a","value":"1"}]"#
        )])
    );
    assert_eq!(
        json(r#"[{"op":"copy","from":"/identifier/0","path":"/identifier/-"}]"#),
        with(&[(r#""value":"2"}]"#, r#""value":"2"},{"system":"urn:a","value":"1"}]"#)])
    );
    assert_eq!(
        json(r#"[{"op":"add","path":"/a~1b~0c","value":1.00}]"#),
        with(&[(r#""multipleBirthInteger":2}"#, r#""multipleBirthInteger":2,"a/b~c":1.00}"#)])
    );
    assert_eq!(
        json(r#"[{"op":"test","path":"/multipleBirthInteger","value":2.0}]"#),
        with(&[]),
        "numbers are compared by what they are"
    );
}

#[test]
fn a_json_patch_that_does_not_go_with_the_resource_says_which_operation_and_why() {
    let json = |text: &str| applied(Patch::json(text.as_bytes())).unwrap_err();
    for (patch, reason) in [
        (
            r#"[{"op":"test","path":"/gender","value":"male"}]"#,
            "operation 0: what stands at /gender is not what it is tested to be",
        ),
        (
            r#"[{"op":"remove","path":"/gender"},{"op":"remove","path":"/gender"}]"#,
            "operation 1: there is nothing at /gender",
        ),
        (
            r#"[{"op":"replace","path":"/photo","value":[]}]"#,
            "operation 0: there is nothing at /photo",
        ),
        (
            r#"[{"op":"add","path":"/photo/0","value":{}}]"#,
            "operation 0: there is nothing at /photo",
        ),
        (
            r#"[{"op":"add","path":"/name/3","value":{}}]"#,
            "operation 0: there is nothing at /name/3",
        ),
        (
            r#"[{"op":"add","path":"/name/01","value":{}}]"#,
            "operation 0: there is nothing at /name/01",
        ),
        (r#"[{"op":"remove","path":"/name/-"}]"#, "operation 0: there is nothing at /name/-"),
        (
            r#"[{"op":"add","path":"/gender/x","value":1}]"#,
            "operation 0: there is nothing at /gender/x",
        ),
        (
            r#"[{"op":"move","from":"/name","path":"/name/0"}]"#,
            "operation 0: /name cannot be moved into itself",
        ),
        (r#"[{"op":"remove","path":""}]"#, "operation 0: the resource itself stays"),
    ] {
        assert_eq!(json(patch), reason, "{patch}");
    }
    for malformed in [
        "{}",
        r#"[{"op":"add","path":"/x"}]"#,
        r#"[{"op":"remove","path":"x"}]"#,
        r#"[{"op":"remove","path":"/~2"}]"#,
        r#"[{"op":"move","path":"/x"}]"#,
        r#"[{"op":"none","path":"/x"}]"#,
        "[1]",
        "[",
    ] {
        assert!(json(malformed).starts_with("malformed: "), "{malformed}: {}", json(malformed));
    }
}

#[test]
fn a_patch_that_copies_without_end_is_refused() {
    let copies: Vec<_> = (0..40).map(|_| r#"{"op":"copy","from":"/x","path":"/x/-"}"#).collect();
    let doubling = format!(r#"[{{"op":"add","path":"/x","value":["y"]}},{}]"#, copies.join(","));
    let reason = applied(Patch::json(doubling.as_bytes())).unwrap_err();
    assert!(reason.ends_with("bytes are copied"), "{reason}");
}

#[test]
fn a_merge_patch_puts_members_in_and_takes_null_away() {
    let merge = |text: &str| applied(Patch::merge(text.as_bytes()));
    assert_eq!(merge("{}"), with(&[]));
    assert_eq!(
        merge(r#"{"gender":"other","active":null,"maritalStatus":{"text":"m","id":null}}"#),
        with(&[
            ("\"female\"", "\"other\""),
            (r#""active":true,"#, ""),
            (
                r#""multipleBirthInteger":2}"#,
                r#""multipleBirthInteger":2,"maritalStatus":{"text":"m"}}"#
            ),
        ])
    );
    assert_eq!(
        merge(r#"{"_birthDate":{"extension":[{"url":"u","valueDecimal":1.00}]}}"#),
        with(&[(r#"{"id":"b"}"#, r#"{"id":"b","extension":[{"url":"u","valueDecimal":1.00}]}"#)])
    );
    assert!(merge("[]").unwrap_err().starts_with("malformed"));
}

/// A FHIRPath Patch of one operation.
fn fhir(parts: &str) -> Result<String, String> {
    let text = format!(
        r#"{{"resourceType":"Parameters","parameter":[{{"name":"operation","part":[{parts}]}}]}}"#
    );
    applied(Patch::any(text.as_bytes()))
}

fn part(name: &str, kind: &str, value: &str) -> String {
    format!(r#"{{"name":"{name}","value{kind}":{value}}}"#)
}

fn operation(kind: &str, path: &str, rest: &[String]) -> String {
    let head = [
        part("type", "Code", &format!("\"{kind}\"")),
        part("path", "String", &format!("\"{path}\"")),
    ];
    [&head, rest].concat().join(",")
}

#[test]
fn a_fhirpath_patch_does_what_its_operations_say() {
    let add = |path: &str, name: &str, kind: &str, value: &str| {
        let name = part("name", "String", &format!("\"{name}\""));
        fhir(&operation("add", path, &[name, part("value", kind, value)]))
    };
    let end = r#""multipleBirthInteger":2}"#;
    assert_eq!(
        add("Patient", "maritalStatus", "CodeableConcept", r#"{"text":"m"}"#),
        with(&[(end, r#""multipleBirthInteger":2,"maritalStatus":{"text":"m"}}"#)])
    );
    assert_eq!(
        add("Patient", "identifier", "Identifier", r#"{"value":"3"}"#),
        with(&[(r#""value":"2"}]"#, r#""value":"2"},{"value":"3"}]"#)])
    );
    assert_eq!(
        add("Patient.name.where(use = 'nickname')", "period", "Period", r#"{"start":"2020"}"#),
        with(&[(r#"["Evi"]}"#, r#"["Evi"],"period":{"start":"2020"}}"#)])
    );
    assert_eq!(
        add("Patient.name[0]", "given", "String", "\"Ida\""),
        with(&[(
            r#""Ada"],"_given":[null,{"id":"g"}]"#,
            r#""Ada","Ida"],"_given":[null,{"id":"g"},null]"#
        )])
    );
    let delete = |path: &str| fhir(&operation("delete", path, &[]));
    assert_eq!(
        delete("Patient.birthDate"),
        with(&[(r#""birthDate":"1970-01-01","_birthDate":{"id":"b"},"#, "")])
    );
    assert_eq!(
        delete("Patient.name[0].given[1]"),
        with(&[(r#"["Eva","Ada"],"_given":[null,{"id":"g"}]"#, r#"["Eva"]"#)])
    );
    assert_eq!(
        delete("Patient.contact.name.text"),
        with(&[(r#""contact":[{"name":{"text":"x"}}],"#, "")])
    );
    assert_eq!(delete("Patient.photo"), with(&[]), "what is not there is deleted");
    assert_eq!(delete("Patient.deceased"), with(&[(r#""deceasedBoolean":false,"#, "")]));
}

#[test]
fn a_fhirpath_patch_replaces_inserts_and_moves() {
    let end = r#""multipleBirthInteger":2}"#;
    let replace = |path: &str, kind: &str, value: &str| {
        fhir(&operation("replace", path, &[part("value", kind, value)]))
    };
    assert_eq!(
        replace("Patient.identifier.where(system = 'urn:b').value", "String", "\"9\""),
        with(&[("\"2\"}]", "\"9\"}]")])
    );
    assert_eq!(
        replace("Patient.deceased", "DateTime", "\"2020-01-01\""),
        with(&[
            (r#""deceasedBoolean":false,"#, ""),
            (end, r#""multipleBirthInteger":2,"deceasedDateTime":"2020-01-01"}"#)
        ])
    );
    assert_eq!(
        replace("Patient.name[1].given[0]", "String", "\"E\""),
        with(&[("\"Evi\"", "\"E\"")])
    );
    let index = part("index", "Integer", "1");
    let inserted = fhir(&operation(
        "insert",
        "Patient.name[0].given",
        &[index, part("value", "String", "\"I\"")],
    ));
    assert_eq!(
        inserted,
        with(&[(
            r#"["Eva","Ada"],"_given":[null,{"id":"g"}]"#,
            r#"["Eva","I","Ada"],"_given":[null,null,{"id":"g"}]"#
        )])
    );
    let places = [part("source", "Integer", "1"), part("destination", "Integer", "0")];
    assert_eq!(
        fhir(&operation("move", "Patient.identifier", &places)),
        with(&[(
            r#"[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"2"}]"#,
            r#"[{"system":"urn:b","value":"2"},{"system":"urn:a","value":"1"}]"#
        )])
    );
    let value = r#"{"name":"value","part":[{"name":"name","valueHumanName":{"text":"y"}},{"name":"telecom","valueContactPoint":{"value":"1"}},{"name":"telecom","valueContactPoint":{"value":"2"}}]}"#;
    let name = part("name", "String", "\"contact\"");
    assert_eq!(
        fhir(&operation("add", "Patient", &[name, value.to_owned()])),
        with(&[(
            r#"{"text":"x"}}]"#,
            r#"{"text":"x"}},{"name":{"text":"y"},"telecom":[{"value":"1"},{"value":"2"}]}]"#
        )])
    );
}

#[test]
fn a_fhirpath_patch_that_does_not_go_with_the_resource_says_why() {
    let value = part("value", "String", "\"x\"");
    let name = |name: &str| part("name", "String", &format!("\"{name}\""));
    for (operation, reason) in [
        (
            operation("replace", "Patient.photo", std::slice::from_ref(&value)),
            "operation 0: the path leads to nothing",
        ),
        (
            operation("replace", "Patient.identifier.value", std::slice::from_ref(&value)),
            "operation 0: the path leads to 2 elements, not to one",
        ),
        (
            operation("delete", "Patient.identifier", &[]),
            "operation 0: the path leads to 2 elements",
        ),
        (
            operation("delete", "Observation.status", &[]),
            "operation 0: the path is one of Observation, the resource is a Patient",
        ),
        (
            operation("add", "Patient", &[name("gender"), value.clone()]),
            "operation 0: gender is there already: replace it instead",
        ),
        (
            operation("add", "Patient", &[name("nonsense"), value.clone()]),
            "operation 0: there is no element \"nonsense\"",
        ),
        (
            operation("add", "Patient", &[name("deceased"), value.clone()]),
            "operation 0: deceased cannot be of type String",
        ),
        (
            operation(
                "insert",
                "Patient.name[0].given",
                &[part("index", "Integer", "3"), value.clone()],
            ),
            "operation 0: given has 2 items: there is no place 3",
        ),
        (
            operation(
                "move",
                "Patient.identifier",
                &[part("source", "Integer", "2"), part("destination", "Integer", "0")],
            ),
            "operation 0: identifier has no such places",
        ),
    ] {
        assert_eq!(fhir(&operation), Err(reason.to_owned()), "{operation}");
    }
    for operation in [
        operation("paint", "Patient", &[]),
        operation("add", "Patient", std::slice::from_ref(&value)),
        operation("delete", "Patient.name.iif(true)", &[]),
        operation("delete", "Patient.name.where(use = )", &[]),
        operation("delete", "Patient.", &[]),
        operation("delete", "Patient.name.exists()", &[]),
        part("type", "Code", "\"delete\""),
    ] {
        let reason = fhir(&operation).unwrap_err();
        assert!(reason.starts_with("malformed"), "{operation}: {reason}");
    }
}

#[test]
fn a_path_leads_where_its_steps_say() {
    let deleted = |path: &str| fhir(&operation("delete", path, &[]));
    let urn_b = with(&[(r#",{"system":"urn:b","value":"2"}"#, "")]);
    for path in [
        "Patient.identifier.last()",
        "identifier[1]",
        "Patient.identifier.skip(1)",
        "Patient.identifier.tail()",
        "Patient.identifier.where(value='2' and system != 'urn:a')",
        "Patient.identifier.where(value='3' or (system = 'urn:b'))",
        "Patient.identifier.where((system = 'urn:a').not())",
        "Patient.identifier.where(system.startsWith('urn:') and value.endsWith('2')).single()",
        "Resource.identifier.where(system.contains('b'))",
        "Patient.identifier.where(use.empty() and value.exists()).skip(1)",
    ] {
        assert_eq!(deleted(path), urn_b, "{path}");
    }
    assert_eq!(
        deleted("Patient.multipleBirth.ofType(integer)"),
        with(&[(r#","multipleBirthInteger":2"#, "")])
    );
    assert_eq!(deleted("Patient.multipleBirth.ofType(boolean)"), with(&[]));
    assert_eq!(
        deleted("Patient.name.where($this.given = 'Evi')"),
        with(&[(r#",{"use":"nickname","given":["Evi"]}"#, "")])
    );
}

#[test]
fn meta_is_added_to_and_taken_from_by_what_is_the_same() {
    let meta = |adds, meta: &str, stored: &str| {
        let parameters = format!(
            r#"{{"resourceType":"Parameters","parameter":[{{"name":"meta","valueMeta":{meta}}}]}}"#
        );
        let patch = Patch::meta(adds, parameters.as_bytes()).expect("a patch");
        let patched = patch.apply(patient(), stored.as_bytes()).expect("it is applied");
        String::from_utf8(patched.to_vec()).expect("JSON is UTF-8")
    };
    let stored = r#"{"resourceType":"Patient","meta":{"profile":["p"],"tag":[{"system":"urn:s","code":"c","display":"d"}]}}"#;
    let added = meta(
        true,
        r#"{"profile":["q","p"],"tag":[{"system":"urn:s","code":"c"},{"code":"c"}]}"#,
        stored,
    );
    assert!(
        added.contains(
            r#""profile":["p","q"],"tag":[{"system":"urn:s","code":"c","display":"d"},{"code":"c"}]"#
        ),
        "{added}"
    );
    let taken = meta(false, r#"{"profile":["p"],"tag":[{"system":"urn:s","code":"c"}]}"#, stored);
    assert_eq!(taken, r#"{"resourceType":"Patient","meta":{}}"#);
    let first = meta(true, r#"{"security":[{"code":"R"}]}"#, r#"{"resourceType":"Patient"}"#);
    assert_eq!(first, r#"{"resourceType":"Patient","meta":{"security":[{"code":"R"}]}}"#);
    assert!(Patch::meta(true, br#"{"resourceType":"Parameters"}"#).is_err());
}

#[test]
fn any_reads_whichever_patch_it_is() {
    let any = |text: &str| Patch::any(text.as_bytes()).expect("a patch").0;
    assert!(matches!(any("[]"), Sort::Json(_)));
    assert!(matches!(any(r#"{"gender":"male"}"#), Sort::Merge(_)));
    let parameters = format!(
        r#"{{"resourceType":"Parameters","parameter":[{{"name":"operation","part":[{}]}}]}}"#,
        operation("delete", "Patient.name", &[])
    );
    assert!(matches!(any(&parameters), Sort::Fhir(_)));
    assert!(Patch::any(b"1").is_err());
}

proptest! {
    #[test]
    fn whatever_is_sent_as_a_patch_is_answered(
        text in r#"[\[\]{}":,a-z/0-9~ -]{0,60}"#,
        path in r"(Patient\.)?[a-zA-Z.()\[\]0-9=' $@`]{0,40}",
    ) {
        let _ = applied(Patch::any(text.as_bytes()));
        let _ = fhirpath::Path::parse(&path);
        let path = path.replace('"', "");
        let _ = fhir(&operation("delete", &path, &[]));
    }

    #[test]
    fn json_patch_operations_on_any_place_are_answered(
        steps in prop::collection::vec((0..6_usize, "(/(name|given|0|1|-|use|x)){0,4}", "(/(name|given|0|1|-)){0,4}"), 0..8),
    ) {
        let steps = steps.into_iter().map(|(op, path, from)| {
            let op = ["add", "remove", "replace", "move", "copy", "test"][op];
            format!(r#"{{"op":"{op}","path":"{path}","from":"{from}","value":[1]}}"#)
        });
        let text = format!("[{}]", steps.collect::<Vec<_>>().join(","));
        if let Ok(patched) = applied(Patch::json(text.as_bytes())) {
            prop_assert!(Document::parse(patched.as_bytes()).is_ok(), "{patched}");
        }
    }
}
