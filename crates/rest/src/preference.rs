//! This module reads what a client would like (`Prefer`, RFC 7240).

use std::time::Duration;

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue};

use crate::condition::InvalidHeader;

/// What a client would like. What is not understood is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// What an answer to a write holds.
    pub(crate) echo: Option<Echo>,
    /// Read what the region has committed, not what this node happens to hold.
    pub(crate) linearizable: bool,
    /// Refuse to answer from what is older than this.
    pub(crate) max_staleness: Option<Duration>,
    /// Refuse parameters that are not understood.
    pub(crate) strict: bool,
}

/// What the answer to a write holds (FHIR R4, http, 3.1.0.1.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Nothing.
    Minimal,
    /// The resource as it is now.
    #[default]
    Representation,
    /// A note on what was done.
    OperationOutcome,
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const CONSISTENCY: &str = "chartmesh-consistency";
const MAX_STALENESS: &str = "chartmesh-max-staleness";

impl Preferences {
    /// What the headers say; of a preference given twice, the first (RFC 7240, 2).
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, InvalidHeader> {
        let mut found = Self::default();
        for value in headers.get_all(PREFER) {
            for preference in value.to_str().unwrap_or_default().split(',') {
                found.note(preference)?;
            }
        }
        Ok(found)
    }

    fn note(&mut self, preference: &str) -> Result<(), InvalidHeader> {
        let (token, _parameters) = preference.split_once(';').unwrap_or((preference, ""));
        let (name, value) = token.split_once('=').unwrap_or((token, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "return" => self.echo = self.echo.or_else(|| Echo::named(value)),
            "handling" => self.strict |= value == "strict",
            // A promise about freshness is kept or refused, never guessed.
            CONSISTENCY if value == "linearizable" => self.linearizable = true,
            CONSISTENCY if value == "local" => {}
            CONSISTENCY => {
                return Err(invalid("chartmesh-consistency is linearizable or local"));
            }
            MAX_STALENESS => {
                let seconds = value.parse::<f64>().ok();
                let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let limit =
                    limit.ok_or(invalid("chartmesh-max-staleness is a number of seconds"))?;
                self.max_staleness = Some(self.max_staleness.map_or(limit, |old| old.min(limit)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a read may have to wait, or to be refused, for the sake of freshness.
    pub(crate) fn waits(self) -> bool {
        self.linearizable || self.max_staleness.is_some()
    }

    /// The value of `Preference-Applied`: the preferences that shaped an answer to a write.
    pub(crate) fn applied(self) -> Option<HeaderValue> {
        let text = match self.echo? {
            Echo::Minimal => "return=minimal",
            Echo::Representation => "return=representation",
            Echo::OperationOutcome => "return=OperationOutcome",
        };
        Some(HeaderValue::from_static(text))
    }
}

impl Echo {
    fn named(text: &str) -> Option<Self> {
        match text {
            "minimal" => Some(Self::Minimal),
            "representation" => Some(Self::Representation),
            "OperationOutcome" => Some(Self::OperationOutcome),
            _ => None,
        }
    }
}

fn invalid(reason: &'static str) -> InvalidHeader {
    InvalidHeader { name: "Prefer", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferences(values: &[&str]) -> Result<Preferences, InvalidHeader> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, value.parse().unwrap());
        }
        Preferences::of(&headers)
    }

    #[test]
    fn known_preferences_are_taken_and_others_ignored() {
        let check = |values: &[&str], expect: Preferences| {
            assert_eq!(preferences(values), Ok(expect), "{values:?}");
        };
        let none = Preferences::default();
        check(&[], none);
        check(&["respond-async, wait=10"], none);
        check(&["return=nonsense"], none);
        check(&["return=minimal"], Preferences { echo: Some(Echo::Minimal), ..none });
        check(&["Return = \"minimal\""], Preferences { echo: Some(Echo::Minimal), ..none });
        check(
            &["return=OperationOutcome; foo=1, return=minimal"],
            Preferences { echo: Some(Echo::OperationOutcome), ..none },
        );
        check(
            &["handling=strict", "chartmesh-consistency=linearizable"],
            Preferences { strict: true, linearizable: true, ..none },
        );
        check(
            &["chartmesh-max-staleness=30;all"],
            Preferences { max_staleness: Some(Duration::from_secs(30)), ..none },
        );
    }

    #[test]
    fn a_promise_that_cannot_be_understood_is_refused() {
        for bad in [
            "chartmesh-consistency=strong",
            "chartmesh-max-staleness=soon",
            "chartmesh-max-staleness=-1",
        ] {
            assert!(preferences(&[bad]).is_err(), "{bad}");
        }
    }
}
