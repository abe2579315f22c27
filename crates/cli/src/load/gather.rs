//! This module sorts what the sources hold into units, in the order in which references need them.
//!
//! What others refer to by search (`Practitioner?identifier=...`) must be there first, so the
//! sources are read in passes, one per [`Stage`]; the first pass also notes which file holds what,
//! so that the second opens only those that matter to it. Memory holds one document and one open
//! group per stage, however large the sources are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::document::{Document, Documents, Unreadable, is_ndjson};
use super::json;
use super::limits::{GROUP_BYTES, GROUP_RESOURCES};
use super::source::{Broken, file_name};
use super::unit::{Asked, At, Item, Place, Unit, Verb};

/// When something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// What the rest refers to: organizations, practitioners, places, patients.
    Foundations,
    /// Everything else.
    Rest,
}

/// The types that others refer to.
const FOUNDATIONS: [&str; 14] = [
    "Device",
    "Endpoint",
    "Group",
    "HealthcareService",
    "InsurancePlan",
    "Location",
    "Medication",
    "Organization",
    "Patient",
    "Person",
    "Practitioner",
    "PractitionerRole",
    "RelatedPerson",
    "Substance",
];

impl Stage {
    fn of_kind(kind: &str) -> Self {
        if FOUNDATIONS.contains(&kind) { Self::Foundations } else { Self::Rest }
    }

    /// A bundle says by its name that others need it: `0-...`, `hospitalInformation...`.
    fn of_bundle(file: &str) -> Self {
        let name = file_name(file).to_ascii_lowercase();
        let needed = name.starts_with("0-")
            || ["hospital", "practitioner", "organization"].iter().any(|word| name.contains(word));
        if needed { Self::Foundations } else { Self::Rest }
    }
}

/// What one reading of the sources looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The units of one stage, and what cannot be used.
    Stage(Stage),
    /// The units of all stages once more, grouped as before.
    Again,
}

/// Something in the sources.
#[derive(Debug)]
pub(super) enum Found {
    /// What is to be sent.
    Unit(Unit),
    /// What was meant to be loaded and cannot be.
    Unusable {
        /// Where it is.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that holds no FHIR.
    Foreign {
        /// The file.
        file: String,
        /// What it is instead.
        reason: String,
    },
}

/// What a file holds, as the first pass saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holding {
    foundations: bool,
    rest: bool,
}

impl Holding {
    fn add(&mut self, stage: Stage) {
        match stage {
            Stage::Foundations => self.foundations = true,
            Stage::Rest => self.rest = true,
        }
    }

    fn has(self, pass: Pass) -> bool {
        match pass {
            Pass::Stage(Stage::Foundations) => self.foundations,
            Pass::Stage(Stage::Rest) => self.rest,
            Pass::Again => self.foundations || self.rest,
        }
    }
}

/// What the passes know of the files.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey(HashMap<String, Holding>);

impl Survey {
    /// Whether a file is worth opening.
    pub(super) fn wants(&self, file: &str, pass: Pass) -> bool {
        self.0.get(file).is_none_or(|holding| holding.has(pass))
    }
}

/// How bundles are treated that are records of their own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bundles {
    /// Transactions and batches are executed, collections and the like taken apart, documents and
    /// messages stored.
    Unpacked,
    /// Every bundle is stored as a `Bundle` resource.
    Stored,
}

/// Gathers units in one pass and hands them on.
pub(super) struct Gatherer<'a> {
    pass: Pass,
    bundles: Bundles,
    survey: &'a mut Survey,
    open: [OpenGroup; 2],
    emit: &'a mut dyn FnMut(Found) -> ControlFlow<()>,
}

#[derive(Default)]
struct OpenGroup {
    items: Vec<Item>,
    keys: HashSet<(String, String)>,
    bytes: usize,
}

/// The members by which a resource is sorted. Parsing them also finds any error of JSON syntax.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(rename = "resourceType", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

/// A file while it is read.
struct Leaf {
    file: Arc<str>,
    /// The stage of all of it, where its name and its first bytes tell.
    stage: Option<Stage>,
    holding: Holding,
}

impl<'a> Gatherer<'a> {
    /// A gatherer for one pass.
    pub(super) fn new(
        pass: Pass,
        bundles: Bundles,
        survey: &'a mut Survey,
        emit: &'a mut dyn FnMut(Found) -> ControlFlow<()>,
    ) -> Self {
        Self { pass, bundles, survey, open: Default::default(), emit }
    }

