//! This module indexes and seeks dates (FHIR R4, search, 3.1.1.4.7).
//!
//! A date is the span of time that it names: `2010` is a year. What has no zone is read in the one that
//! the mesh is told (`search.zone`).

use chartmesh_record::{ElementType, FieldName, Node, mutant};
use time::{Date, Month, PrimitiveDateTime, Time, UtcOffset};

use crate::comparison::{self, Comparison};
use crate::fault::Fault;
use crate::names::Names;

/// A span of time: milliseconds since 1970-01-01T00:00:00Z, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
}

/// A date that is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateSought {
    /// How what is found is to stand to it.
    pub comparison: Comparison,
    /// The span that it names; for `ap`, widened by a tenth of how far off it is.
    pub span: Span,
}

/// The moment and the place in which dates are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Almanac {
    /// The zone of what has none: seconds east of Greenwich.
    pub zone: i32,
    /// Now: milliseconds since 1970, UTC.
    pub now: i64,
}

/// Spans by how long they are: a day at the most, 32 days, longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Width {
    Day,
    Month,
    Long,
}

const DAY: i64 = 86_400_000;

impl Width {
    pub(crate) const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Long];

    pub(crate) fn of(span: Span) -> Self {
        let length = span.to.saturating_sub(span.from);
        let fits = |width: &Self| width.longest().is_none_or(|longest| length <= longest);
        Self::ALL.into_iter().find(fits).unwrap_or(Self::Long)
    }

    /// The longest of them, if there is one.
    fn longest(self) -> Option<i64> {
        match self {
            Self::Day => Some(DAY),
            Self::Month => Some(32 * DAY),
            Self::Long => None,
        }
    }
}

impl Span {
    /// The spans of an element that holds dates.
    pub(crate) fn of(
        node: Node<'_>,
        kind: ElementType,
        names: &Names,
        zone: i32,
        found: &mut impl FnMut(Self),
    ) {
        let date = |node: Node<'_>| node.text().and_then(|text| parse(&text, zone));
        match kind.name() {
            "date" | "dateTime" | "instant" => date(node).into_iter().for_each(found),
            "Period" => Self::of_period(node, names, zone).into_iter().for_each(found),
            "Timing" => {
                let events = node.member(&names.event).into_iter().flat_map(Node::items);
                events.filter_map(date).for_each(&mut *found);
                let bounds =
                    node.member(&names.repeat).and_then(|it| it.member(&names.bounds_period));
                let bounds = bounds.and_then(|bounds| Self::of_period(bounds, names, zone));
                bounds.into_iter().for_each(found);
            }
            _ => {}
        }
    }

    fn of_period(node: Node<'_>, names: &Names, zone: i32) -> Option<Self> {
        let end = |name: &FieldName| parse(&node.member(name)?.text()?, zone);
        let (start, end) = (end(&names.start), end(&names.end));
        start.or(end)?;
        let from = start.map_or(i64::MIN, |start| start.from);
        let to = end.map_or(i64::MAX, |end| end.to);
        Some(Self { from, to: to.max(from) })
    }

    /// The span of a date, time or instant as FHIR writes them; what has no zone is read in this one,
    /// seconds east of Greenwich.
    #[must_use]
    pub fn parse(text: &str, zone: i32) -> Option<Self> {
        parse(text, zone)
    }

