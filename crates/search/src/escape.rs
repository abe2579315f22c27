//! This module reads the separators in values: `,` `$` `|`, and the backslash before those that are
//! none (FHIR R4, search, 3.1.1.5.2).

use crate::fault::Fault;

/// The parts between separators that no backslash stands before.
pub(crate) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |letter| {
        let splits = letter == separator && !escaped;
        escaped = letter == '\\' && !escaped;
        splits
    })
}

/// What is meant by a text with escapes.
pub(crate) fn unescape(text: &str) -> Result<String, Fault> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => letters
                .next()
                .filter(|escaped| matches!(escaped, '\\' | ',' | '|' | '$'))
                .ok_or("'\\' is not followed by one of \\ , | $")?,
            plain => plain,
        });
    }
    Ok(plain)
}

/// A text with a backslash before what would be a separator.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | ',' | '|' | '$') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_separators_are_letters() {
        let parts: Vec<_> = split(r"a\,b,c\\,d", ',').collect();
        assert_eq!(parts, [r"a\,b", r"c\\", "d"]);
        assert_eq!(unescape(r"a\,b\\\|\$").as_deref(), Ok(r"a,b\|$"));
        assert_eq!(unescape(&escape(r"a,b\|$c")).as_deref(), Ok(r"a,b\|$c"));
        assert!(unescape(r"a\n").is_err());
    }
}