    /// Sorts one file.
    pub(super) fn file(&mut self, file: &str, reader: &mut dyn Read) -> ControlFlow<()> {
        if !self.survey.wants(file, self.pass) {
            return ControlFlow::Continue(());
        }
        let mut documents = Documents::new(file, reader);
        let stage = documents.head().ok().and_then(|head| self.stage_by_looks(file, head));
        let mut leaf = Leaf { file: file.into(), stage, holding: Holding::default() };
        if let Some(stage) = stage {
            leaf.holding.add(stage);
        }
        let flow = if stage.is_none() || leaf.holding.has(self.pass) {
            self.documents(&mut leaf, documents)
        } else {
            ControlFlow::Continue(())
        };
        self.survey.0.insert(file.to_owned(), leaf.holding);
        flow
    }

    /// Notes that an input cannot be read to its end.
    pub(super) fn broken(&mut self, broken: Broken) -> ControlFlow<()> {
        let place = Place { file: broken.name.into(), at: At::Whole };
        self.unusable(Stage::Rest, place, format!("cannot be read further: {}", broken.source))
    }

    /// Hands on what is still open.
    pub(super) fn finish(mut self) -> ControlFlow<()> {
        self.flush(Stage::Foundations)?;
        self.flush(Stage::Rest)
    }

