//! This module says what a store must answer, from a list of what it was given.

use std::collections::{BTreeMap, BTreeSet};

use chartmesh_record::{
    ChangeSet, Criteria, Head, Heads, Origin, RequestId, ResourceId, ResourceKey, View,
};
use chartmesh_store::{Conflict, ConflictKind, ConflictScope, Count, Counts, Store, StoredVersion};
use chartmesh_wire::Canonical;

use crate::world::{IDENTIFIERS, keys};

/// All change sets that were applied.
#[derive(Debug, Default)]
pub(crate) struct Model {
    changes: Vec<Canonical>,
}

/// Whether a resource matches criteria of `_id` and `identifier`, read as the specification says.
fn is_meant(criteria: &Criteria, id: &ResourceId, content: &[u8]) -> bool {
    let resource: serde_json::Value = serde_json::from_slice(content).unwrap();
    let identifiers = resource["identifier"].as_array().cloned().unwrap_or_default();
    let has = |token: &str| {
        let (system, value) = token.split_once('|').map_or((None, token), |(s, v)| (Some(s), v));
        identifiers.iter().any(|it| {
            let of = it["system"].as_str().unwrap_or_default();
            system.is_none_or(|system| system == of) && (value.is_empty() || it["value"] == value)
        })
    };
    criteria.parameters().all(|(name, value)| match name {
        "_id" => value.split(',').any(|one| one == id.as_str()),
        _ => value.split(',').any(has),
    })
}

impl Model {
    pub(crate) fn take(&mut self, change: Canonical) {
        self.changes.push(change);
    }

    fn sets(&self) -> impl Iterator<Item = &ChangeSet> {
        self.changes.iter().map(Canonical::change_set)
    }

    /// All versions of a resource, newest first.
    fn versions(&self, key: &ResourceKey) -> Vec<(StoredVersion, Head)> {
        let mut versions: Vec<(StoredVersion, Head)> = self
            .sets()
            .flat_map(|set| set.versions.iter().map(move |version| (set, version)))
            .filter(|(_, version)| version.key == *key)
            .map(|(set, version)| {
                let stored = StoredVersion {
                    version: version.id(&set.origin),
                    at: set.at,
                    content: version.content.clone(),
                };
                (stored, version.head(&set.origin, set.request))
            })
            .collect();
        versions.sort_by(|(a, _), (b, _)| b.version.cmp(&a.version));
        versions
    }

    fn heads(&self, key: &ResourceKey) -> Heads {
        Heads::of(self.versions(key).into_iter().map(|(_, head)| head))
    }

    fn current(&self, key: &ResourceKey) -> Option<StoredVersion> {
        let current = self.heads(key).current()?.version.clone();
        self.versions(key).into_iter().map(|(stored, _)| stored).find(|it| it.version == current)
    }

    fn matches(&self, criteria: &Criteria) -> Vec<ResourceId> {
        let mut found: Vec<ResourceId> = keys()
            .filter(|key| key.kind == criteria.kind())
            .filter(|key| {
                let content = self.current(key).and_then(|current| current.content);
                content.is_some_and(|it| is_meant(criteria, &key.id, &it))
            })
            .map(|key| key.id)
            .collect();
        found.sort();
        found
    }

    fn counts(&self) -> Counts {
        let mut types: BTreeMap<_, Count> = BTreeMap::new();
        for change in &self.changes {
            for (version, piece) in change.change_set().versions.iter().zip(change.pieces()) {
                let count = types.entry(version.key.kind).or_default();
                count.versions += 1;
                count.bytes += piece.len() as u64;
            }
        }
        for key in keys().filter(|key| self.current(key).is_some_and(|it| it.content.is_some())) {
            types.entry(key.kind).or_default().resources += 1;
        }
        Counts { types }
    }

    /// How many criteria have made several resources, in several origins, that are not deleted.
    fn duplicates(&self) -> usize {
        let mut makers: BTreeMap<_, (BTreeSet<&ResourceKey>, BTreeSet<&Origin>)> = BTreeMap::new();
        for set in self.sets() {
            for version in &set.versions {
                let lives = self.current(&version.key).is_some_and(|it| it.content.is_some());
                if let Some(criteria) = version.criteria.as_ref().filter(|_| lives) {
                    let made = makers.entry((version.key.kind, criteria)).or_default();
                    made.0.insert(&version.key);
                    made.1.insert(&set.origin);
                }
            }
        }
        makers.values().filter(|(made, origins)| made.len() > 1 && origins.len() > 1).count()
    }