    fn overlaps(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

impl DateSought {
    pub(crate) fn parse(text: &str, almanac: &Almanac) -> Result<Self, Fault> {
        let (comparison, date) = comparison::split(text)?;
        let span = parse(date, almanac.zone);
        let mut span =
            span.ok_or("not a date such as 2026, 2026-11, 2026-11-21 or 2026-11-21T20:00:01Z")?;
        if comparison == Comparison::Approximate {
            let off = |at: i64| at.saturating_sub(almanac.now).saturating_abs() / 10;
            span.from = span.from.saturating_sub(off(span.from));
            span.to = span.to.saturating_add(off(span.to));
        }
        Ok(Self { comparison, span })
    }

    /// Whether a span is meant.
    #[must_use]
    pub fn matches(&self, found: Span) -> bool {
        let sought = self.span;
        let within = sought.from <= found.from && found.to <= sought.to;
        match self.comparison {
            Comparison::Equal => within,
            Comparison::NotEqual => !within,
            Comparison::Greater => found.to > sought.to,
            Comparison::Less => found.from < sought.from,
            Comparison::GreaterOrEqual => found.to > sought.to || within,
            Comparison::LessOrEqual => found.from < sought.from || within,
            Comparison::StartsAfter => found.from > sought.to,
            Comparison::EndsBefore => found.to < sought.from,
            Comparison::Approximate => found.overlaps(sought),
        }
    }

    /// Between which instants a span of this width begins if it is meant.
    pub(crate) fn reach(&self, width: Width) -> (i64, i64) {
        let Span { from, to } = self.span;
        let earliest = |at: i64| width.longest().map_or(i64::MIN, |it| at.saturating_sub(it));
        match self.comparison {
            Comparison::Equal => (from, to),
            Comparison::NotEqual => (i64::MIN, i64::MAX),
            Comparison::Greater => (earliest(to), i64::MAX),
            Comparison::GreaterOrEqual => (earliest(from), i64::MAX),
            Comparison::Less => (i64::MIN, from),
            Comparison::LessOrEqual => (i64::MIN, to),
            Comparison::StartsAfter => (to, i64::MAX),
            Comparison::EndsBefore => (i64::MIN, from),
            Comparison::Approximate => (earliest(from), to),
        }
    }
}

/// Eight bytes that sort as the instants do.
pub(crate) fn sortable(instant: i64) -> [u8; 8] {
    (instant as u64 ^ 1 << 63).to_be_bytes()
}

/// The span that a date names: of any precision from the year to fractions of a second, with a zone or
/// without.
fn parse(text: &str, zone: i32) -> Option<Span> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = parts.next().map(|part| number(part, 2)).map_or(Some(None), |it| it.map(Some))?;
    let day = parts.next().map(|part| number(part, 2)).map_or(Some(None), |it| it.map(Some))?;
    if parts.next().is_some() || (time.is_some() && day.is_none()) {
        return None;
    }
    let calendar = |month: u32, day: u32| {
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()
    };
    let first = calendar(month.unwrap_or(1), day.unwrap_or(1))?;
    let Some(time) = time else {
        let after = match (month, day) {
            (Some(_), Some(_)) => first.next_day()?,
            (Some(12), None) | (None, _) => {
                Date::from_calendar_date(first.year() + 1, Month::January, 1).ok()?
            }
            (Some(month), None) => calendar(month + 1, 1)?,
        };
        let at = |date: Date| millis(date, Time::MIDNIGHT, zone);
        let to = if mutant("date-precision-dropped") { at(first)? } else { at(after)? - 1 };
        return Some(Span { from: at(first)?, to });
    };
    let (clock, zone) = split_zone(time, zone)?;
    let (time, length) = parse_clock(clock)?;
    let from = millis(first, time, zone)?;
    Some(Span { from, to: from + length - 1 })
}

/// A time of day, and how many milliseconds what is written lasts.
fn parse_clock(text: &str) -> Option<(Time, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts =
        whole.split(':').map(|part| number(part, 2).and_then(|it| u8::try_from(it).ok()));
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().map_or(Some(None), |it| it.map(Some))?;
    if parts.next().is_some() || (second.is_none() && text.contains('.')) {
        return None;
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || (text.ends_with('.')) {
        return None;
    }
    // A leap second is the last millisecond of its minute.
    let second_shown = second.unwrap_or(0);
    let (second_kept, milli, length) = match (second, fraction.len()) {
        (Some(60), _) => (59, 999, 1),
        (None, _) => (0, 0, 60_000),
        (Some(_), 0) => (second_shown, 0, 1_000),
        (Some(_), digits) => {
            let padded: String = fraction.chars().chain("00".chars()).take(3).collect();
            let length = [100, 10, 1][digits.min(3) - 1];
            (second_shown, padded.parse().ok()?, length)
        }
    };
    Some((Time::from_hms_milli(hour, minute, second_kept, milli).ok()?, length))
}

/// The part before a zone, and how far that is east of Greenwich, in seconds.
fn split_zone(time: &str, otherwise: i32) -> Option<(&str, i32)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, otherwise)) };
    let (clock, zone) = time.split_at(at);
    let (hours, minutes) = zone[1..].split_once(':')?;
    let seconds = i32::try_from(number(hours, 2)? * 3_600 + number(minutes, 2)? * 60).ok()?;
    Some((clock, if zone.starts_with('-') { -seconds } else { seconds }))
}

