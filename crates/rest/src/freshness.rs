//! This module says on every answer where the node stands and how fresh its copy is.
//!
//! A [`Look`] is taken before the store is read: what arrives while an answer is made must not make
//! it look fresher than it is. Requests share a look for [`Limits::FRESHNESS_KEPT`]. The ages in it
//! are rounded up by that time, and counted on where an answer takes longer.

use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chartmesh_mirror::{Freshness, RegionFreshness, SilentFreshness};
use chartmesh_record::{AsOf, RegionName};
use chartmesh_region::State;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::Limits;
use crate::preference::Staleness;

const STATE: HeaderName = HeaderName::from_static("chartmesh-state");
const AS_OF: HeaderName = HeaderName::from_static("chartmesh-as-of");

/// What a copy holds of some region or node is too old.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node knows what {whose} decided {}; asked for was {limit:?} at the most", show(*.age))]
pub(crate) struct Stale {
    whose: String,
    age: Option<Duration>,
    limit: Duration,
}

fn show(age: Option<Duration>) -> String {
    match age {
        Some(age) => format!("as of {:.1} s ago", age.as_secs_f64()),
        None => "as of no instant: it has never heard of it".to_owned(),
    }
}

/// The look that requests share.
#[derive(Debug)]
pub(crate) struct Looks {
    /// The node's region.
    region: RegionName,
    last: RwLock<Option<Arc<Look>>>,
}

/// Where the node stood, and how fresh its copy was, at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    at: Duration,
    state: HeaderValue,
    /// As the header has them: the node's own region first.
    entries: Vec<Entry>,
    as_of: HeaderValue,
}

/// What is known of one region or node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    whose: Whose,
    as_of: Option<AsOf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    OwnRegion(String),
    Region(String),
    Node(String),
}

impl Looks {
    pub(crate) fn new(region: RegionName) -> Self {
        Self { region, last: RwLock::default() }
    }

    /// Where the node stands, at this time of its monotonic clock. `ask` says it.
    pub(crate) fn look(
        &self,
        now: Duration,
        ask: impl FnOnce() -> (State, Freshness),
    ) -> Arc<Look> {
        let fresh = |look: &&Arc<Look>| now.saturating_sub(look.at) < Limits::FRESHNESS_KEPT;
        let last = self
            .last
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(fresh)
            .cloned();
        last.unwrap_or_else(|| {
            let (state, freshness) = ask();
            let look = Arc::new(Look::new(now, &state, entries(&self.region, freshness)));
            *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&look));
            look
        })
    }
}

impl Look {
    fn new(at: Duration, state: &State, entries: Vec<Entry>) -> Self {
        let as_of = dictionary(&entries, Limits::FRESHNESS_KEPT);
        Self { at, state: state_name(state), entries, as_of }
    }

    /// Puts the headers on an answer that is given at this time.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap, now: Duration) {
        let since = now.saturating_sub(self.at);
        let as_of = if since <= Limits::FRESHNESS_KEPT {
            self.as_of.clone()
        } else {
            dictionary(&self.entries, since)
        };
        headers.insert(STATE, self.state.clone());
        headers.insert(AS_OF, as_of);
    }

    /// Whether what the headers say is as fresh as a client demands.
    pub(crate) fn suffices(&self, staleness: Staleness) -> Result<(), Stale> {
        let Staleness { limit, all } = staleness;
        let counts = |entry: &&Entry| all || !matches!(entry.whose, Whose::Node(_));
        let stalest = self.entries.iter().filter(counts).max_by_key(|entry| entry.rank());
        let Some(Entry { whose, as_of }) = stalest else { return Ok(()) };
        let age = as_of.map(|as_of| {
            let tenths = tenths(as_of.age.saturating_add(Limits::FRESHNESS_KEPT));
            Duration::from_millis(100).saturating_mul(u32::try_from(tenths).unwrap_or(u32::MAX))
        });
        if age.is_some_and(|age| age <= limit) {
            return Ok(());
        }
        let whose = match whose {
            Whose::OwnRegion(name) | Whose::Region(name) => format!("region {name}"),
            Whose::Node(name) => format!("node {name}"),
        };
        Err(Stale { whose, age, limit })
    }
}

fn state_name(state: &State) -> HeaderValue {
    HeaderValue::from_static(match state {
        State::Starting { .. } => "starting",
        State::Region => "region",
        State::Isolated { .. } | State::Refused { .. } => "isolated",
    })
}

