//! Details of FHIR's HTTP, line by line: each case names the section of FHIR R4 that it is about.

use std::io::Write as _;

use chartmesh_rest::Limits;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::node::{Node, Special};

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true}"#;
const FHIR_JSON: &str = "application/fhir+json;charset=utf-8";

/// A request, and what its answer is like.
struct Case {
    section: &'static str,
    request: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
    /// Headers of the answer; a value that ends with `*` is only the beginning.
    answer: &'static [(&'static str, &'static str)],
}

const fn case(section: &'static str, request: &'static str, status: u16) -> Case {
    Case { section, request, headers: &[], body: "", status, answer: &[] }
}

/// What is asked of a node that holds `PATIENT` and a Binary of a PDF.
const CASES: &[Case] = &[
    // 3.1.0.1.10 Content types and encodings
    Case {
        headers: &[("accept", "*/*")],
        answer: &[("content-type", FHIR_JSON)],
        ..case("3.1.0.1.10", "GET /fhir/Patient/p1", 200)
    },
    Case {
        headers: &[("accept", "application/fhir+xml;q=0.9, application/fhir+json;q=0.1")],
        ..case("3.1.0.1.10", "GET /fhir/Patient/p1", 200)
    },
    Case {
        headers: &[("accept", "application/fhir+xml, application/fhir+json;q=0")],
        ..case("3.1.0.1.10", "GET /fhir/Patient/p1", 406)
    },
    Case {
        headers: &[("accept", "application/fhir+json; fhirVersion=4.0")],
        ..case("3.1.0.1.10", "GET /fhir/Patient/p1", 200)
    },
    Case {
        headers: &[("accept", "application/fhir+json; fhirVersion=3.0")],
        ..case("3.1.0.1.10", "GET /fhir/Patient/p1", 406)
    },
    Case {
        headers: &[("content-type", "application/fhir+json; fhirVersion=5.0")],
        body: PATIENT,
        ..case("3.1.0.1.10", "PUT /fhir/Patient/p1", 415)
    },
    Case {
        headers: &[("content-type", "application/fhir+json; charset=utf-16")],
        body: PATIENT,
        ..case("3.1.0.1.10", "PUT /fhir/Patient/p1", 415)
    },
    Case {
        headers: &[("content-type", "application/fhir+xml")],
        body: "<Patient/>",
        ..case("3.1.0.1.10", "PUT /fhir/Patient/p1", 415)
    },
    Case {
        headers: &[("content-encoding", "compress")],
        body: PATIENT,
        ..case("3.1.0.1.10", "PUT /fhir/Patient/p1", 415)
    },
    // 3.1.0.1.11 General parameters
    Case {
        headers: &[("accept", "application/fhir+xml")],
        ..case("3.1.0.1.11", "GET /fhir/Patient/p1?_format=json", 200)
    },
    case("3.1.0.1.11", "GET /fhir/Patient/p1?_format=application/fhir%2Bjson", 200),
    case("3.1.0.1.11", "GET /fhir/Patient/p1?_format=xml", 406),
    case("3.1.0.1.11", "GET /fhir/Patient/p1?_pretty=true", 200),
    // 3.1.0.2 read, 3.1.0.3 vread, cached and by HEAD
    Case {
        answer: &[("etag", "W/\"1-pac.*"), ("last-modified", "*")],
        ..case("3.1.0.2", "GET /fhir/Patient/p1", 200)
    },
    Case {
        answer: &[("etag", "W/\"1-pac.*"), ("content-length", "*")],
        ..case("3.1.0.2", "HEAD /fhir/Patient/p1", 200)
    },
    case("3.1.0.2", "HEAD /fhir/Patient/none", 404),
    case("3.1.0.2", "HEAD /fhir/Patient?active=true", 200),
    case("3.1.0.2", "HEAD /fhir/Patient/p1/_history", 200),
    case("3.1.0.2", "HEAD /fhir/metadata", 200),
    Case { headers: &[("if-none-match", "*")], ..case("3.1.0.1.6", "GET /fhir/Patient/p1", 304) },
    Case {
        headers: &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")],
        ..case("3.1.0.1.6", "GET /fhir/Patient/p1", 304)
    },
    Case {
        headers: &[("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")],
        ..case("3.1.0.1.6", "GET /fhir/Patient/p1", 200)
    },
    // 3.1.0.1.2 only the types of 4.0.1
    case("3.1.0.1.2", "GET /fhir/ActorDefinition/1", 404),
    case("3.1.0.1.2", "GET /fhir/patient/p1", 404),
    case("3.1.0.1.2", "GET /fhir/MetadataResource/1", 404),
    // 3.1.0.8 capabilities
    case("3.1.0.8", "GET /fhir/metadata?mode=normative", 200),
    case("3.1.0.8", "GET /fhir/metadata?mode=terminology", 200),
    case("3.1.0.8", "GET /fhir/metadata?mode=x", 400),
    // 2.40.3 Binary
    Case { answer: &[("content-type", FHIR_JSON)], ..case("2.40.3", "GET /fhir/Binary/b1", 200) },
    Case {
        headers: &[("accept", "*/*")],
        answer: &[("content-type", FHIR_JSON)],
        ..case("2.40.3", "GET /fhir/Binary/b1", 200)
    },
    Case {
        headers: &[("accept", "application/pdf")],
        answer: &[("content-type", "application/pdf"), ("x-security-context", "Patient/p1")],
        ..case("2.40.3", "GET /fhir/Binary/b1", 200)
    },
    Case {
        headers: &[("accept", "application/pdf, */*;q=0.1")],
        answer: &[("content-type", "application/pdf")],
        ..case("2.40.3", "GET /fhir/Binary/b1", 200)
    },
    Case { headers: &[("accept", "image/png")], ..case("2.40.3", "GET /fhir/Binary/b1", 406) },
    Case {
        headers: &[("accept", "application/pdf")],
        answer: &[("content-type", FHIR_JSON)],
        ..case("2.40.3", "GET /fhir/Binary/b1?_format=json", 200)
    },
    Case {
        headers: &[("accept", "application/pdf"), ("if-none-match", "*")],
        ..case("2.40.3", "GET /fhir/Binary/b1", 304)
    },
    Case {
        headers: &[("content-type", "application/pdf"), ("content-encoding", "compress")],
        body: "%PDF",
        ..case("2.40.3", "PUT /fhir/Binary/b1", 415)
    },
    // 3.1.0.1.3 request ids
    Case {
        headers: &[("x-request-id", "r-1")],
        answer: &[("x-request-id", "r-1")],
        ..case("3.1.0.1.3", "GET /fhir/Patient/p1", 200)
    },
    Case {
        headers: &[("x-request-id", "r-2")],
        answer: &[("x-request-id", "r-2")],
        ..case("3.1.0.1.3", "GET /fhir/Patient/none", 404)
    },
];