fn millis(date: Date, time: Time, zone: i32) -> Option<i64> {
    let zone = UtcOffset::from_whole_seconds(zone).ok()?;
    let at = PrimitiveDateTime::new(date, time).assume_utc();
    let seconds = at.unix_timestamp() - i64::from(zone.whole_seconds());
    Some(seconds * 1_000 + i64::from(at.millisecond()))
}

fn number(text: &str, digits: usize) -> Option<u32> {
    let valid = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UTC: Almanac = Almanac { zone: 0, now: 1_795_291_201_204 };

    fn span(text: &str) -> Span {
        parse(text, 0).unwrap_or_else(|| panic!("{text} is a date"))
    }

    #[test]
    fn a_date_is_as_long_as_it_is_written() {
        let length = |text| span(text).to - span(text).from + 1;

        assert_eq!(length("2012"), 366 * DAY);
        assert_eq!(length("2011-12"), 31 * DAY);
        assert_eq!(length("2011-12-31"), DAY);
        assert_eq!(length("2011-12-31T23:59"), 60_000);
        assert_eq!(length("2011-12-31T23:59:60"), 1);
        assert_eq!(length("2011-12-31T23:59:59Z"), 1_000);
        assert_eq!(length("2011-12-31T23:59:59.1Z"), 100);
        assert_eq!(length("2011-12-31T23:59:59.123456+14:00"), 1);
        assert_eq!(span("1970-01-01T01:00:00+01:00").from, 0);
        assert_eq!(parse("1970-01-01", 3_600).map(|it| it.from), Some(-3_600_000));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "20",
            "2011-13",
            "2011-02-30",
            "2011-2-3",
            "2011-02T10:00",
            "x2011",
            "2011-02-03T",
            "2011-01-01T10",
            "2011-01-01T10:00:00.Z",
        ] {
            assert!(DateSought::parse(text, &UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn comparisons_are_of_spans() {
        let is =
            |sought, found| DateSought::parse(sought, &UTC).expect("a date").matches(span(found));

        assert!(is("2010", "2010-05") && !is("2010-05", "2010") && is("ne2010-05", "2010"));
        assert!(is("ge2010", "2010") && is("gt2010-05", "2010") && !is("gt2010", "2010-12-31"));
        assert!(is("sa2009", "2010-01-01") && !is("sa2010-05", "2010") && is("eb2011", "2010"));
        assert!(is("lt2010-05", "2010") && !is("lt2010", "2010") && is("le2010", "2010-06-01"));
        assert!(is("ap2026-10", "2026-11-01") && !is("ap2026-10", "2027"));
    }

    fn spans() -> impl Strategy<Value = Span> {
        (-400_i64..400, 0..500_i64)
            .prop_map(|(from, days)| Span { from: from * DAY, to: (from + days) * DAY })
    }

    proptest! {
        #[test]
        fn what_matches_begins_within_reach(
            prefix in prop::sample::select(comparison::PREFIXES.to_vec()),
            sought in spans(),
            found in spans(),
        ) {
            let sought = DateSought { comparison: prefix.1, span: sought };
            let (first, last) = sought.reach(Width::of(found));
            if sought.matches(found) {
                prop_assert!(first <= found.from && found.from <= last);
            }
        }

        #[test]
        fn keys_sort_as_instants_do(one in any::<i64>(), other in any::<i64>()) {
            prop_assert_eq!(sortable(one).cmp(&sortable(other)), one.cmp(&other));
        }
    }
}
