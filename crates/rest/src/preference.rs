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
    pub(crate) staleness: Option<Staleness>,
    /// Refuse parameters that are not understood.
    pub(crate) strict: bool,
}

/// How old what a node knows of the others may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// The most.
    pub(crate) limit: Duration,
    /// Whether silent nodes count as well as regions.
    pub(crate) all: bool,
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
    /// What the headers say; of a preference given twice, the first (RFC 7240, 2), but of two limits
    /// the stricter.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, InvalidHeader> {
        let mut found = Self::default();
        for value in headers.get_all(PREFER) {
            for preference in split(value.to_str().unwrap_or_default(), ',') {
                found.note(preference)?;
            }
        }
        Ok(found)
    }

    /// Takes in one preference: `token [= word] *(; parameter)`.
    fn note(&mut self, preference: &str) -> Result<(), InvalidHeader> {
        let mut parts = split(preference, ';').map(pair);
        let (name, value) = parts.next().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "return" => self.echo = self.echo.or_else(|| Echo::named(value)),
            "handling" => self.strict |= value == "strict",
            // A promise about freshness is kept or refused, never guessed.
            CONSISTENCY if value == "linearizable" => self.linearizable = true,
            CONSISTENCY if value == "local" => {}
            CONSISTENCY => {
                return Err(invalid("chartmesh-consistency is linearizable or local"));
            }
            MAX_STALENESS => {
                let asked = Staleness::parse(value, parts)?;
                let stricter = |known: Staleness| Staleness {
                    limit: known.limit.min(asked.limit),
                    all: known.all || asked.all,
                };
                self.staleness = Some(self.staleness.map_or(asked, stricter));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a read may have to wait, or to be refused, for the sake of freshness.
    pub(crate) fn waits(self) -> bool {
        self.linearizable || self.staleness.is_some()
    }

    /// Those that concern a read.
    pub(crate) fn of_reads(self) -> Self {
        Self { echo: None, ..self }
    }

    /// Those that concern a write.
    pub(crate) fn of_writes(self) -> Self {
        Self { linearizable: false, staleness: None, ..self }
    }

    /// The value of `Preference-Applied`: the preferences that have shaped an answer. Parameters have
    /// no place in it (RFC 7240, 3).
    pub(crate) fn applied(self) -> Option<HeaderValue> {
        let echo = self.echo.map(|echo| match echo {
            Echo::Minimal => "return=minimal".to_owned(),
            Echo::Representation => "return=representation".to_owned(),
            Echo::OperationOutcome => "return=OperationOutcome".to_owned(),
        });
        let consistency = self.linearizable.then(|| format!("{CONSISTENCY}=linearizable"));
        let staleness = self
            .staleness
            .map(|staleness| format!("{MAX_STALENESS}={}", staleness.limit.as_secs_f64()));
        let applied: Vec<String> = [echo, consistency, staleness].into_iter().flatten().collect();
        let value = HeaderValue::try_from(applied.join(", ")).ok();
        value.filter(|value| !value.is_empty())
    }
}

impl Staleness {
    fn parse<'p>(
        value: &str,
        parameters: impl Iterator<Item = (&'p str, &'p str)>,
    ) -> Result<Self, InvalidHeader> {
        let seconds = value.parse::<f64>().ok();
        let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let limit = limit.ok_or(invalid("chartmesh-max-staleness is a number of seconds"))?;
        let mut all = false;
        for (name, value) in parameters {
            match (name.to_ascii_lowercase().as_str(), value) {
                ("", "") => {}
                ("all", "") => all = true,
                _ => return Err(invalid("chartmesh-max-staleness takes one parameter: all")),
            }
        }
        Ok(Self { limit, all })
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

/// The parts between separators that stand outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let plain = !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        plain && character == separator
    })
}

/// Name and value of a preference or a parameter. An empty value is none (RFC 7240, 2).
fn pair(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim(), value.trim().trim_matches('"'))
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

    fn staleness(seconds: u64, all: bool) -> Preferences {
        let staleness = Staleness { limit: Duration::from_secs(seconds), all };
        Preferences { staleness: Some(staleness), ..Preferences::default() }
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
        check(&[r#"foo="a, return=minimal; b\", c", bar"#], none);
    }

    #[test]
    fn a_limit_of_staleness_counts_regions_or_all() {
        let check = |values: &[&str], expect: Preferences| {
            assert_eq!(preferences(values), Ok(expect), "{values:?}");
        };
        check(&["chartmesh-max-staleness=30"], staleness(30, false));
        check(&["chartmesh-max-staleness=\"30\""], staleness(30, false));
        check(&["chartmesh-max-staleness=30;all"], staleness(30, true));
        check(&["Chartmesh-Max-Staleness = 30 ; ALL"], staleness(30, true));
        check(&["chartmesh-max-staleness=30;all=\"\";"], staleness(30, true));
        check(&[r#"x="1;2,3", chartmesh-max-staleness=30;all, y"#], staleness(30, true));
        check(&["chartmesh-max-staleness=30;all, chartmesh-max-staleness=9"], staleness(9, true));
        check(&["all", "chartmesh-max-staleness=30"], staleness(30, false));
    }

    #[test]
    fn a_promise_that_cannot_be_understood_is_refused() {
        for bad in [
            "chartmesh-consistency=strong",
            "chartmesh-max-staleness=soon",
            "chartmesh-max-staleness=-1",
            "chartmesh-max-staleness=NaN",
            "chartmesh-max-staleness",
            "chartmesh-max-staleness=\"30;all\"",
            "chartmesh-max-staleness=30;everything",
            "chartmesh-max-staleness=30;all=false",
        ] {
            assert!(preferences(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_applied_is_said_as_it_was_asked() {
        let applied = |text: &str| preferences(&[text]).unwrap().applied();
        assert_eq!(applied(""), None);
        assert_eq!(applied("handling=strict"), None);
        let all = "chartmesh-max-staleness=0.5;all, return=minimal, \
                   chartmesh-consistency=linearizable";
        assert_eq!(
            applied(all).unwrap(),
            "return=minimal, chartmesh-consistency=linearizable, chartmesh-max-staleness=0.5"
        );
    }
}