async fn node() -> Node {
    let node = Node::start().await;
    node.put("Patient/p1", PATIENT, &[]).await;
    let headers = [("content-type", "application/pdf"), ("x-security-context", "Patient/p1")];
    assert_eq!(node.put("Binary/b1", "%PDF-1.4 made up", &headers).await.status, 201);
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_the_sections_of_the_specification_say() {
    let node = node().await;
    for case in CASES {
        let (method, target) = case.request.split_once(' ').unwrap();
        let reply = node.ask(method, target, case.headers, case.body).await;
        let shown = format!("{} {} {:?}", case.section, case.request, case.headers);
        assert_eq!(reply.status, case.status, "{shown}: {}", reply.text);
        for (name, expected) in case.answer {
            let found = reply.header(name);
            match expected.strip_suffix('*') {
                Some(beginning) => {
                    assert!(!found.is_empty() && found.starts_with(beginning), "{shown}: {found}");
                }
                None => assert_eq!(found, *expected, "{shown}"),
            }
        }
        if method == "HEAD" || case.status == 304 {
            assert_eq!(reply.text, "", "{shown}");
        }
    }
}

/// FHIR R4, 2.40.3: what is sent with a type of its own is the content.
#[tokio::test(flavor = "multi_thread")]
async fn a_binary_goes_in_and_out_as_it_is() {
    let node = node().await;
    let resource = node.get("Binary/b1").await.json();
    assert_eq!(resource["contentType"], "application/pdf");
    assert_eq!(resource["securityContext"]["reference"], "Patient/p1");
    assert_eq!(resource["data"], "JVBERi0xLjQgbWFkZSB1cA==");

    let created = node
        .ask("POST", "/fhir/Binary", &[("content-type", "text/csv; charset=utf-8")], "a,b\n")
        .await;
    assert_eq!(created.status, 201, "{}", created.text);
    let place = created.place();
    let raw = node.ask("GET", &place, &[("accept", "text/csv")], "").await;
    assert_eq!(
        (raw.text.as_str(), raw.header("content-type")),
        ("a,b\n", "text/csv; charset=utf-8")
    );
    let as_resource = r#"{"resourceType":"Binary","contentType":"text/plain","data":"eA=="}"#;
    let created = node.post("Binary", as_resource).await;
    let version =
        node.ask("GET", created.header("location"), &[("accept", "text/plain")], "").await;
    assert_eq!((version.text.as_str(), version.etag()), ("x", created.etag()));
    let keyed = async |kind| {
        let headers = [("content-type", kind), ("idempotency-key", "k")];
        node.ask("POST", "/fhir/Binary", &headers, "same").await.status
    };
    assert_eq!((keyed("text/plain").await, keyed("text/plain").await), (201, 201));
    assert_eq!(keyed("text/csv").await, 422, "it says something else");
    let xml =
        node.ask("POST", "/fhir/Binary", &[("content-type", "application/fhir+xml")], "<x/>").await;
    assert_eq!(xml.status, 415);
}

/// FHIR R4, 3.1.0.1.10: bodies may be compressed both ways.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_both_ways() {
    let node = node().await;
    let long = format!(
        r#"{{"resourceType":"Basic","id":"long","code":{{"text":"{}"}}}}"#,
        "long ".repeat(800)
    );
    node.put("Basic/long", &long, &[]).await;
    let plain = node.get("Basic/long").await;
    for (encoding, magic) in
        [("gzip", &[0x1f, 0x8b][..]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]), ("br", &[])]
    {
        let reply = node.ask("GET", "/fhir/Basic/long", &[("accept-encoding", encoding)], "").await;
        assert_eq!((reply.status, reply.header("content-encoding")), (200, encoding));
        assert!(
            reply.bytes.starts_with(magic) && reply.bytes.len() < 1_000,
            "{}",
            reply.bytes.len()
        );
        assert_eq!(reply.header("content-type"), FHIR_JSON);

        let headers = [("content-encoding", encoding), ("content-type", "application/fhir+json")];
        let back = node.ask("PUT", "/fhir/Basic/long", &headers, reply.bytes).await;

        assert_eq!(back.status, 200, "{encoding}: {}", back.text);
        let text = |reply: &Reply| reply.json()["code"]["text"].as_str().unwrap().to_owned();
        assert_eq!(text(&back), text(&plain), "{encoding}");
    }
    let damaged =
        node.ask("PUT", "/fhir/Patient/p1", &[("content-encoding", "gzip")], PATIENT).await;
    assert_eq!(damaged.status, 400, "{}", damaged.text);
    let small = node.ask("GET", "/fhir/Patient/p1", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(small.header("content-encoding"), "", "what is small stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_gets_too_long_when_it_is_unpacked_is_refused() {
    let limits = Limits { body_bytes: 64 << 10, ..Limits::default() };
    let node = Node::start_with(limits).await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 128 << 10, "{}", bomb.len());

    let reply = node
        .ask("PUT", "/fhir/Patient/p1", &[("content-encoding", "gzip")], bomb[..60 << 10].to_vec())
        .await;

    assert_eq!(reply.status, 413, "{}", reply.text);
}

