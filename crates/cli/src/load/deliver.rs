//! This module sends one unit until the server has said yes or no.
//!
//! A request whose fate is unknown is sent again with the same `Idempotency-Key`, derived from its
//! content, at the next endpoint: the server answers what it did, and nothing is written twice.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::time::Instant;

use super::limits::{
    ANSWER_TIMEOUT, BYTES_PER_SECOND, FIRST_PAUSE, LONGEST_PAUSE, LONGEST_RETRY_AFTER, NAMED_ISSUES,
};
use super::unit::{Digest, Unit};
use crate::http::{Answer, BaseUrl, Client};

/// Brings units to endpoints of one mesh, taking turns.
#[derive(Debug)]
pub(super) struct Courier {
    client: Client,
    endpoints: Vec<BaseUrl>,
    turn: AtomicUsize,
    /// How long a unit is tried for.
    patience: Duration,
    /// Makes the keys of one load differ from those of another.
    salt: Vec<u8>,
}

/// What became of a unit.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is executed; a batch with what became of each entry.
    Accepted(Vec<EntryAnswer>),
    /// Nothing of it is written, and nothing ever will be.
    Refused(Refusal),
    /// No endpoint has given a definite answer.
    Unanswered(String),
}

/// Why a unit, or an entry of a batch, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// What the server says.
    pub(super) reason: String,
}

impl Refusal {
    /// Whether it was a precondition or a reference: it may hold once other units are there.
    pub(super) fn may_hold_later(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED.as_u16()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.status)
    }
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryAnswer {
    /// Its status.
    pub(super) status: u16,
    /// Where the resource lies: `Patient/1`.
    pub(super) location: Option<String>,
    /// What the server says about it.
    pub(super) reason: Option<String>,
}

impl Courier {
    /// A courier to these endpoints, at least one.
    pub(super) fn new(endpoints: Vec<BaseUrl>, patience: Duration, salt: Vec<u8>) -> Self {
        assert!(!endpoints.is_empty(), "there is somewhere to send to");
        let client = Client::new(ANSWER_TIMEOUT);
        Self { client, endpoints, turn: AtomicUsize::new(0), patience, salt }
    }

    /// Sends a unit. `round` tells deliberate repetitions apart: each has its own key.
    pub(super) async fn deliver(&self, unit: &Unit, round: u32) -> Verdict {
        let digest = unit.digest();
        let key = Digest::of(&[&self.salt, digest.as_bytes(), &round.to_be_bytes()]);
        let seconds = (unit.body().len() / BYTES_PER_SECOND) as u64;
        let client = self.client.waiting(ANSWER_TIMEOUT + Duration::from_secs(seconds));
        let first_turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut trouble: Option<Instant> = None;
        for attempt in 0.. {
            let endpoint = &self.endpoints[(first_turn + attempt) % self.endpoints.len()];
            let (method, path) = unit.request();
            let (url, body) = (endpoint.join(path), unit.body().clone());
            let answer = client.send(method, &url, headers(key), body).await;
            let (verdict, pause) = match answer {
                Err(error) if error.may_pass() => (Verdict::Unanswered(error.to_string()), None),
                Err(error) => return Verdict::Unanswered(error.to_string()),
                Ok(answer) => (judge(&answer, path.is_empty()), retry_after(&answer)),
            };
            if !may_change(&verdict) {
                return verdict;
            }
            let since = *trouble.get_or_insert_with(Instant::now);
            let pause = pause_before(attempt + 1, key).max(pause.unwrap_or_default());
            if since.elapsed() + pause > self.patience {
                return verdict;
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("the attempts end by their time")
    }

    /// Waits until the first endpoint answers like a FHIR server.
    pub(super) async fn greet(&self) -> Result<(), String> {
        let begun = Instant::now();
        for attempt in 0.. {
            let endpoint = &self.endpoints[attempt % self.endpoints.len()];
            let reason = match self.client.get(&endpoint.join("metadata")).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) if !passes(answer.status) => {
                    let status = answer.status.as_u16();
                    return Err(format!(
                        "{endpoint} is no FHIR endpoint: GET {endpoint}/metadata answers {status}"
                    ));
                }
                Ok(answer) => format!("{endpoint} answers {}", answer.status.as_u16()),
                Err(error) if error.may_pass() => error.to_string(),
                Err(error) => return Err(error.to_string()),
            };
            let pause = pause_before(attempt + 1, Digest::of(&[]));
            if begun.elapsed() + pause > self.patience {
                return Err(reason);
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("the attempts end by their time")
    }

    /// Whether a resource, such as `Patient/1`, is there or was; nothing where no answer tells.
    pub(super) async fn knows(&self, location: &str) -> Option<bool> {
        let answer = self.client.get(&self.endpoints[0].join(location)).await.ok()?;
        match answer.status {
            StatusCode::OK | StatusCode::GONE => Some(true),
            StatusCode::NOT_FOUND => Some(false),
            _ => None,
        }
    }
}

fn headers(key: Digest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let key =
        HeaderValue::from_str(&key.to_string()).expect("hexadecimal digits are a header value");
    headers.insert("idempotency-key", key);
    headers.insert("prefer", HeaderValue::from_static("return=minimal"));
    headers
}

/// Whether a request answered so may be answered otherwise when it is sent again.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Whether sending the same again may change the verdict. A batch whose entries met with trouble is
/// sent again as a whole: with the same key, what is done stays done.
fn may_change(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Unanswered(_) => true,
        Verdict::Refused(_) => false,
        Verdict::Accepted(entries) => {
            entries.iter().any(|entry| StatusCode::from_u16(entry.status).is_ok_and(passes))
        }
    }
}

/// Doubles from attempt to attempt; the key spreads those that failed together.
fn pause_before(attempt: usize, key: Digest) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.min(16).saturating_sub(1));
    let spread = 0.75 + f64::from(key.as_bytes()[attempt % 16]) / 510.0;
    doubled.min(LONGEST_PAUSE).mul_f64(spread)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds: u64 = answer.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// What an answer to a bundle says, or one to a single resource.
