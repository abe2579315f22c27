//! This module reads the separators in values of a search: `,` `$` `|`, and the backslash before those
//! that are none (FHIR R4, search, 3.1.1.5.2).

/// The parts between separators that no backslash stands before.
pub fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |letter| {
        let splits = letter == separator && !escaped;
        escaped = letter == '\\' && !escaped;
        splits
    })
}

/// What is meant by a text with escapes.
///
/// # Errors
/// Says what stands after a backslash that should not.
pub fn unescape(text: &str) -> Result<String, &'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_separators_are_letters() {
        let parts: Vec<_> = split(r"a\,b,c\\,d", ',').collect();
        assert_eq!(parts, [r"a\,b", r"c\\", "d"]);
        assert_eq!(unescape(r"a\,b\\\|\$").as_deref(), Ok(r"a,b\|$"));
        assert!(unescape(r"a\n").is_err());
    }
}
