//! This module loads from files made on the spot into a small server that does what the test tells
//! it to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::*;

/// What the test wants of a request: nothing, or this status instead of doing what is asked.
type Script = Box<dyn FnMut(&Value) -> Option<Trouble> + Send>;

enum Trouble {
    Answer(u16),
    /// Does what is asked, then ends the connection instead of answering.
    LostAnswer,
}

/// A server that keeps resources by name and remembers its answers by key.
#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

struct State {
    script: Script,
    resources: HashMap<String, Value>,
    answers: HashMap<String, Value>,
    /// How often something was really written.
    writes: usize,
    /// The bundles that came in, by the names of what they write.
    requests: Vec<Vec<String>>,
}

impl Server {
    async fn start(
        script: impl FnMut(&Value) -> Option<Trouble> + Send + 'static,
    ) -> (Self, BaseUrl) {
        let server = Self(Arc::new(Mutex::new(State {
            script: Box::new(script),
            resources: HashMap::new(),
            answers: HashMap::new(),
            writes: 0,
            requests: Vec::new(),
        })));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap()).parse().unwrap();
        let at_work = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = at_work.clone();
                let service = service_fn(move |request| server.clone().serve(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (server, url)
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, LostAnswer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut state = self.0.lock().unwrap();
        if head.method == Method::GET {
            let name = head.uri.path().trim_start_matches("/fhir/");
            let known = name == "metadata" || state.resources.contains_key(name);
            return Ok(answer(if known { 200 } else { 404 }, &json!({})));
        }
        let bundle: Value = serde_json::from_slice(&body).unwrap();
        if head.method == Method::PUT {
            let name = head.uri.path().trim_start_matches("/fhir/").to_owned();
            state.resources.insert(name, bundle);
            return Ok(answer(201, &json!({})));
        }
        state.requests.push(names(&bundle));
        let trouble = (state.script)(&bundle);
        if let Some(Trouble::Answer(status)) = trouble {
            let outcome =
                json!({"issue": [{"severity": "error", "diagnostics": "as the test says"}]});
            return Ok(answer(status, &outcome));
        }
        let key = head.headers["idempotency-key"].to_str().unwrap().to_owned();
        let done = match state.answers.get(&key) {
            Some(done) => done.clone(),
            None => state.execute(&bundle),
        };
        state.answers.insert(key, done.clone());
        if trouble.is_some() { Err(LostAnswer) } else { Ok(answer(200, &done)) }
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().requests.clone()
    }

    fn held(&self) -> usize {
        self.0.lock().unwrap().resources.len()
    }

    fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }
}

