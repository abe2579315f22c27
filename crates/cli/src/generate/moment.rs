//! This module says when things happen: days and instants as FHIR writes them.

use std::fmt;

use time::macros::datetime;
use time::{Date, Duration, OffsetDateTime, UtcOffset};

/// When the records end: every generated person lives up to here, appointments lie beyond.
const NOW: OffsetDateTime = datetime!(2026-10-01 06:00 UTC);

/// An instant at a place, written with that place's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(OffsetDateTime);

impl Moment {
    /// The end of the records, at a place so many hours ahead of UTC.
    pub(super) fn now(offset_hours: i8) -> Self {
        let offset = UtcOffset::from_hms(offset_hours, 0, 0).expect("a place has a valid offset");
        Self(NOW.to_offset(offset))
    }

    /// So many days later; earlier, if negative.
    pub(super) fn plus_days(self, days: i64) -> Self {
        Self(self.0 + Duration::days(days))
    }

    /// So many minutes later; earlier, if negative.
    pub(super) fn plus_minutes(self, minutes: i64) -> Self {
        Self(self.0 + Duration::minutes(minutes))
    }

    /// The same day at this hour and minute of the place's own time.
    pub(super) fn at(self, hour: u8, minute: u8) -> Self {
        Self(self.0.replace_time(time::Time::from_hms(hour, minute, 0).expect("a time of day")))
    }

    /// The same day of this place's calendar.
    pub(super) fn day(self) -> Day {
        Day(self.0.date())
    }

    /// Whether it lies after the end of the records.
    pub(super) fn is_ahead(self) -> bool {
        self.0 > NOW
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, hours) = (self.0, self.0.offset().whole_hours());
        let (hour, minute, second) = at.to_hms();
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}{hours:+03}:00", Day(at.date()))
    }
}

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(Date);

impl Day {
    /// So many days later; earlier, if negative.
    pub(super) fn plus_days(self, days: i64) -> Self {
        Self(self.0 + Duration::days(days))
    }

    /// How many days lie between this one and a later one.
    pub(super) fn days_until(self, later: Self) -> i64 {
        (later.0 - self.0).whole_days()
    }

    /// An instant on this day at the place of `like`.
    pub(super) fn at(self, like: Moment, hour: u8, minute: u8) -> Moment {
        Moment(like.0.replace_date(self.0)).at(hour, minute)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_carry_the_offset_of_their_place() {
        let now = Moment::now(9);
        assert_eq!(now.to_string(), "2026-10-01T15:00:00+09:00");
        assert_eq!(Moment::now(-10).to_string(), "2026-09-30T20:00:00-10:00");
        assert_eq!(now.plus_days(-1).at(8, 5).to_string(), "2026-09-30T08:05:00+09:00");
        assert_eq!(now.day().plus_days(-365).to_string(), "2025-10-01");
        assert!(!now.is_ahead() && now.plus_minutes(1).is_ahead());
    }
}
