//! This module says which texts and numbers are values of the primitive types (FHIR R4, datatypes,
//! 2.24.0.1).

use crate::definitions::Primitive;
use crate::json::Kind;
use crate::limits;

impl Primitive {
    /// Its name in the specification.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base64Binary => "base64Binary",
            Self::Boolean => "boolean",
            Self::Canonical => "canonical",
            Self::Code(_) => "code",
            Self::Date => "date",
            Self::DateTime => "dateTime",
            Self::Decimal => "decimal",
            Self::ElementId | Self::Id => "id",
            Self::Instant => "instant",
            Self::Integer => "integer",
            Self::Markdown => "markdown",
            Self::Oid => "oid",
            Self::PositiveInt => "positiveInt",
            Self::String => "string",
            Self::Time => "time",
            Self::UnsignedInt => "unsignedInt",
            Self::Uri => "uri",
            Self::Url => "url",
            Self::Uuid => "uuid",
            Self::Xhtml => "xhtml",
        }
    }

    /// The JSON type of its values.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Boolean => Kind::Boolean,
            Self::Decimal | Self::Integer | Self::PositiveInt | Self::UnsignedInt => Kind::Number,
            _ => Kind::String,
        }
    }

    /// Whether this text, or this number as it is written, is a value of the type. For `code`, only
    /// its form is looked at; for `xhtml`, nothing.
    pub(crate) fn admits(self, text: &str) -> bool {
        match self {
            Self::Boolean | Self::Decimal | Self::Xhtml => true,
            Self::Base64Binary => is_base64(text),
            Self::Canonical | Self::Uri | Self::Url => is_uri(text),
            Self::Code(_) => is_code(text),
            Self::Date => date(text.as_bytes()) == Some(b""),
            Self::DateTime => is_date_time(text.as_bytes()),
            Self::ElementId => is_string(text) && !text.contains(char::is_whitespace),
            Self::Id => text.parse::<crate::kind::ResourceId>().is_ok(),
            Self::Instant => is_instant(text.as_bytes()),
            Self::Integer => integer(text).is_some(),
            Self::Markdown | Self::String => is_string(text),
            Self::Oid => is_oid(text),
            Self::PositiveInt => integer(text).is_some_and(|number| number > 0),
            Self::Time => time(text.as_bytes()) == Some(b""),
            Self::UnsignedInt => integer(text).is_some_and(|number| number >= 0),
            Self::Uuid => is_uuid(text),
        }
    }

    /// What a value must be, to be said to who sent another.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Base64Binary => "base64",
            Self::Boolean => "true or false",
            Self::Canonical | Self::Uri | Self::Url => "a URI: not empty, no white space",
            Self::Code(_) => "a code: not empty, no white space but single spaces within",
            Self::Date => "a date that exists: YYYY, YYYY-MM or YYYY-MM-DD",
            Self::DateTime => {
                "a date that exists, alone or with time and zone: YYYY, YYYY-MM, YYYY-MM-DD or \
                 YYYY-MM-DDThh:mm:ss+zz:zz"
            }
            Self::Decimal => "a number",
            Self::ElementId => "an id without white space",
            Self::Id => "an id: 1 to 64 letters, digits, '-' or '.'",
            Self::Instant => "an instant with time and zone: YYYY-MM-DDThh:mm:ss.sss+zz:zz",
            Self::Integer => "an integer of 32 bits, without fraction or exponent",
            Self::Markdown | Self::String => {
                "a text of at most 1 MiB with more than white space in it, without control characters"
            }
            Self::Oid => "an OID: urn:oid: and numbers with dots between them",
            Self::PositiveInt => "a positive integer of 31 bits, without fraction or exponent",
            Self::Time => "a time of day: hh:mm:ss",
            Self::UnsignedInt => "a non-negative integer of 31 bits, without fraction or exponent",
            Self::Uuid => "a UUID: urn:uuid: and its lower-case form",
            Self::Xhtml => "a narrative",
        }
    }
}

fn is_string(text: &str) -> bool {
    let control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    text.len() <= limits::MAX_STRING_BYTES
        && text.chars().any(|character| !character.is_whitespace())
        && !text.bytes().any(control)
}

fn is_uri(text: &str) -> bool {
    let mut bytes = text.bytes();
    if text.is_ascii() {
        return !text.is_empty() && bytes.all(|byte| byte > b' ' && byte != 0x7f);
    }
    !text.chars().any(|character| character.is_whitespace() || character.is_control())
}

fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.split([' ', '\t', '\n', '\r']).all(|word| {
            !word.is_empty()
                && !word
                    .contains(|character: char| character.is_whitespace() || character.is_control())
        })
}

/// Quartets of letters, white space between them, the last one padded.
fn is_base64(text: &str) -> bool {
    let (mut letters, mut padding) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => letters += 1,
            b'=' => padding += 1,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => return false,
        }
    }
    letters > 0 && padding <= 2 && (letters + padding).is_multiple_of(4)
}

fn integer(text: &str) -> Option<i32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') && text != "-0";
    if plain { text.parse().ok() } else { None }
}

fn is_oid(text: &str) -> bool {
    let Some(oid) = text.strip_prefix("urn:oid:") else { return false };
    let number = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !(part.is_empty() || part.starts_with('0')))
    };
    oid.contains('.') && oid.starts_with(['0', '1', '2']) && oid.split('.').all(number)
}