impl State {
    fn execute(&mut self, bundle: &Value) -> Value {
        let entries = bundle["entry"].as_array().unwrap();
        let responses = entries.iter().map(|entry| {
            self.writes += 1;
            let url = entry["request"]["url"].as_str().unwrap();
            let name =
                if url.contains('/') { url.to_owned() } else { format!("{url}/{}", self.writes) };
            let old = self.resources.insert(name.clone(), entry["resource"].clone());
            let status = if old.is_some() { "200 OK" } else { "201 Created" };
            json!({"response": {"status": status, "location": format!("{name}/_history/1-x.y")}})
        });
        json!({"resourceType": "Bundle", "type": "transaction-response",
            "entry": responses.collect::<Vec<_>>()})
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the test loses this answer")]
struct LostAnswer;

impl From<Infallible> for LostAnswer {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
}

fn names(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().unwrap();
    entries.iter().map(|entry| entry["request"]["url"].as_str().unwrap().to_owned()).collect()
}

fn ndjson(kind: &str, ids: std::ops::Range<usize>) -> Source {
    let line = |id| format!("{{\"resourceType\":\"{kind}\",\"id\":\"{id}\"}}\n");
    Source::Memory {
        name: format!("{kind}.ndjson"),
        content: ids.map(line).collect::<String>().into(),
    }
}

fn options(sources: Vec<Source>, to: &BaseUrl) -> Options {
    Options {
        patience: Duration::from_secs(20),
        display: Display::Hidden,
        ..Options::new(sources, vec![to.clone()])
    }
}

fn keeping(state: &Path, options: Options) -> Options {
    Options { state: Some(state.to_owned()), ..options }
}

#[tokio::test]
async fn everything_is_counted_by_type_and_what_others_refer_to_is_there_first() {
    let (server, url) = Server::start(|_| None).await;
    let sources =
        vec![ndjson("Observation", 0..600), ndjson("Patient", 0..3), ndjson("Patient", 1..2)];

    let summary = run(options(sources, &url)).await.unwrap();

    assert!(summary.complete(), "{summary:?}");
    assert_eq!((summary.resources, summary.bundles, server.held()), (604, 5, 603));
    let patients = summary.types["Patient"];
    assert_eq!((patients.created, patients.updated), (3, 1));
    let order: Vec<_> =
        server.requests().iter().map(|names| names[0].starts_with("Patient")).collect();
    assert_eq!(order, [true, true, false, false, false]);
}

#[tokio::test]
async fn what_may_pass_is_sent_again_and_nothing_is_written_twice() {
    for make in [
        || Trouble::Answer(429),
        || Trouble::Answer(502),
        || Trouble::Answer(503),
        || Trouble::Answer(504),
        || Trouble::LostAnswer,
    ] {
        let mut left = 3;
        let (server, url) = Server::start(move |_| {
            left -= 1;
            (left >= 0).then(make)
        })
        .await;
        let sources = vec![Source::Memory {
            name: "x.ndjson".to_owned(),
            content: Bytes::from_static(
                b"{\"resourceType\":\"Basic\"}\n{\"resourceType\":\"Basic\"}",
            ),
        }];

        let summary = run(options(sources, &url)).await.unwrap();

        assert!(summary.complete(), "{summary:?}");
        assert_eq!((server.requests().len(), server.writes()), (4, 2));
    }
}

#[tokio::test]
async fn a_resource_that_is_refused_is_found_and_named_and_the_others_are_loaded() {
    let bad = |bundle: &Value| names(bundle).contains(&"Basic/77".to_owned());
    let (server, url) =
        Server::start(move |bundle| bad(bundle).then_some(Trouble::Answer(400))).await;

    let summary = run(options(vec![ndjson("Basic", 0..200)], &url)).await.unwrap();

    assert_eq!((summary.resources, summary.failed, server.held()), (199, 1, 199));
    let failure = &summary.failures[0];
    assert_eq!(failure.place, "Basic.ndjson, line 78");
    assert_eq!(failure.reason, "as the test says (400)");
    assert!(server.requests().len() < 20, "halving finds it: {}", server.requests().len());
}

#[tokio::test]
async fn what_misses_its_target_is_sent_again_once_the_others_are_there() {
    let mut seen = false;
    let (server, url) = Server::start(move |bundle| {
        let needy = names(bundle).iter().any(|name| name == "Basic/1");
        let met = seen;
        seen |= names(bundle).iter().any(|name| name == "Consent/5");
        (needy && !met).then_some(Trouble::Answer(412))
    })
    .await;
    let mut one = options(vec![ndjson("Basic", 0..250), ndjson("Consent", 0..10)], &url);
    one.concurrency = NonZeroUsize::MIN;

    let summary = run(one).await.unwrap();

    assert!(summary.complete(), "{summary:?}");
    assert_eq!((summary.resources, server.held(), server.writes()), (260, 260, 260));
}

#[tokio::test]
async fn a_target_that_never_comes_is_a_failure_of_that_resource_alone() {
    let needy = |bundle: &Value| names(bundle).contains(&"Basic/1".to_owned());
    let (server, url) =
        Server::start(move |bundle| needy(bundle).then_some(Trouble::Answer(412))).await;

    let summary = run(options(vec![ndjson("Basic", 0..20)], &url)).await.unwrap();

    assert_eq!((summary.resources, summary.failed, server.held()), (19, 1, 19));
    assert_eq!(server.writes(), 19);
    assert_eq!(summary.failures[0].place, "Basic.ndjson, line 2");
}

#[tokio::test]
async fn a_load_that_was_interrupted_goes_on_and_its_journal_goes_when_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = broken.clone();
    let (server, url) = Server::start(move |bundle| {
        let late = names(bundle).contains(&"Basic/600".to_owned());
        (late && is_broken.load(std::sync::atomic::Ordering::SeqCst))
            .then_some(Trouble::Answer(503))
    })
    .await;
    let mut first = keeping(&state, options(vec![ndjson("Basic", 0..700)], &url));
    first.concurrency = NonZeroUsize::MIN;
    first.patience = Duration::ZERO;

    let summary = run(first.clone()).await.unwrap();
    assert_eq!(summary.stopped.as_deref(), Some("as the test says (503)"));
    assert_eq!(summary.resources, 500);
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    let before = server.requests().len();
    let summary = run(first).await.unwrap();

    assert!(summary.complete(), "{summary:?}");
    assert_eq!((summary.bundles_done_before, summary.resources_done_before), (2, 500));
    assert_eq!((summary.resources, server.requests().len() - before), (200, 1));
    assert!(!state.exists());
}

#[tokio::test]
async fn a_journal_is_not_believed_when_the_server_has_been_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut refused = true;
    let (server, url) = Server::start(move |bundle| {
        let last = names(bundle).contains(&"Basic/699".to_owned());
        (last && std::mem::take(&mut refused)).then_some(Trouble::Answer(503))
    })
    .await;
    let mut first = keeping(&state, options(vec![ndjson("Basic", 0..700)], &url));
    first.patience = Duration::ZERO;
    first.concurrency = NonZeroUsize::MIN;
    assert!(!run(first.clone()).await.unwrap().complete());
    server.0.lock().unwrap().resources.clear();
    server.0.lock().unwrap().answers.clear();

