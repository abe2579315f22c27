//! This module tests what is kept of a resource, and how it is rendered.

use super::*;

fn parsed(text: &str) -> Resource {
    Resource::parse(text.as_bytes()).expect("it is valid")
}

/// What is stored of a resource: the members of its meta, and the others.
fn check(text: &str, meta: &str, body: &str) {
    let resource = parsed(text);
    let (found_meta, found_body) = resource.content().split_at(resource.meta_len());
    assert_eq!(std::str::from_utf8(found_meta), Ok(meta), "{text}");
    assert_eq!(std::str::from_utf8(found_body), Ok(body), "{text}");
}

#[test]
fn what_the_server_sets_is_left_out_and_the_rest_kept_to_the_letter() {
    check(r#"{"resourceType":"Patient"}"#, "", "");
    check(r#"{"active":true,"resourceType":"Patient","id":"1"}"#, "", r#""active":true"#);
    check(
        r#"{ "resourceType" : "Observation", "meta" : { "versionId" : "7", "source" : "urn:x",
            "lastUpdated" : "2026-11-21T20:00:00Z", "_lastUpdated" : { "id" : "a" } },
            "status" : "final", "code" : { "text" : "\u00e4\/" },
            "valueQuantity" : { "value" : 1.50e+2 } }"#,
        r#""source":"urn:x""#,
        r#""status":"final","code":{"text":"\u00e4\/"},"valueQuantity":{"value":1.50e+2}"#,
    );
}

#[test]
fn the_tag_of_a_conflict_is_taken_off() {
    let tagged = |tags: &str| {
        format!(r#"{{"resourceType":"Patient","meta":{{"source":"urn:x","tag":[{tags}]}}}}"#)
    };
    let ours = r#"{"system":"urn:chartmesh","code":"conflict"}"#;
    let other = r#"{"system":"urn:chartmesh","code":"other"}"#;
    check(&tagged(ours), r#""source":"urn:x""#, "");
    check(&tagged(other), &format!(r#""source":"urn:x","tag":[{other}]"#), "");
    check(
        &tagged(&format!("{other}, {ours} ,{other}")),
        &format!(r#""source":"urn:x","tag":[{other},{other}]"#),
        "",
    );
}

#[test]
fn what_is_rendered_reads_as_the_same_resource() {
    let resource = parsed(
        r#"{"resourceType":"Patient","id":"a","meta":{"source":"urn:x"},"birthDate":"1970-01-01"}"#,
    );
    let key = ResourceKey { kind: resource.kind(), id: "b".parse().unwrap() };
    let version: VersionId = "3-pac.7h2k4m9qzx".parse().unwrap();

    let rendered = resource.render(&key, &version, Timestamp(0));

    let expected = r#"{"resourceType":"Patient","id":"b","meta":{"versionId":"3-pac.7h2k4m9qzx","lastUpdated":"1970-01-01T00:00:00.000Z","source":"urn:x"},"birthDate":"1970-01-01"}"#;
    assert_eq!(rendered, expected);
    let again = Resource::parse(&rendered).expect("what is rendered is valid");
    assert_eq!(again.content(), resource.content());
    assert_eq!(again.id(), Some(&key.id));
}

#[test]
fn the_deepest_nesting_fits_a_small_stack() {
    let nest = |open: &str, close: &str, core: &str, levels: usize| {
        format!("{}{core}{}", open.repeat(levels), close.repeat(levels))
    };
    let bundle = nest(
        r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":"#,
        "}]}",
        r#"{"resourceType":"Patient","active":true}"#,
        20,
    );
    let parameters = nest(
        r#"{"resourceType":"Parameters","parameter":[{"name":"a","resource":"#,
        "}]}",
        r#"{"resourceType":"Patient","active":true}"#,
        20,
    );
    let extensions = format!(
        r#"{{"resourceType":"Patient","extension":{}}}"#,
        nest(r#"[{"url":"u","extension":"#, "}]", r#"[{"url":"u","valueId":"i"}]"#, 30)
    );
    let items = format!(
        r#"{{"resourceType":"Questionnaire","status":"draft","item":{}}}"#,
        nest(
            r#"[{"linkId":"a","type":"group","item":"#,
            "}]",
            r#"[{"linkId":"a","type":"display"}]"#,
            30
        )
    );
    let parse = move || {
        for text in [bundle, parameters, extensions, items] {
            if let Err(invalid) = Resource::parse(text.as_bytes()) {
                panic!("{}: {invalid}", &text[..40]);
            }
        }
    };
    let small = std::thread::Builder::new().stack_size(1024 * 1024).spawn(parse);
    small.expect("a thread can be started").join().expect("nothing overflows");
}
