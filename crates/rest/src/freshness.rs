//! This module says on every answer where the node stands and how fresh its copy is.
//!
//! The headers are made at most once per [`Limits::FRESHNESS_KEPT`]. An age is rounded up by that
//! time, so that no answer claims to be fresher than it is.

use std::fmt::Debug;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use chartmesh_record::{Clock, RegionName};
use chartmesh_region::{AsOf, State};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::Limits;

const STATE: HeaderName = HeaderName::from_static("chartmesh-state");
const AS_OF: HeaderName = HeaderName::from_static("chartmesh-as-of");

/// Where the headers about freshness are kept.
#[derive(Debug, Default)]
pub(crate) struct Freshness(RwLock<Option<Kept>>);

#[derive(Clone, Debug)]
struct Kept {
    at: Duration,
    state: HeaderValue,
    as_of: HeaderValue,
}

impl Freshness {
    /// Puts the headers on an answer. `look` says where the node stands.
    pub(crate) fn stamp(
        &self,
        headers: &mut HeaderMap,
        clock: &dyn Clock,
        region: &RegionName,
        look: impl FnOnce() -> (State, Option<AsOf>),
    ) {
        let now = clock.monotonic();
        let fresh = |kept: &&Kept| now.saturating_sub(kept.at) < Limits::FRESHNESS_KEPT;
        let kept =
            self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().filter(fresh).cloned();
        let kept = kept.unwrap_or_else(|| {
            let (state, as_of) = look();
            let made =
                Kept { at: now, state: state_name(&state), as_of: as_of_entry(region, as_of) };
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
            made
        });
        headers.insert(STATE, kept.state);
        headers.insert(AS_OF, kept.as_of);
    }
}

fn state_name(state: &State) -> HeaderValue {
    HeaderValue::from_static(match state {
        State::Starting { .. } => "starting",
        State::Region => "region",
        State::NoQuorum | State::Refused { .. } => "isolated",
    })
}

/// A dictionary of one entry (RFC 9651, 3.2): the region's.
fn as_of_entry(region: &RegionName, as_of: Option<AsOf>) -> HeaderValue {
    let text = match as_of {
        Some(AsOf { instant, age }) => {
            let tenths = (age + Limits::FRESHNESS_KEPT).as_millis().div_ceil(100);
            format!("{region}=\"{instant}\";age={}.{}", tenths / 10, tenths % 10)
        }
        None => format!("{region}=?0"),
    };
    HeaderValue::try_from(text).expect("names and instants are plain ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chartmesh_record::Timestamp;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn an_age_is_rounded_up_and_a_region_never_heard_of_is_false() {
        let region = "pac".parse().unwrap();
        let check = |age_ms: u64, expect: &str| {
            let instant = Timestamp(1_795_291_201_204);
            let as_of = AsOf { instant, age: Duration::from_millis(age_ms) };
            assert_eq!(as_of_entry(&region, Some(as_of)), expect);
        };
        check(0, r#"pac="2026-11-21T20:00:01.204Z";age=0.1"#);
        check(80, r#"pac="2026-11-21T20:00:01.204Z";age=0.1"#);
        check(81, r#"pac="2026-11-21T20:00:01.204Z";age=0.2"#);
        check(2_240_950, r#"pac="2026-11-21T20:00:01.204Z";age=2241.0"#);
        assert_eq!(as_of_entry(&region, None), "pac=?0");
    }

    #[test]
    fn headers_are_kept_for_a_moment_and_then_made_again() {
        let (clock, freshness) = (Hand::default(), Freshness::default());
        let region: RegionName = "pac".parse().unwrap();
        let state = |state: State| {
            let mut headers = HeaderMap::new();
            freshness.stamp(&mut headers, &clock, &region, || (state, None));
            headers[STATE].clone()
        };

        assert_eq!(state(State::Region), "region");
        assert_eq!(state(State::NoQuorum), "region");
        clock.0.fetch_add(Limits::FRESHNESS_KEPT.as_millis() as u64, Ordering::Relaxed);
        assert_eq!(state(State::NoQuorum), "isolated");
    }
}
