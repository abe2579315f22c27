//! This module finds the parts of a JSON text without changing a byte of them.
//!
//! The text must be valid: it has been parsed before. Parts are slices of it, so that numbers and
//! escapes are passed on as they were written.

/// The members of an object: each name, without its quotes and with its escapes, and its value.
pub(super) fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut parts = parts(object);
    std::iter::from_fn(move || {
        let name = parts.next()?;
        Some((name.get(1..name.len() - 1)?, parts.next()?))
    })
}

/// The elements of an array.
pub(super) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    parts(array)
}

/// The value of the member of this name.
pub(super) fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    members(object).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

/// The value of the member of this name, if it is a string.
pub(super) fn text_member(object: &[u8], name: &str) -> Option<String> {
    serde_json::from_slice(member(object, name)?).ok()
}

/// Everything directly within the brackets: names and values alike.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let opened =
        text.iter().position(|byte| matches!(byte, b'{' | b'[')).map_or(text.len(), |at| at + 1);
    let mut rest = &text[opened..];
    std::iter::from_fn(move || {
        let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b':');
        let start = rest.iter().position(|byte| !between(byte))?;
        let length = value_length(&rest[start..])?;
        let (part, after) = rest[start..].split_at(length);
        rest = after;
        Some(part)
    })
}

/// The length of the value that the text begins with; nothing at a closing bracket.
fn value_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => Some(string_length(text)),
        b'{' | b'[' => Some(nested_length(text)),
        b'}' | b']' => None,
        _ => text
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']'))
            .or(Some(text.len())),
    }
}

fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn nested_length(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        match text[at] {
            b'"' => {
                at += string_length(&text[at..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_the_bytes_as_written() {
        let object =
            br#" { "a" : 1.10 , "b\"}" : [ "x,]" , {"y":[]}, true ] ,"c":{"d":"\\"},"e":-1}"#;

        let found: Vec<_> = members(object)
            .map(|(name, value)| (str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap()))
            .collect();

        let list = r#"[ "x,]" , {"y":[]}, true ]"#;
        assert_eq!(found, [("a", "1.10"), ("b\\\"}", list), ("c", r#"{"d":"\\"}"#), ("e", "-1")]);
        let inner: Vec<_> = elements(list.as_bytes()).map(|e| str::from_utf8(e).unwrap()).collect();
        assert_eq!(inner, [r#""x,]""#, r#"{"y":[]}"#, "true"]);
        assert_eq!(members(b"{}").count() + elements(b" [ ] ").count(), 0);
    }

    #[test]
    fn a_member_is_found_by_its_name_and_read_as_text() {
        let object = br#"{"url":"a\u0062","n":5}"#;
        assert_eq!(text_member(object, "url").as_deref(), Some("ab"));
        assert_eq!(text_member(object, "n"), None);
        assert_eq!(member(object, "x"), None);
    }
}