fn is_uuid(text: &str) -> bool {
    let Some(uuid) = text.strip_prefix("urn:uuid:") else { return false };
    uuid.len() == 36
        && uuid.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_date_time(text: &[u8]) -> bool {
    date(text) == Some(b"") || is_instant(text)
}

/// `YYYY-MM-DDThh:mm:ss`, a fraction, and a zone.
fn is_instant(text: &[u8]) -> bool {
    text.len() > 10
        && date(&text[..10]) == Some(b"")
        && text[10] == b'T'
        && time(&text[11..]).is_some_and(is_zone)
}

fn is_zone(text: &[u8]) -> bool {
    match text {
        b"Z" => true,
        [b'+' | b'-', rest @ ..] => match number(rest, 2) {
            Some((hour, [b':', rest @ ..])) => match number(rest, 2) {
                Some((minute, b"")) => (hour < 14 && minute < 60) || (hour == 14 && minute == 0),
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

/// What follows a year, a month or a day that exists.
fn date(text: &[u8]) -> Option<&[u8]> {
    let (year, rest) = number(text, 4)?;
    if year == 0 {
        return None;
    }
    let [b'-', rest @ ..] = rest else { return Some(rest) };
    let (month, rest) = number(rest, 2)?;
    if !(1..=12).contains(&month) {
        return None;
    }
    let [b'-', rest @ ..] = rest else { return Some(rest) };
    let (day, rest) = number(rest, 2)?;
    (1..=days(year, month)).contains(&day).then_some(rest)
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// What follows `hh:mm:ss` and a fraction; a second may be a leap second.
fn time(text: &[u8]) -> Option<&[u8]> {
    let (hour, rest) = number(text, 2)?;
    let (minute, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (second, rest) = number(rest.strip_prefix(b":")?, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let Some(fraction) = rest.strip_prefix(b".") else { return Some(rest) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &fraction[digits..])
}

/// The number that this many digits are, and what follows them.
fn number(text: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let digit = |byte: &u8| byte.is_ascii_digit();
    head.iter()
        .all(digit)
        .then(|| (head.iter().fold(0, |number, byte| number * 10 + u32::from(byte - b'0')), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(primitive: Primitive, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(primitive.admits(text), "{primitive:?} {text:?}");
        }
        for text in bad {
            assert!(!primitive.admits(text), "{primitive:?} {text:?}");
        }
    }

    #[test]
    fn dates_are_days_that_exist() {
        check(
            Primitive::Date,
            &["2026", "2026-11", "2024-02-29", "2000-02-29", "0001-01-01"],
            &[
                "",
                "26",
                "0000",
                "2026-1",
                "2026-13",
                "2026-00",
                "2025-02-29",
                "1900-02-29",
                "2026-04-31",
                "2026-01-00",
                "2026-01-01T00:00:00Z",
                "2026-",
                "2026-11-21 ",
                "not a date",
                "2026/11/21",
                "+2026",
                "２０２６",
            ],
        );
    }

    #[test]
    fn times_have_seconds_and_date_times_zones() {
        check(
            Primitive::DateTime,
            &[
                "2026",
                "2026-11-21",
                "2026-11-21T20:00:01Z",
                "2026-11-21T20:00:01.204+14:00",
                "2016-12-31T23:59:60Z",
                "2026-11-21T00:00:00.123456789012-05:30",
            ],
            &[
                "2026-11T20:00:00Z",
                "2026-11-21T20:00Z",
                "2026-11-21T20:00:01",
                "2026-11-21T24:00:00Z",
                "2026-11-21T20:60:00Z",
                "2026-11-21T20:00:61Z",
                "2026-11-21T20:00:01.Z",
                "2026-11-21T20:00:01+14:01",
                "2026-11-21T20:00:01+0100",
                "2026-11-21 20:00:01Z",
                "2026-11-21T20:00:01z",
                "2026-11-31T20:00:01Z",
            ],
        );
        check(
            Primitive::Instant,
            &["2026-11-21T20:00:01.204Z"],
            &["2026-11-21", "2026", "2026-11-21T20:00:01"],
        );
        check(
            Primitive::Time,
            &["00:00:00", "23:59:59.9"],
            &["24:00:00", "12:00", "12:00:00Z", "12:00:00."],
        );
    }

    #[test]
    fn integers_are_plain_and_of_32_bits() {
        check(
            Primitive::Integer,
            &["0", "-1", "2147483647", "-2147483648"],
            &["2147483648", "1.0", "1e2", "-0"],
        );
        check(Primitive::PositiveInt, &["1"], &["0", "-1", "2147483648"]);
        check(Primitive::UnsignedInt, &["0", "1"], &["-1", "0.5"]);
    }

    #[test]
    fn texts_keep_to_the_form_of_their_type() {
        check(Primitive::String, &["a", " a ", "line\nbreak\ttab"], &["", " ", "\n\t", "a\u{1}"]);
        check(Primitive::Code(None), &["a", "a b", "x-y:z"], &["", " a", "a ", "a  b"]);
        check(Primitive::Id, &["a", "A-1.b"], &["", "a_b", "a b", "ü"]);
        check(Primitive::Uri, &["urn:x", "a", "http://a/ü"], &["", "a b", "a\n", "a\u{a0}b"]);
        check(
            Primitive::Oid,
            &["urn:oid:1.2.3", "urn:oid:2.16.840.0.1"],
            &["1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1..2", "urn:oid:1.02"],
        );
        check(
            Primitive::Uuid,
            &["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
            &["urn:uuid:C757873D-EC9A-4326-A141-556F43239520", "urn:uuid:c757", "c757873d"],
        );
        check(
            Primitive::Base64Binary,
            &["QQ==", "QUI=", "QUJD", "QUJD\nQUJD", "QU JD"],
            &["", "QQ=", "Q", "QQ==QQ==", "%%%2@()()", "QQ.=", "QQ======"],
        );
    }
}