    fn check_conflicts(&self, store: &Store) {
        let list = |scope: &ConflictScope| store.conflicts(scope, None, usize::MAX).unwrap();
        let all = list(&ConflictScope::All);
        let duplicates: Vec<&Conflict> =
            all.iter().filter(|it| it.kind == ConflictKind::Duplicate).collect();
        let split = keys().filter(|key| self.heads(key).in_conflict()).count();
        assert_eq!(duplicates.len(), self.duplicates());
        assert_eq!(all.len(), split + duplicates.len());
        assert_eq!(store.conflict_count(), all.len() as u64);
        for conflict in duplicates {
            for key in conflict.duplicates.iter().chain([&conflict.resource]) {
                let there = list(&ConflictScope::Resource(key.clone()));
                assert!(there.iter().any(|it| it.key() == conflict.key()), "{key}: {there:?}");
            }
        }
    }

    /// Compares every answer of a store.
    pub(crate) fn check(&self, store: &Store) {
        for key in keys() {
            let versions: Vec<StoredVersion> =
                self.versions(&key).into_iter().map(|(stored, _)| stored).collect();
            let read = store.read(&key).unwrap();
            assert_eq!(read.as_ref().map(|it| &it.stored), self.current(&key).as_ref(), "{key}");
            assert_eq!(read.is_some_and(|it| it.in_conflict), self.heads(&key).in_conflict());
            assert_eq!(store.heads(&key).unwrap(), self.heads(&key), "{key}");
            assert_eq!(store.history(&key, None, usize::MAX).unwrap(), versions, "{key}");
            for (place, version) in versions.iter().enumerate() {
                let name = &version.version;
                assert_eq!(store.vread(&key, name).unwrap().as_ref(), Some(version));
                let next = store.history(&key, Some(name), 1).unwrap();
                assert_eq!(next.first(), versions.get(place + 1), "after {name} of {key}");
            }
        }
        self.check_searches(store);
        self.check_conflicts(store);
        self.check_requests(store);
        assert_eq!(store.counts(), self.counts());
        let report = store.deep_verify(|_| {}).unwrap();
        assert_eq!(report.difference, None);
        assert_eq!(report.changes, self.changes.len() as u64);
    }

    fn check_searches(&self, store: &Store) {
        let mut queries = vec!["_id=r0,r1,r2,r3,nobody".to_owned(), "identifier=urn:a|".to_owned()];
        for (system, value) in IDENTIFIERS.iter().copied().flatten() {
            let system = system.map_or_else(|| "|".to_owned(), |it| format!("{it}|"));
            queries.push(format!("identifier={system}{value}"));
            queries.push(format!("identifier={value}"));
            queries.push(format!("identifier={value}&_id=r0,r2"));
            queries.push(format!("identifier={value},nothing"));
        }
        let snapshot = store.snapshot();
        for kind in keys().map(|key| key.kind).collect::<BTreeSet<_>>() {
            for query in &queries {
                let criteria = Criteria::parse(kind, query).unwrap();
                let mut found = snapshot.find(&criteria, &[], usize::MAX).unwrap();
                found.sort();
                assert_eq!(found, self.matches(&criteria), "{criteria}");
                let first = snapshot.find(&criteria, &[], 1).unwrap();
                assert_eq!(first.len(), found.len().min(1), "{criteria}");
                assert!(first.iter().all(|id| found.contains(id)), "{criteria}");
            }
        }
    }

    fn check_requests(&self, store: &Store) {
        let requests: BTreeSet<RequestId> = self.sets().map(|set| set.request).collect();
        for request in requests {
            let first = self
                .sets()
                .filter(|set| set.request == request)
                .min_by_key(|set| (set.at, set.origin.clone()));
            let recorded = store.recorded(&request).unwrap();
            assert_eq!(recorded.map(|it| it.outcome), first.map(ChangeSet::outcome));
        }
        assert_eq!(store.recorded(&RequestId([0xff; 16])).unwrap(), None);
    }
}