/// All entries: the own region's, the other regions' by name, the silent nodes' by name.
fn entries(own: &RegionName, freshness: Freshness) -> Vec<Entry> {
    let Freshness { regions, silent } = freshness;
    let regions = regions.into_iter().map(|RegionFreshness { region, as_of }| {
        let name = region.to_string();
        let whose = if region == *own { Whose::OwnRegion(name) } else { Whose::Region(name) };
        Entry { whose, as_of }
    });
    let nodes = silent.into_iter().map(|SilentFreshness { node, as_of, .. }| Entry {
        whose: Whose::Node(node.to_string()),
        as_of: Some(as_of),
    });
    let mut entries: Vec<Entry> = regions.chain(nodes).collect();
    entries.sort_by(|a, b| a.whose.place().cmp(&b.whose.place()));
    entries
}

impl Whose {
    /// Where its entry stands.
    fn place(&self) -> (u8, &str) {
        match self {
            Self::OwnRegion(name) => (0, name),
            Self::Region(name) => (1, name),
            Self::Node(name) => (2, name),
        }
    }

    fn name(&self) -> &str {
        self.place().1
    }
}

impl Entry {
    /// Its age, in the order of ages: what was never heard of is older than anything.
    fn rank(&self) -> (bool, Duration) {
        (self.as_of.is_none(), self.as_of.map_or(Duration::ZERO, |as_of| as_of.age))
    }
}

/// The entries as a dictionary (RFC 9651, 3.2), their ages grown by this time.
///
/// Of too many the freshest regions are left out, and if that is not enough the freshest nodes. The
/// own region stays, and what was never heard of goes last.
fn dictionary(entries: &[Entry], since: Duration) -> HeaderValue {
    let excess = entries.len().saturating_sub(Limits::AS_OF_ENTRIES);
    let is_node = |entry: &Entry| matches!(entry.whose, Whose::Node(_));
    let mut dispensable: Vec<&Entry> = entries.iter().skip(1).collect();
    dispensable.sort_by_key(|entry| (entry.as_of.is_none(), is_node(entry), entry.rank()));
    dispensable.truncate(excess);
    let left_out = |entry: &Entry| dispensable.iter().any(|other| std::ptr::eq(*other, entry));

    let mut text = String::with_capacity(64 * entries.len().min(Limits::AS_OF_ENTRIES));
    for entry in entries.iter().filter(|entry| excess == 0 || !left_out(entry)) {
        let comma = if text.is_empty() { "" } else { ", " };
        let name = entry.whose.name();
        let written = match entry.as_of {
            Some(AsOf { instant, age }) => {
                let tenths = tenths(age.saturating_add(since));
                let (seconds, tenth) = (tenths / 10, tenths % 10);
                write!(text, "{comma}{name}=\"{instant}\";age={seconds}.{tenth}")
            }
            None => write!(text, "{comma}{name}=?0"),
        };
        written.expect("a string takes whatever is written");
    }
    if excess > 0 {
        write!(text, ", more={excess}").expect("a string takes whatever is written");
    }
    HeaderValue::try_from(text).expect("names and instants are plain ASCII")
}

