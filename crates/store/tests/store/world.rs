//! This module makes feeds out of nothing: several origins decide about a few resources, each with
//! what it has heard of the others.

use std::collections::BTreeMap;

use bytes::Bytes;
use chartmesh_record::{
    ChangeSet, Cursor, Effect, EntryOutcome, Heads, Name, Origin, Place, RequestDigest, RequestId,
    ResourceKey, Seq, Timestamp, Version, VersionId,
};
use chartmesh_store::{Memory, Options, Run, Store};
use chartmesh_wire::Canonical;
use proptest::prelude::*;

/// How many origins there are; the last two are journals of one node.
pub(crate) const ORIGINS: usize = 4;
const RESOURCES: usize = 5;

/// One decision.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Who decides.
    who: usize,
    /// From whom it takes in everything before.
    hears: Option<usize>,
    writes: Vec<Write>,
}

#[derive(Clone, Debug)]
struct Write {
    resource: usize,
    deletes: bool,
    /// Which heads it supersedes, by place.
    supersedes: u8,
    identifier: u8,
}

pub(crate) fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let write = (0..RESOURCES, prop::bool::weighted(0.2), any::<u8>(), 0..4_u8).prop_map(
        |(resource, deletes, supersedes, identifier)| Write {
            resource,
            deletes,
            supersedes,
            identifier,
        },
    );
    let hears = prop::option::of(0..ORIGINS);
    let step = (0..ORIGINS, hears, prop::collection::vec(write, 1..4))
        .prop_map(|(who, hears, writes)| Step { who, hears, writes });
    prop::collection::vec(step, count)
}

/// Steps in which one origin writes single resources, for tests that need no variety.
pub(crate) fn plain_steps(count: usize) -> Vec<Step> {
    let write = |at: usize| Write {
        resource: at % RESOURCES,
        deletes: at % 7 == 6,
        supersedes: 0xff,
        identifier: (at % 4) as u8,
    };
    let step = |at: usize| Step { who: 0, hears: None, writes: vec![write(at), write(at + 2)] };
    (0..count).map(step).collect()
}

/// The feed of one origin.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) changes: Vec<Canonical>,
    /// The place after each change set; the first one is the start.
    pub(crate) places: Vec<Cursor>,
}

impl Feed {
    /// The run of these change sets.
    pub(crate) fn run(&self, range: std::ops::Range<usize>) -> Run {
        Run { extends: self.places[range.start].clone(), changes: self.changes[range].to_vec() }
    }
}

pub(crate) fn key(resource: usize) -> ResourceKey {
    let kind = ["Patient", "Observation"][resource % 2].parse().unwrap();
    ResourceKey { kind, id: format!("r{resource}").parse().unwrap() }
}

pub(crate) fn keys() -> impl Iterator<Item = ResourceKey> {
    (0..RESOURCES).map(key)
}

pub(crate) fn origin(who: usize) -> Origin {
    let name: Name = ["pac", "eur", "pac-1", "pac-1"][who].parse().unwrap();
    Origin::new(&name, 0x5851_f42d_4c95_7f2d_u64.wrapping_mul(who as u64 + 1))
}

/// What one origin knows.
#[derive(Clone, Default)]
struct Knowledge {
    heads: BTreeMap<ResourceKey, Heads>,
    heard: [usize; ORIGINS],
}

impl Knowledge {
    fn take(&mut self, change: &ChangeSet) {
        for version in &change.versions {
            let heads = self.heads.entry(version.key.clone()).or_default();
            heads.insert(version.head(&change.origin, change.request));
        }
    }
}