    fn documents(&mut self, leaf: &mut Leaf, documents: Documents<'_>) -> ControlFlow<()> {
        for (number, document) in documents.enumerate() {
            let document = match document {
                Ok(document) => document,
                Err(Unreadable::NotJson) => {
                    return self.foreign(leaf, "not JSON");
                }
                Err(error) => {
                    leaf.holding.add(leaf.stage.unwrap_or(Stage::Rest));
                    return self.reject(leaf, None, error.to_string());
                }
            };
            let line = document.line;
            let header: Header<'_> = match serde_json::from_slice(&document.text) {
                Ok(header) => header,
                Err(error) => {
                    self.reject(leaf, line, format!("not a resource in JSON: {error}"))?;
                    continue;
                }
            };
            let (kind, id) = (header.kind.map(Cow::into_owned), header.id.map(Cow::into_owned));
            match kind {
                Some(kind) if kind == "Bundle" && self.bundles == Bundles::Unpacked => {
                    self.bundle(leaf, &document, id)?;
                }
                Some(kind) => self.resource(leaf, document, kind, id)?,
                None if number == 0 => {
                    return self
                        .foreign(leaf, "JSON, but no FHIR resource: it has no resourceType");
                }
                None => self.reject(leaf, line, "no resourceType".to_owned())?,
            }
        }
        ControlFlow::Continue(())
    }

    fn resource(
        &mut self,
        leaf: &mut Leaf,
        document: Document,
        kind: String,
        id: Option<String>,
    ) -> ControlFlow<()> {
        let place = leaf.place(document.line);
        let stage = leaf.stage.unwrap_or_else(|| Stage::of_kind(&kind));
        leaf.holding.add(stage);
        let item = Item { place, kind, id, full_url: None, text: document.text };
        if item.kind == "Bundle" {
            self.unit(stage, Unit::single(item))
        } else {
            self.item(stage, item)
        }
    }

    fn bundle(
        &mut self,
        leaf: &mut Leaf,
        document: &Document,
        id: Option<String>,
    ) -> ControlFlow<()> {
        let place = leaf.place(document.line);
        let stage = leaf.stage.unwrap_or_else(|| Stage::of_bundle(&leaf.file));
        let text = &document.text;
        let kind = json::text_member(text, "type");
        match kind.as_deref() {
            Some("transaction" | "batch") => {
                leaf.holding.add(stage);
                self.unit(stage, Unit::bundle(place, text.clone(), asked(text)))
            }
            Some("collection" | "searchset" | "history") => self.take_apart(leaf, place, text),
            Some("document" | "message") => {
                leaf.holding.add(stage);
                let kind = "Bundle".to_owned();
                let item = Item { place, kind, id, full_url: None, text: text.clone() };
                self.unit(stage, Unit::single(item))
            }
            Some("transaction-response" | "batch-response") => {
                self.foreign(leaf, "a server's answer: it holds nothing to load")
            }
            Some(other) => {
                self.reject(leaf, document.line, format!("{other:?} is no type of bundle"))
            }
            None => self.reject(leaf, document.line, "a bundle without a type".to_owned()),
        }
    }

    /// Sends the resources of a bundle one by one; all together where they name each other by
    /// `urn:uuid`. Of several versions the first counts: a history begins with the newest.
    fn take_apart(&mut self, leaf: &mut Leaf, place: Place, bundle: &Bytes) -> ControlFlow<()> {
        let mut items = Vec::new();
        let mut keys = HashSet::new();
        for (number, entry) in
            json::elements(json::member(bundle, "entry").unwrap_or(b"[]")).enumerate()
        {
            let Some(resource) = json::member(entry, "resource") else { continue };
            let mode = json::member(entry, "search").and_then(|s| json::text_member(s, "mode"));
            if mode.as_deref() == Some("outcome") {
                continue;
            }
            let Some(kind) = json::text_member(resource, "resourceType") else {
                let place = Place { file: place.file.clone(), at: At::Entry(number) };
                self.unusable(Stage::Rest, place, "no resourceType".to_owned())?;
                leaf.holding.add(Stage::Rest);
                continue;
            };
            let id = json::text_member(resource, "id");
            if id.as_ref().is_some_and(|id| !keys.insert((kind.clone(), id.clone()))) {
                continue;
            }
            items.push(Item {
                place: Place { file: place.file.clone(), at: At::Entry(number) },
                full_url: json::text_member(entry, "fullUrl").filter(|url| url.starts_with("urn:")),
                text: bundle.slice_ref(resource),
                kind,
                id,
            });
        }
        if items.iter().any(|item| item.full_url.is_some()) {
            let stage = leaf.stage.unwrap_or_else(|| Stage::of_bundle(&leaf.file));
            leaf.holding.add(stage);
            return self.unit(stage, Unit::bound(place, &items));
        }
        items.into_iter().try_for_each(|item| {
            let stage = leaf.stage.unwrap_or_else(|| Stage::of_kind(&item.kind));
            leaf.holding.add(stage);
            self.item(stage, item)
        })
    }

    fn item(&mut self, stage: Stage, item: Item) -> ControlFlow<()> {
        if !self.looks_for(stage) {
            return ControlFlow::Continue(());
        }
        let group = &self.open[stage as usize];
        let key = item.id.clone().map(|id| (item.kind.clone(), id));
        let full = group.items.len() >= GROUP_RESOURCES
            || group.bytes + item.text.len() > GROUP_BYTES
            || key.as_ref().is_some_and(|key| group.keys.contains(key));
        if full {
            self.flush(stage)?;
        }
        let group = &mut self.open[stage as usize];
        group.bytes += item.text.len();
        group.keys.extend(key);
        group.items.push(item);
        ControlFlow::Continue(())
    }

    fn flush(&mut self, stage: Stage) -> ControlFlow<()> {
        let group = std::mem::take(&mut self.open[stage as usize]);
        if group.items.is_empty() {
            return ControlFlow::Continue(());
        }
        self.unit(stage, Unit::group(group.items))
    }

    fn unit(&mut self, stage: Stage, unit: Unit) -> ControlFlow<()> {
        if self.looks_for(stage) {
            (self.emit)(Found::Unit(unit))
        } else {
            ControlFlow::Continue(())
        }
    }

    fn reject(&mut self, leaf: &mut Leaf, line: Option<u64>, reason: String) -> ControlFlow<()> {
        let stage = leaf.stage.unwrap_or(Stage::Rest);
        leaf.holding.add(stage);
        self.unusable(stage, leaf.place(line), reason)
    }

    fn unusable(&mut self, stage: Stage, place: Place, reason: String) -> ControlFlow<()> {
        if self.pass == Pass::Stage(stage) {
            (self.emit)(Found::Unusable { place, reason })
        } else {
            ControlFlow::Continue(())
        }
    }

    /// A foreign file is told of in the first pass; as it holds nothing, no other opens it.
    fn foreign(&mut self, leaf: &Leaf, reason: &str) -> ControlFlow<()> {
        if self.pass == Pass::Stage(Stage::Foundations) {
            (self.emit)(Found::Foreign { file: leaf.file.to_string(), reason: reason.to_owned() })
        } else {
            ControlFlow::Continue(())
        }
    }

    fn looks_for(&self, stage: Stage) -> bool {
        self.pass == Pass::Again || self.pass == Pass::Stage(stage)
    }

    /// The stage of a whole file, where its name and its first bytes tell it: NDJSON named for the
    /// type that it begins with (`Patient.000.ndjson`), and bundles to be executed.
    fn stage_by_looks(&self, file: &str, head: &[u8]) -> Option<Stage> {
        let kind = first_text(head, "resourceType")?;
        if is_ndjson(file) {
            let rest = file_name(file).strip_prefix(kind)?;
            let named = !rest.starts_with(|next: char| next.is_ascii_alphabetic());
            return (named && kind != "Bundle").then(|| Stage::of_kind(kind));
        }
        let before_entries = head.windows(7).position(|part| part == b"\"entry\"")?;
        let executed = kind == "Bundle"
            && self.bundles == Bundles::Unpacked
            && matches!(first_text(&head[..before_entries], "type")?, "transaction" | "batch");
        executed.then(|| Stage::of_bundle(file))
    }
}

