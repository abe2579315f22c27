//! This module reads the parameters of a URL's query, and writes values into one.

use std::borrow::Cow;
use std::fmt::Write;

/// The parameters of a query, in order, decoded one by one.
pub(crate) struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    /// The query after the question mark.
    pub(crate) fn new(text: Option<&'q str>) -> Self {
        Self(text.unwrap_or_default())
    }

    /// Names and values as sent.
    pub(crate) fn raw(&self) -> impl Iterator<Item = (&'q str, &'q str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// The first value of this name, decoded.
    pub(crate) fn value(&self, name: &str) -> Option<Cow<'q, str>> {
        self.raw().find(|(raw, _)| decode(raw) == name).map(|(_, value)| decode(value))
    }

    /// The query as sent, without the parameters that concern only how the answer is written.
    pub(crate) fn criteria(&self) -> String {
        let kept = self.0.split('&').filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            !pair.is_empty() && !matches!(&*decode(name), "_format" | "_pretty")
        });
        kept.collect::<Vec<_>>().join("&")
    }

    /// The first parameter that is neither a general one nor among these.
    pub(crate) fn other_than(&self, known: &[&str]) -> Option<String> {
        let names = self.raw().map(|(name, _)| decode(name));
        let mut unknown = names.filter(|name| !GENERAL.contains(&&**name));
        unknown.find(|name| !known.contains(&&**name)).map(Cow::into_owned)
    }
}

/// Parameters that concern how an answer is written (FHIR R4, http, 3.1.0.1.11). Those that would
/// leave something out of it are hints, and the whole is always given.
const GENERAL: [&str; 4] = ["_format", "_pretty", "_summary", "_elements"];

/// Percent-encoding of a value in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes whatever is written");
        }
    }
    out
}

/// Percent-decoding, with `+` for a space. What is no valid encoding stays as it is.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escape = bytes.get(place + 1..place + 3).filter(|_| bytes[place] == b'%');
        let escaped = escape
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                place += 3;
            }
            None => {
                out.push(if bytes[place] == b'+' { b' ' } else { bytes[place] });
                place += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_survives_its_encoding(text in ".{0,20}") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&'));
            prop_assert_eq!(decode(&encoded), text);
        }
    }
}
