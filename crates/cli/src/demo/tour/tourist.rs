//! This module is the client of a tour: it reads and writes records at any node, and understands what the
//! answers say of themselves.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use chartmesh_node::SystemRandom;
use chartmesh_record::Random as _;
use futures::stream::{self, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use crate::http::{Answer, Client};
use crate::mesh::Target;

/// How long an answer is waited for: longer than a region needs for a new leader.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many records are read back at one time.
const READS_AT_ONCE: usize = 16;

/// Somebody who writes and reads.
#[derive(Clone, Debug)]
pub(super) struct Tourist {
    pub(super) client: Client,
    /// Makes the keys of this tour its own.
    pub(super) tag: u64,
}

/// What a node has answered about one record.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// How long it took.
    pub(super) took: Duration,
    /// What the record is called: `Patient/1`.
    pub(super) reference: String,
    /// Its version: `3-pac.7h2k4m9qzx`.
    pub(super) version: String,
    /// The record.
    pub(super) body: Bytes,
    headers: HeaderMap,
}

/// A version that stands beside others, as `$conflicts` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: String,
    pub(super) node: String,
    pub(super) site: String,
    pub(super) at: String,
}

/// A conflict, as `$conflicts` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) kind: String,
    pub(super) resource: String,
    pub(super) heads: Vec<Head>,
}

impl Tourist {
    pub(super) fn new() -> Self {
        Self { client: Client::new(PATIENCE), tag: SystemRandom.bits() }
    }

    /// Writes a new record.
    pub(super) async fn create(&self, target: &Target, record: &Value) -> anyhow::Result<Reply> {
        let kind = record["resourceType"].as_str().unwrap_or_default();
        self.write(Method::POST, target, kind, record, None).await
    }

    /// Writes a new version of a record, of these versions if any are named.
    pub(super) async fn update(
        &self,
        target: &Target,
        record: &Value,
        if_match: Option<&str>,
    ) -> anyhow::Result<Reply> {
        let text = |key: &str| record[key].as_str().unwrap_or_default();
        let reference = format!("{}/{}", text("resourceType"), text("id"));
        self.write(Method::PUT, target, &reference, record, if_match).await
    }

    async fn write(
        &self,
        method: Method,
        target: &Target,
        below: &str,
        record: &Value,
        if_match: Option<&str>,
    ) -> anyhow::Result<Reply> {
        let mut headers = HeaderMap::new();
        if let Some(versions) = if_match {
            headers.insert(header::IF_MATCH, HeaderValue::try_from(versions)?);
        }
        let body = Bytes::from(record.to_string());
        let started = Instant::now();
        let sent = self.client.send(method, &target.fhir.join(below), headers, body).await;
        let answer = sent.with_context(|| format!("a write at {}", target.name))?;
        ensure!(
            answer.status.is_success(),
            "{} refused to write {below}: {}",
            target.name,
            said(&answer)
        );
        let reference = created(&answer).context("an answer does not name what it wrote")?;
        Ok(Reply::new(answer, reference, started.elapsed()))
    }

    /// Reads a record at one node.
    pub(super) async fn read(&self, target: &Target, reference: &str) -> anyhow::Result<Reply> {
        let started = Instant::now();
        let answer = self.client.get(&target.fhir.join(reference)).await?;
        let refused = || format!("{} refused to read {reference}: {}", target.name, said(&answer));
        ensure!(answer.status == StatusCode::OK, "{}", refused());
        Ok(Reply::new(answer, reference.to_owned(), started.elapsed()))
    }

    /// Whether a node has a record now.
    pub(super) async fn can_read(&self, target: &Target, reference: &str) -> bool {
        self.read(target, reference).await.is_ok()
    }

