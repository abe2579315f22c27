//! This module reads ETags out of a condition (RFC 9110, 8.8.3): weak, strong, and, since clients send
//! them, without quotes.

use crate::command::EntityTag;
use crate::limits;

impl EntityTag {
    /// The tags of a list, `W/"1", "2"`: at least one. `None` if it is none, or of too many.
    #[must_use]
    pub fn list(text: &str) -> Option<Vec<Self>> {
        let mut tags = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let bare = rest.strip_prefix("W/").unwrap_or(rest);
            let (tag, after) = match bare.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => bare.split_at(bare.find(',').unwrap_or(bare.len())),
            };
            if !tag.trim().is_empty() {
                tags.push(Self(tag.trim().to_owned()));
            }
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        (1..=limits::MAX_ENTITY_TAGS).contains(&tags.len()).then_some(tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_tags_weak_strong_unquoted_and_several() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let expected: Option<Vec<EntityTag>> =
                expected.map(|tags| tags.iter().map(|tag| EntityTag((*tag).to_owned())).collect());
            assert_eq!(EntityTag::list(text), expected, "{text}");
        };
        check(r#"W/"3-a.b""#, Some(&["3-a.b"]));
        check("3-a.b", Some(&["3-a.b"]));
        check(r#" W/"1" , "2",3,"#, Some(&["1", "2", "3"]));
        check(r#""a,b", c"#, Some(&["a,b", "c"]));
        for bad in ["", ",", "\"1", "\"1\" \"2\"", &"1,".repeat(limits::MAX_ENTITY_TAGS + 1)] {
            check(bad, None);
        }
    }
}
