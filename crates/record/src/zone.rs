//! This module names the zone in which dates are read that have none.

use std::fmt;
use std::str::FromStr;

/// A distance from UTC: `UTC`, `+09:00`, `-05:30`. It does not know of summer time: a date without a zone
/// must mean the same at every node and at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Seconds east of Greenwich.
    pub seconds: i32,
}

/// A text is no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a zone is written UTC, +09:00 or -05:30: between -14:00 and +14:00, without summer time")]
pub struct InvalidZone;

/// The farthest that any place is from UTC, in minutes.
const FARTHEST: i32 = 14 * 60;

impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(text: &str) -> Result<Self, InvalidZone> {
        if matches!(text, "UTC" | "Z") {
            return Ok(Self::default());
        }
        let (sign, rest) = match text.split_at_checked(1) {
            Some(("+", rest)) => (1, rest),
            Some(("-", rest)) => (-1, rest),
            _ => return Err(InvalidZone),
        };
        let (hours, minutes) = rest.split_once(':').ok_or(InvalidZone)?;
        let number = |digits: &str| {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i32>().ok().filter(|_| plain).ok_or(InvalidZone)
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let all = 60 * hours + minutes;
        if minutes > 59 || all > FARTHEST {
            return Err(InvalidZone);
        }
        Ok(Self { seconds: sign * 60 * all })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds == 0 {
            return f.write_str("UTC");
        }
        let sign = if self.seconds < 0 { '-' } else { '+' };
        let minutes = self.seconds.unsigned_abs() / 60;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_read_as_it_is_written() {
        for (text, seconds) in
            [("UTC", 0), ("+09:00", 32_400), ("-05:30", -19_800), ("+14:00", 50_400)]
        {
            let zone = Zone { seconds };
            assert_eq!(text.parse(), Ok(zone));
            assert_eq!(zone.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_distance_from_utc_is_refused() {
        for text in ["", "Asia/Tokyo", "+9:00", "09:00", "+09", "+09:60", "+14:01", "+é9:00"] {
            assert_eq!(text.parse::<Zone>(), Err(InvalidZone), "{text}");
        }
    }
}
