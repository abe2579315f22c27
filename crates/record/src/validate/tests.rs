//! This module tests validation, rule by rule.

use super::*;
use crate::json::Document;

/// The problems of a resource, as `path: code`.
fn problems(resource: &str) -> Vec<String> {
    let document = Document::parse(resource.as_bytes()).expect("it is JSON");
    let mut validator = Validator::new();
    validator.resource(document.root());
    match validator.finish() {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid
            .problems()
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.sort.code()))
            .collect(),
    }
}

/// A patient with these members, and the problems they make.
fn check(members: &str, expected: &[&str]) {
    let resource = format!(r#"{{"resourceType":"Patient",{members}}}"#);
    assert_eq!(problems(&resource), expected, "{members}");
}

#[test]
fn elements_must_be_known_and_of_their_json_type() {
    check(r#""active":true"#, &[]);
    check(r#""colour":"red""#, &["Patient.colour: structure"]);
    check(r#""active":"true""#, &["Patient.active: structure"]);
    check(r#""active":null"#, &["Patient.active: structure"]);
    check(r#""active":[true]"#, &["Patient.active: structure"]);
    check(r#""name":{"family":"a"}"#, &["Patient.name: structure"]);
    check(r#""name":["a"]"#, &["Patient.name[0]: structure"]);
    check(r#""name":[]"#, &["Patient.name: structure"]);
    check(r#""name":[{}]"#, &["Patient.name[0]: structure"]);
    check(r#""name":[{"id":"x"}]"#, &["Patient.name[0]: structure"]);
    check(r#""name":[{"given":["a",7]}]"#, &["Patient.name[0].given[1]: structure"]);
    check(r#""multipleBirthInteger":1.5"#, &["Patient.multipleBirthInteger: value"]);
    check(r#""birthDate":"2025-02-29""#, &["Patient.birthDate: value"]);
    check(r#""gender":"Female""#, &["Patient.gender: code-invalid"]);
    check(r#""id":"a_b""#, &["Patient.id: value"]);
    check(r#""_id":{"extension":[]}"#, &["Patient._id: structure"]);
    check(r#""resource":{}"#, &["Patient.resource: structure"]);
}

#[test]
fn resources_must_say_a_type_that_r4_has() {
    assert_eq!(problems("[]"), [": structure"]);
    assert_eq!(problems("{}"), ["resourceType: required"]);
    assert_eq!(problems(r#"{"resourceType":1}"#), ["resourceType: structure"]);
    assert_eq!(problems(r#"{"resourceType":"patient"}"#), ["patient.resourceType: value"]);
    assert_eq!(problems(r#"{"resourceType":"DomainResource"}"#).len(), 1);
    assert_eq!(problems(r#"{"resourceType":"Patient"}"#), [""; 0]);
}

#[test]
fn required_elements_must_be_there_by_value_or_extension() {
    let observation =
        |status: &str| format!(r#"{{"resourceType":"Observation",{status}"code":{{"text":"x"}}}}"#);
    assert_eq!(problems(&observation(r#""status":"final","#)), [""; 0]);
    assert_eq!(problems(&observation("")), ["Observation.status: required"]);
    let by_extension = r#""_status":{"extension":[{"url":"urn:x","valueCode":"unknown"}]},"#;
    assert_eq!(problems(&observation(by_extension)), [""; 0]);
    check(
        r#""link":[{"other":{"reference":"Patient/1"}},{"type":"refer"}]"#,
        &["Patient.link[0].type: required", "Patient.link[1].other: required"],
    );
}

#[test]
fn of_a_choice_one_type_may_be_there() {
    check(r#""deceasedBoolean":true"#, &[]);
    check(r#""deceasedBoolean":true,"_deceasedBoolean":{"id":"a"}"#, &[]);
    check(
        r#""deceasedBoolean":true,"deceasedDateTime":"2026""#,
        &["Patient.deceasedDateTime: structure"],
    );
    check(
        r#""deceasedBoolean":true,"_deceasedDateTime":{"id":"a"}"#,
        &["Patient._deceasedDateTime: structure", "Patient._deceasedDateTime: structure"],
    );
    check(r#""deceasedString":"yes""#, &["Patient.deceasedString: structure"]);
}

#[test]
fn repeating_values_and_their_extensions_stand_side_by_side() {
    let extension = r#"{"extension":[{"url":"urn:x","valueString":"y"}]}"#;
    let given = |values: &str, siblings: &str| {
        format!(r#""name":[{{"given":{values},"_given":{siblings}}}]"#)
    };
    check(&given(r#"["a",null]"#, &format!("[null,{extension}]")), &[]);
    check(&given(r#"["a"]"#, &format!("[{extension}]")), &[]);
    check(&given(r#"["a"]"#, r#"[{"id":"x"}]"#), &[]);
    check(&given(r#"["a","b"]"#, "[null,null]"), &[]);
    check(&given(r#"["a",null]"#, "[null,null]"), &["Patient.name[0]._given[1]: structure"]);
    check(
        &given(r#"["a",null,null]"#, &format!("[null,{extension}]")),
        &["Patient.name[0].given[2]: structure"],
    );
    check(&given(r#"[null]"#, r#"[{"id":"x"}]"#), &["Patient.name[0]._given[0]: structure"]);
    check(&given(r#"["a"]"#, extension), &["Patient.name[0]._given: structure"]);
    check(r#""name":[{"given":["a",null]}]"#, &["Patient.name[0].given[1]: structure"]);
    check(&format!(r#""name":[{{"_given":[{extension}]}}]"#), &[]);
    check(&format!(r#""_birthDate":{extension}"#), &[]);
    check(r#""_birthDate":{"id":"x"}"#, &["Patient._birthDate: structure"]);
    check(r#""_birthDate":{}"#, &["Patient._birthDate: structure"]);
    check(r#""_birthDate":{"value":"x"}"#, &["Patient._birthDate.value: structure"]);
}

#[test]
fn extensions_have_a_url_and_either_a_value_or_extensions() {
    let extension = |content: &str| format!(r#""extension":[{{{content}}}]"#);
    check(&extension(r#""url":"urn:x","valueString":"y""#), &[]);
    check(&extension(r#""url":"urn:x","extension":[{"url":"y","valueId":"z"}]"#), &[]);
    check(
        &extension(r#""url":"urn:x","_valueString":{"extension":[{"url":"u","valueId":"i"}]}"#),
        &[],
    );
    check(&extension(r#""url":"urn:x""#), &["Patient.extension[0]: invariant"]);
    check(&extension(r#""valueString":"y""#), &["Patient.extension[0].url: required"]);
    check(&extension(r#""url":"a b","valueString":"y""#), &["Patient.extension[0].url: value"]);
    check(
        &extension(r#""url":"x","valueId":"y","extension":[{"url":"z","valueId":"i"}]"#),
        &["Patient.extension[0]: invariant"],
    );
    check(
        &extension(r#""url":"x","valueId":"y","valueCode":"z""#),
        &["Patient.extension[0].valueCode: structure"],
    );
}

#[test]
fn resources_within_are_checked_and_contain_none() {
    let contained = |resource: &str| format!(r#""contained":[{resource}]"#);
    check(&contained(r#"{"resourceType":"Basic","code":{"text":"x"}}"#), &[]);
    check(&contained(r#"{"resourceType":"Basic"}"#), &["Patient.contained[0].code: required"]);
    check(
        &contained(r#"{"resourceType":"Patient","active":1}"#),
        &["Patient.contained[0].active: structure"],
    );
    check(&contained("{}"), &["Patient.contained[0].resourceType: required"]);
    check(
        &contained(&format!(
            r#"{{"resourceType":"Patient",{}}}"#,
            contained(r#"{"resourceType":"Patient"}"#)
        )),
        &["Patient.contained[0].contained: invariant"],
    );
    check(
        &contained(r#"{"resourceType":"Patient","meta":{"versionId":"1"}}"#),
        &["Patient.contained[0].meta.versionId: invariant"],
    );
    let parameters = r#"{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Patient","x":1}}]}"#;
    assert_eq!(problems(parameters), ["Parameters.parameter[0].resource.x: structure"]);
}

#[test]
fn narratives_and_code_systems_keep_to_their_rules() {
    let text = |div: &str| format!(r#""text":{{"status":"generated","div":"{div}"}}"#);
    check(&text("<div xmlns=\\\"http://www.w3.org/1999/xhtml\\\">a</div>"), &[]);
    check(&text("<div>a</div>"), &["Patient.text.div: value"]);
    check(r#""text":{"status":"generated"}"#, &["Patient.text.div: required"]);
    check(r#""maritalStatus":{"coding":[{"system":"urn:oid:1.2","code":"M"}]}"#, &[]);
    check(
        r#""maritalStatus":{"coding":[{"system":"Location!","code":"M"}]}"#,
        &["Patient.maritalStatus.coding[0].system: value"],
    );
}

#[test]
fn problems_are_placed_and_bounded() {
    let document =
        Document::parse(b"{\n \"resourceType\": \"Patient\",\n  \"active\": 1\n}").unwrap();
    let mut validator = Validator::new();
    validator.resource(document.root());
    let invalid = validator.finish().expect_err("active is no number");
    assert_eq!(invalid.problems()[0].place, Some((3, 13)));

    let names = vec!["1"; 100].join(",");
    let resource = format!(r#"{{"resourceType":"Patient","name":[{names}]}}"#);
    assert_eq!(problems(&resource).len(), limits::MAX_PROBLEMS);
}
