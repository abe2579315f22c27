//! This module reads and writes instants as HTTP does (RFC 9110, 5.6.7): whole seconds, in GMT.

use chartmesh_record::Timestamp;
use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The instant in a header; `None` if it is not one.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    // It is an instant of RFC 2822 whose zone is called GMT.
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Timestamp(at.unix_timestamp().checked_mul(1000)?))
}

/// The header for an instant. It stands in most answers, so it is written digit by digit.
pub(crate) fn format(at: Timestamp) -> HeaderValue {
    let seconds = at.0.div_euclid(1000);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = at.to_hms();
    let year = u16::try_from(at.year()).unwrap_or(0);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let day = DAYS[usize::from(at.weekday().number_days_from_monday())];
    text[..3].copy_from_slice(day.as_bytes());
    text[8..11].copy_from_slice(MONTHS[usize::from(u8::from(at.month())) - 1].as_bytes());
    for (place, number) in [
        (5, u16::from(at.day())),
        (12, year / 100),
        (14, year % 100),
        (17, hour.into()),
        (20, minute.into()),
        (23, second.into()),
    ] {
        text[place] = b'0' + (number / 10 % 10) as u8;
        text[place + 1] = b'0' + (number % 10) as u8;
    }
    HeaderValue::from_bytes(&text).expect("a date is plain ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_survives_its_text_to_the_second() {
        for (millis, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_795_291_201_204, "Sat, 21 Nov 2026 20:00:01 GMT"),
            (951_782_399_999, "Mon, 28 Feb 2000 23:59:59 GMT"),
        ] {
            assert_eq!(format(Timestamp(millis)), text);
            assert_eq!(parse(text), Some(Timestamp(millis / 1000 * 1000)));
        }
        for bad in ["", "yesterday", "2026-11-21T20:00:01Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
