//! This module makes change sets and parts of commands for tests.

use bytes::Bytes;
use chartmesh_record::{
    Ancestry, ChangeSet, Criteria, Effect, EntryOutcome, Generation, Name, Origin, Place,
    RequestDigest, RequestId, ResourceKey, ResourceType, Seq, Timestamp, Version, VersionId,
};
use proptest::prelude::*;

/// A change set with one of everything.
pub(crate) fn sample() -> ChangeSet {
    let origin: Origin = "pac.7h2k4m9qzx".parse().unwrap();
    let other: VersionId = "2-eur-1.x9d2fq71be".parse().unwrap();
    let key =
        |text: &str| ResourceKey { kind: "Patient".parse().unwrap(), id: text.parse().unwrap() };
    let created = Version {
        key: key("new"),
        generation: Generation(1),
        ancestry: Ancestry::default(),
        criteria: Some("identifier=urn:a|1".to_owned()),
        content: Some(Bytes::from_static(br#"{"resourceType":"Patient","id":"new"}"#)),
    };
    let deleted = Version {
        key: key("old"),
        generation: Generation(3),
        ancestry: Ancestry {
            seen: [(origin.clone(), Generation(1)), (other.origin.clone(), Generation(2))].into(),
            kept: [other.clone()].into(),
        },
        criteria: None,
        content: None,
    };
    let entry = |effect, about: Option<About>| EntryOutcome {
        effect,
        key: about.as_ref().map(|(key, _)| key.clone()),
        version: about.and_then(|(_, version)| version),
    };
    ChangeSet {
        seq: Seq(300),
        at: Timestamp(1_795_291_201_204),
        request: RequestId([0x11; 16]),
        digest: RequestDigest([0x22; 32]),
        client: Some("clinic".to_owned()),
        place: Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
        entries: vec![
            entry(Effect::Created, Some((key("new"), Some(created.id(&origin))))),
            entry(Effect::Deleted, Some((key("old"), Some(deleted.id(&origin))))),
            entry(Effect::Found, Some((key("there"), Some(other)))),
            entry(Effect::Read, Some((key("there"), None))),
            entry(Effect::NothingToDelete, None),
        ],
        origin,
        versions: vec![created, deleted],
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn names() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,23}"
}

pub(crate) fn keys() -> impl Strategy<Value = ResourceKey> {
    let kinds = ResourceType::all().collect::<Vec<_>>();
    (prop::sample::select(kinds), "[A-Za-z0-9.-]{1,64}")
        .prop_map(|(kind, id)| ResourceKey { kind, id: id.parse().unwrap() })
}

pub(crate) fn criteria() -> impl Strategy<Value = Criteria> {
    let kind: ResourceType = "Patient".parse().unwrap();
    prop_oneof!["_id=[a-z]{1,5}", "identifier=[a-z]{0,3}%7C[a-z]{1,5}", "identifier=[a-z,]{0,2}x"]
        .prop_filter_map("not criteria", move |query| Criteria::parse(kind, &query).ok())
}

fn origins() -> impl Strategy<Value = Origin> {
    (names(), any::<u64>()).prop_map(|(name, tag)| {
        let name: Name = name.parse().unwrap();
        Origin::new(&name, tag)
    })
}

fn versions() -> impl Strategy<Value = VersionId> {
    (1..u64::MAX, origins())
        .prop_map(|(generation, origin)| VersionId { generation: Generation(generation), origin })
}

fn new_versions() -> impl Strategy<Value = Version> {
    let seen = prop::collection::btree_map(origins(), 1..u64::MAX, 0..3);
    let kept = prop::collection::btree_set(versions(), 0..3);
    let content = prop::option::of(".{0,40}");
    (keys(), 1..u64::MAX, seen, kept, prop::option::of(".{0,9}"), content).prop_map(
        |(key, generation, seen, kept, criteria, content)| {
            let seen = seen.into_iter().map(|(origin, last)| (origin, Generation(last))).collect();
            Version {
                key,
                generation: Generation(generation),
                ancestry: Ancestry { seen, kept },
                criteria,
                content: content.map(Bytes::from),
            }
        },
    )
}

/// A resource, and one of its versions.
type About = (ResourceKey, Option<VersionId>);

/// What an entry is about: a version of the change set by its number, or another, or nothing.
fn entries() -> impl Strategy<Value = (Effect, Option<usize>, Option<About>)> {
    let effect = prop::sample::select(vec![
        Effect::Created,
        Effect::Updated,
        Effect::Found,
        Effect::Deleted,
        Effect::NothingToDelete,
        Effect::Read,
    ]);
    let other = prop::option::of((keys(), prop::option::of(versions())));
    (effect, prop::option::of(0..4_usize), other)
}

pub(crate) fn change_sets() -> impl Strategy<Value = ChangeSet> {
    let ids = any::<(u64, i64, [u8; 16], [u8; 32])>();
    let who = (prop::option::of(".{0,9}"), names(), names());
    let versions = prop::collection::vec(new_versions(), 0..4);
    let entries = prop::collection::vec(entries(), 0..5);
    (origins(), ids, who, versions, entries).prop_map(
        |(origin, (seq, at, request, digest), (client, node, site), mut versions, entries)| {
            versions.sort_by(|a, b| a.key.cmp(&b.key));
            versions.dedup_by(|a, b| a.key == b.key);
            let entries = entries.into_iter().map(|(effect, made, other)| {
                let made = made.and_then(|place| versions.get(place));
                let made = made.map(|it| (it.key.clone(), Some(it.id(&origin))));
                let about = made.or(other);
                EntryOutcome {
                    effect,
                    key: about.as_ref().map(|(key, _)| key.clone()),
                    version: about.and_then(|(_, version)| version),
                }
            });
            ChangeSet {
                seq: Seq(seq.max(1)),
                at: Timestamp(at),
                request: RequestId(request),
                digest: RequestDigest(digest),
                client,
                place: Place { node: node.parse().unwrap(), site: site.parse().unwrap() },
                entries: entries.collect(),
                versions,
                origin,
            }
        },
    )
}