/// FHIR R4, 3.1.0.1.11: `_pretty`.
#[tokio::test(flavor = "multi_thread")]
async fn json_for_people_says_the_same() {
    let node = node().await;
    let plain = node.get("Patient/p1").await;

    let pretty = node.get("Patient/p1?_pretty=true").await;

    assert_eq!(pretty.json(), plain.json());
    assert!(pretty.text.contains("{\n  \"resourceType\": \"Patient\",\n"), "{}", pretty.text);
    assert_eq!(node.get("Patient/p1?_pretty=false").await.text, plain.text);
    assert!(node.get("Patient/none?_pretty=true").await.text.contains("\n  \"issue\": [\n"));
}

/// Fetch, CORS protocol: pages may ask if they are named.
#[tokio::test(flavor = "multi_thread")]
async fn web_pages_of_other_origins_may_ask_if_they_are_named() {
    let ours = ("origin", "https://app.example.org");
    let theirs = ("origin", "https://other.example.org");
    let special = Special { origins: "https://app.example.org", ..Special::default() };
    let node = Node::start_special(special).await;
    node.put("Patient/p1", PATIENT, &[]).await;

    let reply = node.ask("GET", "/fhir/Patient/p1", &[ours], "").await;
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example.org");
    assert!(reply.header("access-control-expose-headers").contains("chartmesh-as-of"));
    let asked = [
        ours,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "if-match"),
    ];
    let preflight = node.ask("OPTIONS", "/fhir/Patient/p1", &asked, "").await;
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-methods").contains("PUT"));
    let reply = node.ask("GET", "/fhir/Patient/p1", &[theirs], "").await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
    let closed = Node::start().await;
    let reply = closed.ask("GET", "/fhir/Patient/p1", &[ours], "").await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
}