fn judge(answer: &Answer, to_bundle: bool) -> Verdict {
    let status = answer.status;
    let reason = || outcome_text(&answer.body).unwrap_or_else(|| "no reason given".to_owned());
    if passes(status) {
        return Verdict::Unanswered(format!("{} ({})", reason(), status.as_u16()));
    }
    if !status.is_success() {
        return Verdict::Refused(Refusal { status: status.as_u16(), reason: reason() });
    }
    if !to_bundle {
        let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        return Verdict::Accepted(vec![EntryAnswer {
            status: status.as_u16(),
            location: location.and_then(type_and_id),
            reason: None,
        }]);
    }
    match serde_json::from_slice::<AnswerBundle>(&answer.body) {
        Ok(bundle) => Verdict::Accepted(bundle.entry.into_iter().map(EntryAnswer::from).collect()),
        Err(error) => Verdict::Refused(Refusal {
            status: status.as_u16(),
            reason: format!("the answer is no Bundle: {error}"),
        }),
    }
}

#[derive(Deserialize)]
struct AnswerBundle {
    #[serde(default)]
    entry: Vec<AnswerEntry>,
}

#[derive(Deserialize)]
struct AnswerEntry {
    response: EntryResponse,
}

#[derive(Deserialize)]
struct EntryResponse {
    status: String,
    location: Option<String>,
    outcome: Option<OperationOutcome>,
}

#[derive(Deserialize)]
struct OperationOutcome {
    #[serde(default)]
    issue: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    severity: Option<String>,
    diagnostics: Option<String>,
    details: Option<Details>,
    #[serde(default)]
    expression: Vec<String>,
}

#[derive(Deserialize)]
struct Details {
    text: Option<String>,
}

impl From<AnswerEntry> for EntryAnswer {
    fn from(entry: AnswerEntry) -> Self {
        let response = entry.response;
        let status = response.status.split(' ').next().and_then(|code| code.parse().ok());
        Self {
            status: status.unwrap_or_default(),
            location: response.location.as_deref().and_then(type_and_id),
            reason: response.outcome.and_then(|outcome| outcome.text()),
        }
    }
}

/// `Patient/1` out of `http://host/fhir/Patient/1/_history/3`.
fn type_and_id(location: &str) -> Option<String> {
    let path = location.split("/_history/").next()?.trim_end_matches('/');
    let mut parts = path.rsplit('/');
    let (id, kind) = (parts.next()?, parts.next()?);
    Some(format!("{kind}/{id}"))
}

impl OperationOutcome {
    /// What it says about errors, or, if about none, about anything.
    fn text(&self) -> Option<String> {
        let is_error =
            |issue: &&Issue| matches!(issue.severity.as_deref(), Some("error" | "fatal"));
        let errors: Vec<_> = self.issue.iter().filter(is_error).collect();
        let told = if errors.is_empty() { self.issue.iter().collect() } else { errors };
        let texts: Vec<_> = told.into_iter().filter_map(Issue::text).collect();
        let more = texts.len().saturating_sub(NAMED_ISSUES);
        let mut text = texts[..texts.len() - more].join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        (!texts.is_empty()).then_some(text)
    }
}

impl Issue {
    fn text(&self) -> Option<String> {
        let details = self.details.as_ref().and_then(|details| details.text.as_deref());
        let text = match (details, self.diagnostics.as_deref()) {
            (Some(details), Some(diagnostics)) if !details.contains(diagnostics) => {
                format!("{details} ({diagnostics})")
            }
            (Some(text), _) | (None, Some(text)) => text.to_owned(),
            (None, None) => return None,
        };
        match self.expression.first() {
            Some(place) if !text.contains(place.as_str()) => Some(format!("{place}: {text}")),
            _ => Some(text),
        }
    }
}

/// What an `OperationOutcome` says, in one line.
fn outcome_text(body: &Bytes) -> Option<String> {
    serde_json::from_slice::<OperationOutcome>(body).ok()?.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_in_one_line_with_its_place() {
        let body = Bytes::from_static(
            br#"{"resourceType":"OperationOutcome","issue":[
            {"severity":"warning","diagnostics":"odd"},
            {"severity":"error","diagnostics":"no such element","expression":["Bundle.entry[3].resource.foo"]},
            {"severity":"error","details":{"text":"two"},"diagnostics":"line 1, column 2"}]}"#,
        );
        assert_eq!(
            outcome_text(&body).unwrap(),
            "Bundle.entry[3].resource.foo: no such element; two (line 1, column 2)"
        );
        assert_eq!(outcome_text(&Bytes::from_static(b"<html>")), None);
    }

    #[test]
    fn a_location_names_type_and_id_however_it_is_written() {
        for text in ["Patient/1", "/Patient/1/", "http://h/fhir/Patient/1/_history/3-pac.x"] {
            assert_eq!(type_and_id(text).as_deref(), Some("Patient/1"), "{text}");
        }
        assert_eq!(type_and_id("1"), None);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_differ_between_keys() {
        let (one, two) = (Digest::of(&[b"1"]), Digest::of(&[b"2"]));
        assert!(pause_before(1, one) < pause_before(4, one));
        assert!(pause_before(60, one) <= LONGEST_PAUSE.mul_f64(1.25));
        assert_ne!(pause_before(2, one), pause_before(2, two));
    }
}