/// The feeds of all origins that these steps lead to.
pub(crate) fn feeds(steps: &[Step]) -> Vec<Feed> {
    let start = |who| Feed { changes: Vec::new(), places: vec![Cursor::start(origin(who))] };
    let mut feeds: Vec<Feed> = (0..ORIGINS).map(start).collect();
    let mut known = vec![Knowledge::default(); ORIGINS];
    for (number, step) in steps.iter().enumerate() {
        let knowledge = &mut known[step.who];
        if let Some(other) = step.hears.filter(|&other| other != step.who) {
            for change in &feeds[other].changes[knowledge.heard[other]..] {
                knowledge.take(change.change_set());
            }
            knowledge.heard[other] = feeds[other].changes.len();
        }
        let feed = &mut feeds[step.who];
        let last = feed.places.last().unwrap().clone();
        let change = Canonical::encode(decide(step, number, last.seq.next(), knowledge));
        knowledge.take(change.change_set());
        feed.places.push(last.extend(change.bytes()));
        feed.changes.push(change);
    }
    feeds
}

fn decide(step: &Step, number: usize, seq: Seq, knowledge: &Knowledge) -> ChangeSet {
    let origin = origin(step.who);
    let at = Timestamp(1_700_000_000_000 + 1000 * number as i64);
    let mut versions: BTreeMap<ResourceKey, Version> = BTreeMap::new();
    for write in &step.writes {
        let key = key(write.resource);
        let heads = knowledge.heads.get(&key).cloned().unwrap_or_default();
        let superseded: Vec<&VersionId> = heads
            .iter()
            .enumerate()
            .filter(|(place, _)| write.supersedes & (1 << (place % 8)) != 0)
            .map(|(_, head)| &head.version)
            .collect();
        let (generation, ancestry) = heads.successor(superseded);
        let version = VersionId { generation, origin: origin.clone() };
        let content = (!write.deletes).then(|| content(&key, &version, at, write.identifier));
        let conditional = !write.deletes && write.supersedes % 3 == 0;
        let criteria = conditional.then(|| format!("identifier=urn:a|{}", write.identifier % 2));
        let made = Version { key: key.clone(), generation, ancestry, criteria, content };
        versions.insert(key, made);
    }
    let versions: Vec<Version> = versions.into_values().collect();
    let entry = |version: &Version| EntryOutcome {
        effect: if version.content.is_none() { Effect::Deleted } else { Effect::Updated },
        key: Some(version.key.clone()),
        version: Some(version.id(&origin)),
    };
    let mut request = [0; 16];
    // Two origins that decide in turn answer the same request now and then.
    request[..8].copy_from_slice(&((number / 2) as u64).to_be_bytes());
    request[8] = u8::from(number % 8 > 1) * (number % 2) as u8;
    ChangeSet {
        seq,
        at,
        request: RequestId(request),
        digest: RequestDigest([7; 32]),
        client: None,
        place: Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
        entries: versions.iter().map(entry).collect(),
        origin,
        versions,
    }
}

/// The systems and values that [`content`] gives out, by its number.
pub(crate) const IDENTIFIERS: [&[(Option<&str>, &str)]; 4] = [
    &[],
    &[(Some("urn:a"), "1")],
    &[(Some("urn:b"), "1"), (None, "2")],
    &[(None, "1"), (Some("urn:a"), "1")],
];

fn content(key: &ResourceKey, version: &VersionId, at: Timestamp, identifier: u8) -> Bytes {
    let identifiers: Vec<String> = IDENTIFIERS[usize::from(identifier)]
        .iter()
        .map(|(system, value)| match system {
            Some(system) => format!(r#"{{"system":"{system}","value":"{value}"}}"#),
            None => format!(r#"{{"value":"{value}"}}"#),
        })
        .collect();
    let list = identifiers.join(",");
    let identifiers = if list.is_empty() { list } else { format!(r#","identifier":[{list}]"#) };
    format!(
        r#"{{"resourceType":"{}","id":"{}","meta":{{"versionId":"{version}","lastUpdated":"{at}"}}{identifiers}}}"#,
        key.kind, key.id
    )
    .into()
}

/// A directory for one test: in memory where that can be, since thousands of stores are opened.
pub(crate) fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// So many cases; what fails becomes a named test instead of a file.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

pub(crate) fn memory() -> Memory {
    Memory::new(8 << 20, 8 << 20)
}

pub(crate) fn open(dir: &std::path::Path) -> Store {
    Store::open(dir, Options::new(memory())).unwrap()
}