/// FHIR R4, 3.1.0.5, 3.1.0.4, 2.21.3.1: what a client says of the version is not taken over.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_alone_says_version_and_time() {
    let node = node().await;
    let sent = r#"{"resourceType":"Patient","id":"p1","meta":{"versionId":"77","lastUpdated":"1999-01-01T00:00:00Z","tag":[{"code":"t"}]}}"#;

    let reply = node.put("Patient/p1", sent, &[]).await;

    let meta = reply.json()["meta"].clone();
    assert_eq!(meta["versionId"], reply.version());
    assert!(meta["lastUpdated"].as_str().unwrap() > "2026");
    assert_eq!(meta["tag"], json!([{"code": "t"}]));
    let location = format!("http://a:1/fhir/Patient/p1/_history/{}", reply.version());
    assert_eq!(reply.header("location"), location);
    for tag in [
        format!("W/\"{}\"", reply.version()),
        format!("\"{}\"", reply.version()),
        reply.version().to_owned(),
    ] {
        let cached = node.ask("GET", "/fhir/Patient/p1", &[("if-none-match", &tag)], "").await;
        assert_eq!(cached.status, 304, "{tag}");
    }
}

/// FHIR R4, resource-operation-validate.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_validated_without_being_written() {
    let node = node().await;
    let issues = async |path: &str, body: &str| {
        let reply = node.post(path, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let issues = reply.json()["issue"].as_array().unwrap().clone();
        let shown = |issue: &Value| {
            format!("{} {}", issue["severity"].as_str().unwrap(), issue["code"].as_str().unwrap())
        };
        issues.iter().map(shown).collect::<Vec<_>>()
    };
    let bad = r#"{"resourceType":"Patient","active":"yes","nonsense":1}"#;
    assert_eq!(issues("Patient/$validate", PATIENT).await, ["information informational"]);
    assert_eq!(issues("Patient/$validate", bad).await, ["error structure", "error structure"]);
    assert_eq!(issues("Patient/$validate", "{").await, ["error structure"]);
    assert_eq!(issues("Basic/$validate", PATIENT).await, ["error value"]);
    assert_eq!(issues("Patient/p1/$validate", PATIENT).await, ["information informational"]);
    assert_eq!(issues("Patient/p2/$validate", PATIENT).await, ["error value"]);
    let parameters = |resource: &str| {
        format!(
            r#"{{"resourceType":"Parameters","parameter":[{{"name":"mode","valueCode":"create"}},{{"name":"profile","valueUri":"urn:p"}},{{"name":"resource","resource":{resource}}}]}}"#
        )
    };
    let profiled = issues("Patient/$validate", &parameters(PATIENT)).await;
    assert_eq!(profiled, ["information informational", "warning not-supported"]);
    assert_eq!(issues("Patient/$validate", &parameters(bad)).await.len(), 3);
    assert_eq!(issues("Patient/$validate?profile=urn:p", PATIENT).await, profiled);
    let placed = async |body: &str| {
        node.post("Patient/$validate", body).await.json()["issue"][0]["diagnostics"].clone()
    };
    assert_eq!(placed(bad).await, "line 1, column 36");
    assert_eq!(
        placed(&parameters(bad)).await,
        Value::Null,
        "it is not where it is in what was sent"
    );
    assert_eq!(node.get("Patient/p1/_history").await.json()["total"], 1);
}

/// FHIR R4, resource-operation-meta, -meta-add and -meta-delete.
#[tokio::test(flavor = "multi_thread")]
async fn meta_is_read_added_to_and_taken_from() {
    let node = node().await;
    let meta = |reply: &Reply| {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.json()["resourceType"], "Parameters");
        reply.json()["parameter"][0]["valueMeta"].clone()
    };
    let change = r#"{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:s","code":"c"}]}}]}"#;

    let added = meta(&node.post("Patient/p1/$meta-add", change).await);
    assert_eq!(added["tag"], json!([{"system": "urn:s", "code": "c"}]));
    assert_eq!(meta(&node.get("Patient/p1/$meta").await), added);
    assert_eq!(node.get("Patient?_tag=urn:s%7Cc&_summary=count").await.json()["total"], 1);
    let deleted = meta(&node.post("Patient/p1/$meta-delete", change).await);
    assert_eq!(deleted["tag"], Value::Null);
    assert_eq!(node.get("Patient/none/$meta").await.status, 404);
    assert_eq!(node.post("Patient/p1/$meta-add", PATIENT).await.status, 400);
}

/// FHIR R4, 3.1.0.8: the modes of a statement.
#[tokio::test(flavor = "multi_thread")]
async fn statements_of_each_mode_are_valid() {
    let node = node().await;
    for (mode, kind, count) in [
        ("full", "CapabilityStatement", 146),
        ("normative", "CapabilityStatement", 11),
        ("terminology", "TerminologyCapabilities", 0),
    ] {
        let statement = node.get(&format!("metadata?mode={mode}")).await;
        assert_eq!(statement.json()["resourceType"], kind);
        let types = statement.json()["rest"][0]["resource"].as_array().map_or(0, Vec::len);
        assert_eq!(types, count, "{mode}");
        let valid = node.post(&format!("{kind}/$validate"), &statement.text).await.json();
        assert_eq!(valid["issue"][0]["severity"], "information", "{mode}: {valid}");
    }
}
