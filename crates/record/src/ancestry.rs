//! This module decides which versions of a resource supersede which: `seen`, `kept`, heads, current.
//!
//! A version names in `seen`, per origin, the highest generation known when it was decided, and in
//! `kept` the versions known then that it deliberately left standing. `a` is superseded by `b` iff
//! `a.generation <= b.seen[a.origin]` and `a` is not in `b.kept`. A version that supersedes another
//! has seen all that the other had seen, so the heads alone decide everything: older versions need
//! only their bytes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::command::RequestId;
use crate::resource::BodyHash;
use crate::version::{Generation, Origin, VersionId};

/// Per origin, the highest generation of a resource known when a version was decided.
pub type Seen = BTreeMap<Origin, Generation>;

/// The versions known when a version was decided that it deliberately left standing.
pub type Kept = BTreeSet<VersionId>;

/// What a version says of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ancestry {
    /// What was known.
    pub seen: Seen,
    /// What was left standing.
    pub kept: Kept,
}

impl Ancestry {
    /// Whether a version with this ancestry supersedes `other`.
    #[must_use]
    pub fn supersedes(&self, other: &VersionId) -> bool {
        self.seen.get(&other.origin).is_some_and(|&seen| other.generation <= seen)
            && !self.kept.contains(other)
    }
}

/// A held version that no held version supersedes, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub version: VersionId,
    /// What it says of the others.
    pub ancestry: Ancestry,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// The request that made it.
    pub request: RequestId,
    /// Its content, id and meta aside: equal for twins.
    pub body: BodyHash,
}

impl Head {
    /// Whether both were made by one request with equal bytes, meta aside: they count as one.
    #[must_use]
    pub fn is_twin_of(&self, other: &Self) -> bool {
        self.request == other.request && self.body == other.body && self.deleted == other.deleted
    }

    /// The order of "current", greatest first: not deleted before deleted, then the highest
    /// generation, then the greatest origin.
    fn rank(&self, other: &Self) -> Ordering {
        other.deleted.cmp(&self.deleted).then_with(|| self.version.cmp(&other.version))
    }
}

/// The heads of one resource, the current one first. Empty if no version is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(Vec<Head>);

impl Heads {
    /// The heads among these versions.
    pub fn of(versions: impl IntoIterator<Item = Head>) -> Self {
        let mut heads = Self::default();
        for version in versions {
            heads.insert(version);
        }
        heads
    }

    /// Takes in a version, in any order, any number of times. Says whether it is a head now.
    pub fn insert(&mut self, version: Head) -> bool {
        let settled = |head: &Head| {
            head.version == version.version || head.ancestry.supersedes(&version.version)
        };
        if self.0.iter().any(settled) {
            return self.0.iter().any(|head| head.version == version.version);
        }
        self.0.retain(|head| !version.ancestry.supersedes(&head.version));
        let place = self.0.partition_point(|head| head.rank(&version) == Ordering::Greater);
        self.0.insert(place, version);
        true
    }

    /// All held heads, twins each, the current one first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Head> {
        self.0.iter()
    }

    /// The head that plain reads return.
    #[must_use]
    pub fn current(&self) -> Option<&Head> {
        self.0.first()
    }

    /// The held head of this name.
    #[must_use]
    pub fn head(&self, version: &VersionId) -> Option<&Head> {
        self.0.iter().find(|head| head.version == *version)
    }

    /// The held heads, one for all twins, the current one first.
    pub fn distinct(&self) -> impl Iterator<Item = &Head> {
        self.0.iter().enumerate().filter_map(|(place, head)| {
            let first = !self.0[..place].iter().any(|earlier| earlier.is_twin_of(head));
            first.then_some(head)
        })
    }

    /// The heads known only by name.
    #[must_use]
    pub fn absent(&self) -> BTreeSet<&VersionId> {
        let named = self.0.iter().flat_map(|head| &head.ancestry.kept);
        named
            .filter(|&name| self.head(name).is_none())
            .filter(|&name| !self.0.iter().any(|head| head.ancestry.supersedes(name)))
            .collect()
    }

    /// More than one head, at least one of them not a deletion. An absent head counts as live.
    #[must_use]
    pub fn in_conflict(&self) -> bool {
        let absent = self.absent().len();
        let live = absent > 0 || self.0.iter().any(|head| !head.deleted);
        live && self.distinct().count() + absent > 1
    }

    /// Whether a version of this name is held or was known to a held one: it never came later.
    #[must_use]
    pub fn covers(&self, version: &VersionId) -> bool {
        self.0.iter().any(|head| {
            head.version == *version
                || head
                    .ancestry
                    .seen
                    .get(&version.origin)
                    .is_some_and(|&seen| version.generation <= seen)
                || (head.version.origin == version.origin
                    && version.generation <= head.version.generation)
        })
    }

    /// The generation and the ancestry of a new version that supersedes the heads of these names,
    /// with their twins, and leaves all others standing. Names that are no heads change nothing.
    #[must_use]
    pub fn successor<'a>(
        &self,
        superseding: impl IntoIterator<Item = &'a VersionId>,
    ) -> (Generation, Ancestry) {
        let named: BTreeSet<&VersionId> = superseding.into_iter().collect();
        let chosen: Vec<&Head> =
            self.0.iter().filter(|head| named.contains(&head.version)).collect();
        let given_up = |head: &Head| {
            chosen.iter().any(|chosen| chosen.version == head.version || chosen.is_twin_of(head))
        };

        let mut seen = Seen::new();
        let mut note = |origin: &Origin, generation: Generation| {
            let known = seen.entry(origin.clone()).or_insert(generation);
            *known = generation.max(*known);
        };
        for head in &self.0 {
            note(&head.version.origin, head.version.generation);
            head.ancestry.seen.iter().for_each(|(origin, &generation)| note(origin, generation));
        }
        let standing = self.0.iter().filter(|head| !given_up(head)).map(|head| &head.version);
        let absent = self.absent().into_iter().filter(|name| !named.contains(name));
        let kept = standing.chain(absent).cloned().collect();
        let generation =
            Generation(1 + seen.values().map(|generation| generation.0).max().unwrap_or(0));
        (generation, Ancestry { seen, kept })
    }
}
