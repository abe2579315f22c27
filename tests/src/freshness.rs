//! This module understands `Chartmesh-As-Of`: up to which instant an answer knows what each region
//! decided, and which nodes may be writing what has not arrived.

use std::collections::BTreeMap;
use std::time::Duration;

/// The entries of the header, by the names of regions and of silent nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsOf(pub BTreeMap<String, Known>);

/// What is known of a region or a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing was ever heard of it.
    Never,
    /// Everything up to an instant.
    Until {
        /// Which, by the clock of whoever stated it, in milliseconds since 1970.
        instant_ms: i64,
        /// How long ago that was when the answer was given.
        age: Duration,
    },
}

impl AsOf {
    /// Understands the header. `None`: it is not what it should be.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let members = header.split(", ").filter(|member| !member.is_empty());
        let members = members.filter(|member| !member.starts_with("more="));
        members.map(entry).collect::<Option<_>>().map(Self)
    }
}

fn entry(member: &str) -> Option<(String, Known)> {
    let (name, value) = member.split_once('=')?;
    if value == "?0" {
        return Some((name.to_owned(), Known::Never));
    }
    let (instant, age) = value.strip_prefix('"')?.split_once("\";age=")?;
    let age = Duration::try_from_secs_f64(age.parse().ok()?).ok()?;
    Some((name.to_owned(), Known::Until { instant_ms: milliseconds(instant)?, age }))
}

/// An instant such as `2026-11-21T20:00:01.204Z`, in milliseconds since 1970.
fn milliseconds(instant: &str) -> Option<i64> {
    let (date, time) = instant.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between: char| -> Option<[i64; 3]> {
        let numbers: Vec<i64> =
            text.split(between).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000 + thousandths)
}

/// The days from 1970-01-01 to a date of the Gregorian calendar, counted from March on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_ages_and_what_was_never_heard_of_are_understood() {
        let header = "pac=\"2026-11-21T20:00:01.204Z\";age=0.7, eur=?0, pac-1=\"1970-01-01T00:00:00Z\";age=2241.0, more=3";

        let AsOf(entries) = AsOf::parse(header).expect("it is well formed");

        let until = |instant_ms, age_ms| {
            let age = Duration::from_millis(age_ms);
            Some(Known::Until { instant_ms, age })
        };
        assert_eq!(entries.get("pac").copied(), until(1_795_291_201_204, 700));
        assert_eq!(entries.get("eur").copied(), Some(Known::Never));
        assert_eq!(entries.get("pac-1").copied(), until(0, 2_241_000));
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn what_is_malformed_is_no_freshness() {
        for header in ["pac", "pac=yes", "pac=\"2026-11-21\";age=1", "pac=\"2026-11-21T20:00:01Z\""]
        {
            assert_eq!(AsOf::parse(header), None, "{header}");
        }
        assert_eq!(AsOf::parse(""), Some(AsOf::default()));
    }
}
