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
use crate::mutant::mutant;
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
        let live = other.deleted.cmp(&self.deleted);
        if mutant("tie-broken-by-arrival") {
            return live.then(self.version.generation.cmp(&other.version.generation));
        }
        live.then_with(|| self.version.cmp(&other.version))
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
        let drops = mutant("last-writer-wins");
        self.0.retain(|head| !drops && !version.ancestry.supersedes(&head.version));
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

    /// Whether this names a head, held or absent.
    #[must_use]
    pub fn stands(&self, version: &VersionId) -> bool {
        self.head(version).is_some() || self.absent().contains(version)
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
        let kept = standing.chain(absent).filter(|_| !mutant("plain-version-vector"));
        let kept = kept.cloned().collect();
        let highest = if mutant("generation-from-current-head") {
            self.current().map(|head| head.version.generation)
        } else {
            seen.values().max().copied()
        };
        let generation = Generation(1 + highest.map_or(0, |generation| generation.0));
        (generation, Ancestry { seen, kept })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(name: &str) -> Origin {
        format!("{name}.0000000000").parse().expect("an origin")
    }

    fn version(generation: u64, name: &str) -> VersionId {
        VersionId { generation: Generation(generation), origin: origin(name) }
    }

    fn root(generation: u64, name: &str) -> Head {
        Head {
            version: version(generation, name),
            ancestry: Ancestry::default(),
            deleted: false,
            request: RequestId([generation as u8; 16]),
            body: BodyHash::of(name.as_bytes()),
        }
    }

    /// Decides at an origin over these heads, and holds the result.
    fn decide(heads: &mut Heads, at: &str, over: &[VersionId], deleted: bool) -> VersionId {
        let (generation, ancestry) = heads.successor(over);
        let version = VersionId { generation, origin: origin(at) };
        let request = RequestId([100 + generation.0 as u8; 16]);
        let body = BodyHash::of(b"resolved");
        assert!(heads.insert(Head { version: version.clone(), ancestry, deleted, request, body }));
        version
    }

    fn names(heads: &Heads) -> Vec<VersionId> {
        heads.iter().map(|head| head.version.clone()).collect()
    }

    #[test]
    fn a_blind_put_leaves_the_other_head_and_so_does_the_next() {
        let mut heads = Heads::of([root(3, "a"), root(9, "b")]);

        let first = decide(&mut heads, "a", &[version(9, "b")], false);
        assert_eq!(first, version(10, "a"));
        assert_eq!(names(&heads), [version(10, "a"), version(3, "a")]);

        let second = decide(&mut heads, "a", &[first], false);
        assert_eq!(names(&heads), [second, version(3, "a")]);
    }

    #[test]
    fn two_clients_that_resolve_one_head_each_make_different_names() {
        for deleted in [false, true] {
            let mut heads = Heads::of([root(3, "a"), root(3, "b")]);

            let one = decide(&mut heads, "a", &[version(3, "a")], deleted);
            let two = decide(&mut heads, "a", &[version(3, "b")], deleted);

            assert_ne!(one, two);
            assert_eq!(names(&heads), [two, one]);
        }
    }

    #[test]
    fn a_head_known_by_name_only_counts_until_it_arrives_or_is_given_up() {
        let mut there = Heads::of([root(1, "a"), root(1, "b")]);
        decide(&mut there, "b", &[version(1, "b")], false);
        let later = there.current().cloned().expect("a head");

        let mut here = Heads::of([later.clone()]);
        assert_eq!(here.absent(), BTreeSet::from([&version(1, "a")]));
        assert!(here.in_conflict() && here.stands(&version(1, "a")));
        assert!(here.covers(&version(1, "b")) && !here.covers(&version(3, "b")));

        let mut arrived = here.clone();
        assert!(arrived.insert(root(1, "a")));
        assert!(arrived.absent().is_empty());

        decide(&mut here, "c", &[later.version, version(1, "a")], false);
        assert!(!here.insert(root(1, "a")));
        assert!(!here.in_conflict());
    }

    #[test]
    fn twins_count_as_one_and_go_together() {
        let twin = |name: &str| Head { version: version(1, name), ..root(1, "twin") };
        let mut heads = Heads::of([twin("a"), twin("b")]);
        assert!(!heads.in_conflict());
        assert_eq!(
            heads.distinct().map(|head| &head.version).collect::<Vec<_>>(),
            [&version(1, "b")]
        );

        let next = decide(&mut heads, "a", &[version(1, "a")], false);
        assert_eq!(names(&heads), [next]);
    }

    #[test]
    fn deletions_alone_are_no_conflict_and_never_current_beside_a_live_head() {
        let deletion = |generation, name| Head { deleted: true, ..root(generation, name) };
        assert!(!Heads::of([deletion(1, "a"), deletion(2, "b")]).in_conflict());

        let heads = Heads::of([deletion(9, "a"), root(1, "b")]);
        assert!(heads.in_conflict());
        assert_eq!(heads.current().map(|head| &head.version), Some(&version(1, "b")));
    }

    /// What really happened, recorded as sets of names: no generation is compared.
    #[derive(Clone, Debug)]
    struct Truth {
        head: Head,
        /// Every version that this one or an earlier one gave up.
        superseded: BTreeSet<VersionId>,
        /// Every version that its decider had heard of.
        known: BTreeSet<VersionId>,
    }

    /// One decider with what has reached it.
    #[derive(Clone, Debug, Default)]
    struct Holder {
        held: Vec<Truth>,
        heads: Heads,
    }

    impl Holder {
        fn union(&self, of: impl Fn(&Truth) -> &BTreeSet<VersionId>) -> BTreeSet<VersionId> {
            self.held.iter().flat_map(|truth| of(truth).iter().cloned()).collect()
        }

        fn names(&self) -> BTreeSet<VersionId> {
            self.held.iter().map(|truth| truth.head.version.clone()).collect()
        }

        fn true_heads(&self) -> Vec<&Head> {
            let superseded = self.union(|truth| &truth.superseded);
            let standing = |head: &&Head| !superseded.contains(&head.version);
            self.held.iter().map(|truth| &truth.head).filter(standing).collect()
        }

        fn true_absent(&self) -> BTreeSet<VersionId> {
            let mut absent = self.union(|truth| &truth.known);
            let (held, superseded) = (self.names(), self.union(|truth| &truth.superseded));
            absent.retain(|name| !held.contains(name) && !superseded.contains(name));
            absent
        }

        fn hold(&mut self, truth: &Truth) {
            let known = self.names().contains(&truth.head.version);
            self.heads.insert(truth.head.clone());
            if !known {
                self.held.push(truth.clone());
            }
        }

        /// Decides: the heads whose place has its bit set in `choice` are given up.
        fn decide(&mut self, at: &Origin, choice: u8, deleted: bool, request: u8) -> Truth {
            let heads = self.true_heads().into_iter().cloned().collect::<Vec<_>>();
            let standing = heads.iter().map(|head| head.version.clone()).chain(self.true_absent());
            let named: BTreeSet<VersionId> = standing
                .enumerate()
                .filter_map(|(place, name)| (choice >> (place % 8) & 1 == 1).then_some(name))
                .collect();
            let given_up = |head: &&Head| {
                heads.iter().any(|other| named.contains(&other.version) && other.is_twin_of(head))
            };
            let mut superseded = self.union(|truth| &truth.superseded);
            superseded.extend(heads.iter().filter(given_up).map(|head| head.version.clone()));
            superseded.extend(named.iter().cloned());
            let mut known = self.union(|truth| &truth.known);
            known.extend(self.names());

            let (generation, ancestry) = self.heads.successor(&named);
            let version = VersionId { generation, origin: at.clone() };
            let body = BodyHash::of(&[request & 1]);
            let request = RequestId([request; 16]);
            let truth = Truth {
                head: Head { version, ancestry, deleted, request, body },
                superseded,
                known,
            };
            self.hold(&truth);
            truth
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let mut expected = self.true_heads();
            let absent = self.true_absent();
            expected.sort_by(|a, b| b.rank(a));
            prop_assert_eq!(self.heads.iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(self.heads.current(), expected.first().copied());
            prop_assert_eq!(self.heads.absent(), absent.iter().collect());

            let kinds: BTreeSet<_> =
                expected.iter().map(|head| (head.request, head.body, head.deleted)).collect();
            let live = !absent.is_empty() || expected.iter().any(|head| !head.deleted);
            prop_assert_eq!(self.heads.in_conflict(), live && kinds.len() + absent.len() > 1);

            for truth in &self.held {
                let name = &truth.head.version;
                let ancestor = || self.heads.iter().any(|head| head.ancestry.supersedes(name));
                prop_assert!(self.heads.head(name).is_some() != ancestor(), "{name} is lost");
                prop_assert!(self.heads.covers(name));
            }
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Decide { at: usize, choice: u8, deleted: bool, request: u8 },
        Deliver { what: prop::sample::Index, to: usize },
    }

    const ORIGINS: [&str; 4] = ["a", "b", "c", "d"];

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..ORIGINS.len();
        prop_oneof![
            2 => (at.clone(), any::<u8>(), prop::bool::weighted(0.2), 0..12_u8)
                .prop_map(|(at, choice, deleted, request)| Step::Decide { at, choice, deleted, request }),
            3 => (any::<prop::sample::Index>(), at).prop_map(|(what, to)| Step::Deliver { what, to }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(2_000)
        })]
        #[test]
        fn names_alone_tell_what_superseded_what(
            steps in prop::collection::vec(step(), 1..60),
            order in any::<prop::sample::Index>(),
        ) {
            let mut holders = vec![Holder::default(); ORIGINS.len()];
            let mut all: Vec<Truth> = Vec::new();

            for step in steps {
                match step {
                    Step::Decide { at, choice, deleted, request } => {
                        all.push(holders[at].decide(&origin(ORIGINS[at]), choice, deleted, request));
                        holders[at].check()?;
                    }
                    Step::Deliver { what, to } if !all.is_empty() => {
                        holders[to].hold(what.get(&all));
                        holders[to].check()?;
                    }
                    Step::Deliver { .. } => {}
                }
            }

            let names: BTreeSet<_> = all.iter().map(|truth| &truth.head.version).collect();
            prop_assert_eq!(names.len(), all.len(), "a name was given twice");
            let mut everyone = Holder::default();
            all.iter().rev().for_each(|truth| everyone.hold(truth));
            everyone.check()?;
            prop_assert!(everyone.heads.absent().is_empty());
            let mut rotated: Vec<Head> = all.iter().map(|truth| truth.head.clone()).collect();
            if !rotated.is_empty() {
                let middle = order.index(rotated.len());
                rotated.rotate_left(middle);
            }
            let twice = rotated.iter().chain(&rotated).cloned();
            prop_assert_eq!(Heads::of(twice), everyone.heads);
        }
    }
}
