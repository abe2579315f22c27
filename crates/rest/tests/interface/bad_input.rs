//! Bad input: each line is refused with an OperationOutcome that names the place and the reason.

use serde_json::Value;

use crate::client::Reply;
use crate::node::Node;

/// A request, and what is expected of its refusal.
struct Bad {
    line: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    status: u16,
    /// Part of the issue's expression or of its diagnostics; empty: it names none.
    place: &'static str,
    /// Part of the reason.
    reason: &'static str,
}

const fn bad(line: &'static str, status: u16, reason: &'static str) -> Bad {
    Bad { line, headers: &[], body: b"", status, place: "", reason }
}

const fn body(body: &'static str, place: &'static str, reason: &'static str) -> Bad {
    let line = "PUT /fhir/Patient/p1";
    Bad { body: body.as_bytes(), place, ..bad(line, 400, reason) }
}

const fn with(bad: Bad, headers: &'static [(&'static str, &'static str)]) -> Bad {
    Bad { headers, ..bad }
}

const PATIENT: &[u8] = br#"{"resourceType":"Patient","id":"p1"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_valid_resource_is_refused_with_the_place() {
    let node = Node::start().await;
    let p = r#"{"resourceType":"Patient","id":"p1""#;
    let deep = format!("{p},\"extension\":{}", "[".repeat(70));
    let cases = [
        body("", "line 1, column 1", ""),
        body("hello", "line 1, column 1", ""),
        body("{\n  \"resourceType\": \"Patient\",\n  oops\n}", "line 3, column 3", ""),
        body(r#"{"resourceType":"Patient","id":"p1""#, "line 1, column", ""),
        body(r#"{"resourceType":"Patient","id":"p1","id":"p1"}"#, "line 1, column", "id"),
        body(r#"{"resourceType":"Patient","id":"p1"} x"#, "line 1, column", ""),
        Bad {
            body: b"{\"resourceType\":\"Patient\",\"id\":\"p1\",\"gender\":\"\xff\"}",
            ..body("", "line 1, column", "UTF-8")
        },
        Bad { body: deep.leak().as_bytes(), ..body("", "line 1, column", "64") },
        body(r#"{"resourceType":"Patiens","id":"p1"}"#, "", "Patiens"),
        body(r#"{"id":"p1"}"#, "", "resourceType"),
        body(r#"[]"#, "", ""),
        body(r#"{"resourceType":"Patient","id":"p1","colour":"red"}"#, "Patient.colour", "colour"),
        body(r#"{"resourceType":"Patient","id":"p1","name":[]}"#, "Patient.name", ""),
        body(r#"{"resourceType":"Patient","id":"p1","name":{}}"#, "Patient.name", ""),
        body(r#"{"resourceType":"Patient","id":"p1","language":""}"#, "Patient.language", ""),
        body(r#"{"resourceType":"Patient","id":"p1","active":"yes"}"#, "Patient.active", ""),
        body(
            r#"{"resourceType":"Patient","id":"p1","name":[{"family":1}]}"#,
            "Patient.name[0].family",
            "",
        ),
        body(
            r#"{"resourceType":"Patient","id":"p1","birthDate":"1.1.2000"}"#,
            "Patient.birthDate",
            "",
        ),
        body(
            r#"{"resourceType":"Patient","id":"p1","birthDate":"2000-02-31"}"#,
            "Patient.birthDate",
            "",
        ),
        body(r#"{"resourceType":"Patient","id":"p_1"}"#, "Patient.id", ""),
        body(r#"{"resourceType":"Patient","id":"p2"}"#, "Patient.id", "p2"),
        body(r#"{"resourceType":"Patient"}"#, "Patient.id", "missing"),
        body(
            r#"{"resourceType":"Group","id":"p1","type":"person","actual":true}"#,
            "Group.resourceType",
            "Group",
        ),
        Bad {
            line: "PUT /fhir/Observation/o1",
            ..body(r#"{"resourceType":"Observation","id":"o1"}"#, "Observation", "")
        },
    ];

    for case in cases {
        check(&node, &case).await;
        let after = node.get("Patient/p1").await;
        assert_eq!(after.status, 404, "{} has written something", case.line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_understood_is_refused_with_the_reason() {
    let node = Node::start().await;
    let put = Bad { body: PATIENT, ..bad("PUT /fhir/Patient/p1", 0, "") };
    let cases = [
        bad("GET /fhir/Patiens/1", 404, "Patiens"),
        bad("GET /elsewhere", 404, "/elsewhere"),
        bad("GET /fhirx", 404, "/fhirx"),
        bad("GET /fhir/Patient/1/nothing", 404, "nothing"),
        bad("GET /fhir/Patient/1/$graph", 501, "operation"),
        bad("GET /fhir/Patient/1/_history?_since=soon", 400, "_since"),
        bad("GET /fhir/Patient/1/_history?_list=1", 400, "_list"),
        bad("DELETE /fhir/Patient", 400, "criteria"),
        bad("DELETE /fhir/Patient?nonsense=x", 400, "nonsense"),
        Bad { status: 400, reason: "p_1", ..Bad { line: "PUT /fhir/Patient/p_1", ..put } },
        with(bad("GET /fhir/Patient/1", 406, "xml"), &[("accept", "application/fhir+xml")]),
        bad("GET /fhir/Patient/1?_format=xml", 406, "xml"),
        with(bad("GET /fhir/Patient/1", 400, "If-None-Match"), &[("if-none-match", "\"1")]),
        with(bad("POST /fhir/Patient", 400, "If-None-Exist"), &[("if-none-exist", "name=%x")]),
        with(
            bad("GET /fhir/Patient/1", 400, "chartmesh-consistency"),
            &[("prefer", "chartmesh-consistency=strong")],
        ),
    ];

    for case in &cases {
        check(&node, case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_write_that_cannot_be_kept_are_refused() {
    let node = Node::start().await;
    let put = |status, reason, headers| {
        with(Bad { body: PATIENT, ..bad("PUT /fhir/Patient/p1", status, reason) }, headers)
    };
    let cases = [
        put(415, "xml", &[("content-type", "application/fhir+xml")]),
        put(415, "form", &[("content-type", "application/x-www-form-urlencoded")]),
        put(415, "compress", &[("content-encoding", "compress")]),
        put(400, "gzip", &[("content-encoding", "gzip")]),
        put(400, "If-Match", &[("if-match", "")]),
        put(400, "If-None-Match", &[("if-none-match", "\"1\"")]),
        put(
            400,
            "If-Unmodified-Since",
            &[("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")],
        ),
        put(400, "Idempotency-Key", &[("idempotency-key", "")]),
    ];

    for case in &cases {
        check(&node, case).await;
    }
    assert_eq!(node.get("Patient/p1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_path_with_the_wrong_verb_says_which_are_allowed() {
    let node = Node::start().await;
    for (line, allow) in [
        ("POST /fhir/Patient/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("PUT /fhir/metadata", "GET, HEAD"),
        ("DELETE /fhir", "GET, HEAD, POST"),
        ("OPTIONS /fhir/Patient", "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ("DELETE /fhir/Patient/1/_history", "GET, HEAD"),
    ] {
        let reply = check(&node, &bad(line, 405, "possible")).await;

        assert_eq!(reply.header("allow"), allow, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bundles_are_answered_and_never_meet_a_fault() {
    let node = Node::start().await;
    let sound = concat!(
        r#"{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:1","#,
        r#""resource":{"resourceType":"Patient","name":[{"family":"\u00e4"}]},"#,
        r#""request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=a|1"}}]}"#
    );
    for place in 0..sound.len() {
        for other in *b"\"}],0\xff " {
            let mut damaged = sound.as_bytes().to_vec();
            damaged[place] = other;
            let told = String::from_utf8_lossy(&damaged).into_owned();

            let reply = node.ask("POST", "/fhir", &[], damaged).await;

            assert!(reply.status < 500, "{}: {told}", reply.status);
        }
        let reply = node.ask("POST", "/fhir", &[], &sound[..place]).await;
        assert_eq!(reply.status, 400, "{}", &sound[..place]);
    }
}

async fn check(node: &Node, case: &Bad) -> Reply {
    let (method, target) = case.line.split_once(' ').unwrap();
    let reply = node.ask(method, target, case.headers, case.body).await;
    let told = format!("{} {:?}: {}", case.line, String::from_utf8_lossy(case.body), reply.text);

    assert_eq!(reply.status, case.status, "{told}");
    let outcome = reply.json();
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{told}");
    chartmesh_record::Resource::parse(reply.text.as_bytes()).expect("a valid resource");
    let issue = &outcome["issue"][0];
    assert_eq!(issue["severity"], "error", "{told}");
    assert!(text(&issue["details"]["text"]).contains(case.reason), "{told}");
    let places = [text(&issue["expression"][0]), text(&issue["diagnostics"])];
    assert!(places.iter().any(|place| place.contains(case.place)), "{told}");
    reply
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