/// Tenths of a second, rounded up; as many as a decimal may say (RFC 9651, 3.3.2).
fn tenths(age: Duration) -> u64 {
    const MOST: u64 = 9_999_999_999_999;
    u64::try_from(age.as_micros().div_ceil(100_000)).map_or(MOST, |tenths| tenths.min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chartmesh_record::Timestamp;

    const KEPT: Duration = Limits::FRESHNESS_KEPT;

    fn as_of(age: Duration) -> AsOf {
        AsOf { instant: Timestamp(1_795_291_201_204), age }
    }

    fn region(name: &str, age: Option<Duration>) -> RegionFreshness {
        RegionFreshness { region: name.parse().unwrap(), as_of: age.map(as_of) }
    }

    fn silent(name: &str, age: Duration) -> SilentFreshness {
        let (node, region) = (name.parse().unwrap(), "pac".parse().unwrap());
        SilentFreshness { node, region, as_of: as_of(age) }
    }

    fn look(freshness: Freshness) -> Look {
        Look::new(Duration::ZERO, &State::Region, entries(&"pac".parse().unwrap(), freshness))
    }

    fn stamped(look: &Look, now: Duration) -> (String, String) {
        let mut headers = HeaderMap::new();
        look.stamp(&mut headers, now);
        let text = |name: HeaderName| headers[name].to_str().unwrap().to_owned();
        (text(STATE), text(AS_OF))
    }

    fn of_pac(age: Duration) -> Freshness {
        Freshness { regions: vec![region("pac", Some(age))], silent: Vec::new() }
    }

    #[test]
    fn an_age_is_rounded_up_and_grows_while_an_answer_is_made() {
        let millis = Duration::from_millis;
        let check = |age: Duration, took: Duration, expect: &str| {
            let expect = format!(r#"pac="2026-11-21T20:00:01.204Z";age={expect}"#);
            assert_eq!(stamped(&look(of_pac(age)), took).1, expect, "{age:?} {took:?}");
        };
        check(millis(0), millis(0), "0.1");
        check(millis(80), millis(0), "0.1");
        check(Duration::from_micros(80_001), millis(0), "0.2");
        check(millis(80), millis(20), "0.1");
        check(millis(80), millis(21), "0.2");
        check(millis(80), millis(3_000), "3.1");
        check(millis(2_240_950), millis(0), "2241.0");
        check(Duration::MAX, millis(0), "999999999999.9");
    }

    #[test]
    fn the_own_region_comes_first_then_regions_then_nodes_by_name() {
        let second = Duration::from_secs(1);
        let freshness = Freshness {
            regions: vec![
                region("central", Some(second)),
                region("eur", None),
                region("pac", None),
            ],
            silent: vec![silent("pac-2", second), silent("eur-9", second)],
        };

        let (state, as_of) = stamped(&look(freshness), Duration::ZERO);

        let aged = r#""2026-11-21T20:00:01.204Z";age=1.1"#;
        assert_eq!(state, "region");
        assert_eq!(as_of, format!("pac=?0, central={aged}, eur=?0, eur-9={aged}, pac-2={aged}"));
    }

    #[test]
    fn of_too_many_entries_the_freshest_regions_are_left_out() {
        let seconds = Duration::from_secs;
        let others = (1..=39).map(|n| region(&format!("r{n:02}"), Some(seconds(100 - n))));
        let mut regions: Vec<_> = others.collect();
        regions.push(region("pac", Some(seconds(0))));
        regions.push(region("never", None));
        let silent = vec![silent("pac-2", seconds(0))];

        let (_, as_of) = stamped(&look(Freshness { regions, silent }), Duration::ZERO);

        let names: Vec<&str> =
            as_of.split(", ").map(|entry| entry.split_once('=').unwrap().0).collect();
        let oldest: Vec<String> = (1..=29).map(|n| format!("r{n:02}")).collect();
        let mut expected = vec!["pac", "never"];
        expected.extend(oldest.iter().map(String::as_str));
        expected.extend(["pac-2", "more"]);
        assert_eq!(names, expected);
        assert!(as_of.ends_with(", more=10"), "{as_of}");
        assert_eq!(names.len(), Limits::AS_OF_ENTRIES + 1);
    }

    #[test]
    fn more_silent_nodes_than_fit_do_not_make_the_header_longer() {
        let silent = (0..100).map(|n| silent(&format!("n{n}"), Duration::from_secs(n))).collect();
        let regions = vec![region("pac", None), region("eur", None)];

        let (_, as_of) = stamped(&look(Freshness { regions, silent }), Duration::ZERO);

        assert_eq!(as_of.split(", ").count(), Limits::AS_OF_ENTRIES + 1);
        assert!(
            as_of.starts_with("pac=?0, eur=?0, n70=") && as_of.ends_with(", more=70"),
            "{as_of}"
        );
    }

    #[test]
    fn a_copy_suffices_if_no_region_is_older_than_the_client_takes() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let freshness = |age: Option<Duration>, silence: Duration| Freshness {
            regions: vec![region("eur", age), region("pac", Some(Duration::ZERO))],
            silent: vec![silent("pac-2", silence)],
        };
        let check = |freshness: Freshness, all: bool, expect: Result<(), &str>| {
            let staleness = Staleness { limit: minute, all };
            let result = look(freshness).suffices(staleness).map_err(|stale| stale.to_string());
            match (&result, expect) {
                (Ok(()), Ok(())) => {}
                (Err(text), Err(part)) if text.contains(part) => {}
                _ => panic!("{result:?}, expected {expect:?}"),
            }
        };
        check(freshness(Some(second), second), false, Ok(()));
        check(freshness(Some(minute), second), false, Err("region eur decided as of 60.1 s ago"));
        check(freshness(None, second), false, Err("region eur decided as of no instant"));
        check(freshness(Some(second), 2 * minute), false, Ok(()));
        check(freshness(Some(second), 2 * minute), true, Err("node pac-2 decided as of 120.1 s"));
        check(freshness(Some(second), second), true, Ok(()));
    }

    #[test]
    fn a_look_is_shared_for_a_moment_and_then_taken_again() {
        let looks = Looks::new("pac".parse().unwrap());
        let state = |now: Duration, state: State| {
            let look = looks.look(now, || (state, of_pac(Duration::ZERO)));
            stamped(&look, now).0
        };
        let isolated = || State::Isolated { since: Timestamp(0) };

        assert_eq!(state(Duration::ZERO, State::Region), "region");
        assert_eq!(state(KEPT / 2, isolated()), "region");
        assert_eq!(state(KEPT, isolated()), "isolated");
    }
}