    /// Which of these a node does not have.
    pub(super) async fn missing(&self, target: &Target, references: &[String]) -> Vec<String> {
        let missing = async |reference: &String| {
            (!self.can_read(target, reference).await).then(|| reference.clone())
        };
        stream::iter(references)
            .map(missing)
            .buffer_unordered(READS_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// What stands beside each other of one record.
    pub(super) async fn conflicts(
        &self,
        target: &Target,
        reference: &str,
    ) -> anyhow::Result<Vec<Conflict>> {
        let url = target.fhir.join(&format!("{reference}/$conflicts"));
        let answer = self.client.get(&url).await?;
        ensure!(
            answer.status == StatusCode::OK,
            "{} does not list the conflicts of {reference}: {}",
            target.name,
            said(&answer)
        );
        let bundle: Value = serde_json::from_slice(&answer.body)?;
        let entries = bundle["entry"].as_array().into_iter().flatten();
        Ok(entries.map(|entry| Conflict::of(&entry["resource"])).collect())
    }
}

impl Reply {
    fn new(answer: Answer, reference: String, took: Duration) -> Self {
        let Answer { headers, body, .. } = answer;
        let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        let version = tag.trim_start_matches("W/").trim_matches('"').to_owned();
        Self { took, reference, version, body, headers }
    }

    /// Where the node stands: `region`, `isolated` or `starting`.
    pub(super) fn state(&self) -> &str {
        self.header("chartmesh-state")
    }

    /// What the write survives: `region`, `site;copies=2` or `node`.
    pub(super) fn durability(&self) -> &str {
        self.header("chartmesh-durability")
    }

    /// All versions that stand beside each other; nothing if there is one.
    pub(super) fn conflict(&self) -> &str {
        self.header("chartmesh-conflict")
    }

    /// How fresh the node's copy is, in words.
    pub(super) fn as_of(&self) -> String {
        as_of_in_words(self.header("chartmesh-as-of"))
    }

    /// Whether the answer says of this region or node how fresh the copy is of it.
    pub(super) fn names(&self, name: &str) -> bool {
        entries(self.header("chartmesh-as-of")).any(|(known, _)| known == name)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Conflict {
    fn of(parameters: &Value) -> Self {
        Self {
            kind: text(parameters, "kind"),
            resource: text(parameters, "resource"),
            heads: named(parameters, "parameter", "head").map(Head::of).collect(),
        }
    }
}

impl Head {
    fn of(head: &Value) -> Self {
        let part = |name: &str| {
            let part = named(head, "part", name).next();
            part.map(value_of).unwrap_or_default()
        };
        Self {
            version: part("versionId"),
            node: part("node"),
            site: part("site"),
            at: part("lastUpdated"),
        }
    }
}

fn named<'v>(of: &'v Value, list: &str, name: &str) -> impl Iterator<Item = &'v Value> {
    let list = of[list].as_array().into_iter().flatten();
    list.filter(move |parameter| parameter["name"] == name)
}

fn text(parameters: &Value, name: &str) -> String {
    named(parameters, "parameter", name).next().map(value_of).unwrap_or_default()
}

/// The value of a parameter, whatever its type.
fn value_of(parameter: &Value) -> String {
    let members = parameter.as_object().into_iter().flatten();
    let value = members.filter(|(key, _)| key.starts_with("value")).map(|(_, value)| value).next();
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(reference)) => {
            reference.get("reference").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        other => other.map(ToString::to_string).unwrap_or_default(),
    }
}

/// The entries of a `Chartmesh-As-Of`, with their ages where they are known.
fn entries(header: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    header.split(", ").filter_map(|entry| {
        let (name, value) = entry.split_once('=')?;
        Some((name, value.split_once(";age=").map(|(_, age)| age)))
    })
}

/// `pac="2026-11-21T20:00:01.204Z";age=0.7, eur=?0` as `pac 0.7 s ago, eur never`.
fn as_of_in_words(header: &str) -> String {
    let words = entries(header).map(|(name, age)| match age {
        None => format!("{name} never"),
        Some(age) if age.parse() == Ok(0.0) => format!("{name} now"),
        Some(age) => format!("{name} {age} s ago"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What an answer says was written: `Patient/1` out of its `Location`.
pub(super) fn created(answer: &Answer) -> Option<String> {
    let location = answer.headers.get(header::LOCATION)?.to_str().ok()?;
    let (resource, _) = location.split_once("/_history/")?;
    let (rest, id) = resource.rsplit_once('/')?;
    let kind = rest.rsplit_once('/').map_or(rest, |(_, kind)| kind);
    Some(format!("{kind}/{id}"))
}

/// What an answer says, cut short.
pub(super) fn said(answer: &Answer) -> String {
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
    format!("{} {text}", answer.status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_location_names_what_was_created() {
        let check = |location: &str, expect: Option<&str>| {
            let headers = HeaderMap::from_iter([(
                header::LOCATION,
                HeaderValue::try_from(location).unwrap(),
            )]);
            let answer = Answer { status: StatusCode::CREATED, headers, body: Bytes::new() };
            assert_eq!(created(&answer).as_deref(), expect, "{location}");
        };
        check("http://h:1/fhir/Patient/a/_history/1-pac.0000000000", Some("Patient/a"));
        check("Patient/a/_history/1", Some("Patient/a"));
        check("http://h:1/fhir/Patient", None);
    }

    #[test]
    fn freshness_is_told_in_words() {
        let header = r#"pac="2026-11-21T20:00:01.204Z";age=0.7, eur=?0, pac-1="2026-11-21T20:00:01.204Z";age=0.0"#;

        assert_eq!(as_of_in_words(header), "pac 0.7 s ago, eur never, pac-1 now");
        assert_eq!(as_of_in_words(""), "");
    }

    #[test]
    fn a_conflict_is_understood() {
        let head = |version: &str, node: &str| {
            json!({"name": "head", "part": [
                {"name": "versionId", "valueId": version},
                {"name": "absent", "valueBoolean": false},
                {"name": "node", "valueString": node},
                {"name": "site", "valueString": "naples"},
                {"name": "lastUpdated", "valueInstant": "2026-11-21T20:00:01.204Z"},
            ]})
        };
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "kind", "valueCode": "update"},
            {"name": "resource", "valueReference": {"reference": "Patient/a"}},
            head("2-eur.7h2k4m9qzx", "eur-1"),
            head("2-eur-2.x9d2fq71be", "eur-2"),
        ]});

        let conflict = Conflict::of(&parameters);

        assert_eq!((&*conflict.kind, &*conflict.resource), ("update", "Patient/a"));
        let heads: Vec<_> =
            conflict.heads.iter().map(|head| (&*head.version, &*head.node)).collect();
        assert_eq!(heads, [("2-eur.7h2k4m9qzx", "eur-1"), ("2-eur-2.x9d2fq71be", "eur-2")]);
        assert_eq!(conflict.heads[0].at, "2026-11-21T20:00:01.204Z");
    }
}