impl Leaf {
    fn place(&self, line: Option<u64>) -> Place {
        Place { file: self.file.clone(), at: line.map_or(At::Whole, At::Line) }
    }
}

/// The first text that follows this name, wherever it stands: a guess that decides about order only.
fn first_text<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let quoted = format!("\"{name}\"");
    let at = head.windows(quoted.len()).position(|part| part == quoted.as_bytes())?;
    let after = &head[at + quoted.len()..];
    let begin = after.iter().position(|byte| *byte == b'"')? + 1;
    let length = after[begin..].iter().position(|byte| *byte == b'"')?;
    str::from_utf8(&after[begin..begin + length]).ok()
}

/// What the entries of a transaction or batch ask for.
fn asked(bundle: &[u8]) -> Vec<Asked> {
    let entries = json::member(bundle, "entry").unwrap_or(b"[]");
    let of_entry = |entry: &[u8]| {
        let request = json::member(entry, "request").unwrap_or(b"{}");
        let url = json::text_member(request, "url").unwrap_or_default();
        let kind = url.split(['/', '?']).next().unwrap_or_default().to_owned();
        let verb = match json::text_member(request, "method").as_deref() {
            Some("POST") => Verb::Post,
            Some("PUT") => Verb::Put,
            _ => Verb::Other,
        };
        Asked { verb, kind }
    };
    json::elements(entries).map(of_entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one pass after the other finds in these files, as text.
    fn gather(bundles: Bundles, files: &[(&str, &str)]) -> Vec<String> {
        let mut survey = Survey::default();
        let mut found = Vec::new();
        for pass in [Pass::Stage(Stage::Foundations), Pass::Stage(Stage::Rest)] {
            let mut emit = |what: Found| {
                found.push(told(&what));
                ControlFlow::Continue(())
            };
            let mut gatherer = Gatherer::new(pass, bundles, &mut survey, &mut emit);
            for (name, content) in files {
                let _ = gatherer.file(name, &mut content.as_bytes());
            }
            assert!(gatherer.finish().is_continue());
        }
        found
    }

    fn told(found: &Found) -> String {
        match found {
            Found::Unit(unit) => {
                let kinds = (0..unit.entries()).filter_map(|entry| unit.asked(entry));
                let kinds: Vec<_> =
                    kinds.map(|asked| format!("{:?} {}", asked.verb, asked.kind)).collect();
                format!("{}: {}", unit.place(), kinds.join(", "))
            }
            Found::Unusable { place, reason } => format!("{place} unusable: {reason}"),
            Found::Foreign { file, reason } => format!("{file} foreign: {reason}"),
        }
    }

    const PATIENT: &str = r#"{"resourceType":"Patient","id":"p"}"#;
    const OBSERVATION: &str = r#"{"resourceType":"Observation","id":"o"}"#;

    #[test]
    fn what_others_refer_to_comes_first_whatever_the_order_of_the_files() {
        let transaction = r#"{"resourceType":"Bundle","type":"transaction","entry":[
            {"request":{"method":"POST","url":"Claim"}},{"request":{"method":"PUT","url":"Patient?identifier=1"}}]}"#;
        let mixed = format!("{OBSERVATION}\n{PATIENT}\n");
        let files = [
            ("d/Observation.ndjson", OBSERVATION),
            ("b.json", transaction),
            ("0-all.json", transaction),
            ("hospitalInformation16.json", transaction),
            ("mixed.ndjson", mixed.as_str()),
            ("Patient.000.ndjson", PATIENT),
        ];

        let expected = [
            "0-all.json: Post Claim, Put Patient",
            "hospitalInformation16.json: Post Claim, Put Patient",
            "mixed.ndjson, line 2: Put Patient",
            "Patient.000.ndjson, line 1: Put Patient",
            "b.json: Post Claim, Put Patient",
            "d/Observation.ndjson, line 1: Put Observation",
            "mixed.ndjson, line 1: Put Observation",
        ];
        let mut found = gather(Bundles::Unpacked, &files);
        found[..4].sort();
        found[4..].sort();
        let mut sorted = expected.map(ToOwned::to_owned);
        sorted[..4].sort();
        sorted[4..].sort();
        assert_eq!(found, sorted);
    }

    #[test]
    fn loose_resources_share_a_group_unless_one_comes_twice() {
        let files = [
            ("a.json", OBSERVATION),
            ("b.json", r#"{"resourceType":"Basic"}"#),
            ("c.json", OBSERVATION),
        ];
        assert_eq!(
            gather(Bundles::Unpacked, &files),
            ["a.json: Put Observation, Post Basic", "c.json: Put Observation"]
        );
    }

    #[test]
    fn a_group_ends_at_its_limits() {
        let line = |id: usize| format!("{{\"resourceType\":\"Basic\",\"id\":\"{id}\"}}\n");
        let lines: String = (0..GROUP_RESOURCES + 1).map(line).collect();
        let found = gather(Bundles::Unpacked, &[("Basic.ndjson", &lines)]);
        assert_eq!(found.len(), 2);
        assert!(found[1].starts_with("Basic.ndjson, line 251:"), "{}", found[1]);

        let long = "x".repeat(GROUP_BYTES / 2);
        let line = |id: usize| {
            format!("{{\"resourceType\":\"Basic\",\"id\":\"{id}\",\"x\":\"{long}\"}}\n")
        };
        let lines: String = (0..3).map(line).collect();
        assert_eq!(gather(Bundles::Unpacked, &[("Basic.ndjson", &lines)]).len(), 3);
    }

    #[test]
    fn bundles_are_executed_taken_apart_or_stored_by_their_type() {
        let collection = format!(
            r#"{{"resourceType":"Bundle","type":"searchset","entry":[{{"resource":{OBSERVATION}}},
            {{"resource":{{"resourceType":"OperationOutcome"}},"search":{{"mode":"outcome"}}}},
            {{"resource":{PATIENT}}}]}}"#
        );
        let bound = format!(
            r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"fullUrl":"urn:uuid:1","resource":{OBSERVATION}}},
            {{"fullUrl":"http://a/Patient/p","resource":{PATIENT}}}]}}"#
        );
        let document = r#"{"resourceType":"Bundle","id":"d","type":"document","entry":[]}"#;
        let answer = r#"{"resourceType":"Bundle","type":"batch-response"}"#;
        let files = [
            ("s.json", collection.as_str()),
            ("c.json", &bound),
            ("d.json", document),
            ("r.json", answer),
        ];

        assert_eq!(
            gather(Bundles::Unpacked, &files),
            [
                "r.json foreign: a server's answer: it holds nothing to load",
                "s.json, entry[2]: Put Patient",
                "c.json: Put Observation, Put Patient",
                "d.json: Put Bundle",
                "s.json, entry[0]: Put Observation",
            ]
        );
        assert_eq!(
            gather(Bundles::Stored, &files[2..]),
            ["d.json: Put Bundle", "r.json: Post Bundle"]
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_once_and_the_rest_goes_on() {
        let lines =
            format!("{PATIENT}\n{{\"resourceType\":\"Patient\",\n{{\"id\":\"x\"}}\n{PATIENT}\n");
        let files = [
            ("Patient.ndjson", lines.as_str()),
            ("cut.json", "{\"resourceType\":\"Patient\",\n\"id\":"),
            ("README.md", "# About"),
            ("package.json", "{\"name\":\"x\"}"),
        ];

        let found = gather(Bundles::Unpacked, &files);

        assert_eq!(found.len(), 7, "{found:#?}");
        assert!(found[0].starts_with("Patient.ndjson, line 2 unusable: not a resource in JSON: "));
        assert_eq!(found[1], "Patient.ndjson, line 3 unusable: no resourceType");
        assert_eq!(found[2], "Patient.ndjson, line 1: Put Patient");
        assert_eq!(found[3], "README.md foreign: not JSON");
        assert!(found[4].starts_with("package.json foreign: "));
        assert_eq!(found[5], "Patient.ndjson, line 4: Put Patient");
        assert!(
            found[6].starts_with("cut.json unusable: not a resource in JSON: EOF"),
            "{}",
            found[6]
        );
    }
}