    let summary = run(first).await.unwrap();

    assert!(summary.complete(), "{summary:?}");
    assert_eq!((summary.resources, server.held()), (700, 700));
}

#[tokio::test]
async fn loading_again_writes_nothing_unless_it_is_asked_to() {
    let (server, url) = Server::start(|_| None).await;
    let once = options(vec![ndjson("Basic", 0..10)], &url);
    run(once.clone()).await.unwrap();
    run(once.clone()).await.unwrap();
    assert_eq!(server.writes(), 10);

    run(Options { repeat: Repeat::Everything, ..once }).await.unwrap();

    assert_eq!(server.writes(), 20);
}

#[tokio::test]
async fn a_dead_endpoint_among_others_costs_no_resource() {
    let (server, url) = Server::start(|_| None).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let mut both = options(vec![ndjson("Basic", 0..2000)], &url);
    both.to.push(dead);

    let summary = run(both).await.unwrap();

    assert!(summary.complete(), "{summary:?}");
    assert_eq!(server.held(), 2000);
}

#[tokio::test]
async fn what_is_no_fhir_endpoint_gets_nothing() {
    let (server, url) = Server::start(|_| None).await;
    let elsewhere = url.to_string().replace("/fhir", "/elsewhere").parse().unwrap();

    let error = run(options(vec![ndjson("Basic", 0..1)], &elsewhere)).await.unwrap_err();

    assert!(error.to_string().contains("is no FHIR endpoint"), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_broken_archive_is_named_and_the_rest_is_loaded() {
    let (server, url) = Server::start(|_| None).await;
    let mut cut = zstd::encode_all(&b"{\"resourceType\":\"Basic\",\"id\":\"1\"}\n"[..], 1).unwrap();
    cut.truncate(cut.len() - 4);
    let broken = Source::Memory { name: "cut.ndjson.zst".to_owned(), content: cut.into() };
    let note = Source::Memory { name: "README".to_owned(), content: Bytes::from_static(b"Hello") };

    let summary = run(options(vec![broken, note, ndjson("Basic", 5..8)], &url)).await.unwrap();

    assert_eq!((summary.failed, server.held()), (1, 3));
    assert!(summary.failures[0].place.starts_with("cut.ndjson"), "{:?}", summary.failures);
    assert!(summary.failures[0].reason.starts_with("cannot be read further"));
    assert_eq!(summary.left_out[0].place, "README");
}

#[tokio::test]
async fn a_document_is_stored_whole_and_by_itself() {
    let (server, url) = Server::start(|_| None).await;
    let text = r#"{"resourceType":"Bundle","id":"d","type":"document","entry":[{"fullUrl":"urn:uuid:1"}]}"#;
    let document = Source::Memory { name: "d.json".to_owned(), content: text.into() };

    let summary = run(options(vec![document], &url)).await.unwrap();

    assert!(summary.complete(), "{summary:?}");
    assert_eq!((summary.types["Bundle"].created, server.requests().len()), (1, 0));
    assert_eq!(server.0.lock().unwrap().resources["Bundle/d"].to_string().len(), text.len());
}
