//! This module reads the headers that make a request depend on what is there (RFC 9110, 13.1).
//!
//! ETags are taken weak or strong, quoted or not: `W/"3-a"`, `"3-a"` and `3-a` name one version.

use chartmesh_record::{BundledRead, EntityTag, Precondition, Timestamp, VersionId};
use http::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::http_date;

/// A header that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name} cannot be used: {reason}")]
pub(crate) struct InvalidHeader {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
}

/// The ETags of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Some(Vec<EntityTag>),
}

/// What a read's client holds already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cached {
    tags: Option<Tags>,
    since: Option<Timestamp>,
}

impl Cached {
    /// What the headers say. A date that cannot be read is ignored (RFC 9110, 13.1.3).
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, InvalidHeader> {
        let tags = tags(headers, &IF_NONE_MATCH, "If-None-Match")?;
        let since = match &tags {
            None => headers
                .get(IF_MODIFIED_SINCE)
                .and_then(|date| http_date::parse(date.to_str().ok()?)),
            Some(_) => None,
        };
        Ok(Self { tags, since })
    }

    /// What an entry of a bundle says. A date that cannot be read is ignored.
    pub(crate) fn of_entry(read: &BundledRead) -> Result<Self, InvalidHeader> {
        let invalid = InvalidHeader { name: "ifNoneMatch", reason: "it is no list of ETags" };
        let tags = read.if_none_match.as_deref().map(|text| Tags::parse(text).ok_or(invalid));
        let since = read.if_modified_since.as_deref().filter(|_| tags.is_none());
        let since = since.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let since = since.map(|since| Timestamp(since.unix_timestamp() * 1000));
        Ok(Self { tags: tags.transpose()?, since })
    }

    /// Whether the client holds this version already (304).
    pub(crate) fn holds(&self, version: &VersionId, at: Timestamp) -> bool {
        match &self.tags {
            Some(Tags::Any) => true,
            Some(Tags::Some(tags)) => {
                let version = version.to_string();
                tags.iter().any(|tag| tag.0 == version)
            }
            // The header counts whole seconds.
            None => self.since.is_some_and(|since| at.0.div_euclid(1000) <= since.0 / 1000),
        }
    }
}

/// What a write's client says it has seen.
pub(crate) fn precondition(headers: &HeaderMap) -> Result<Precondition, InvalidHeader> {
    let invalid = |name, reason| Err(InvalidHeader { name, reason });
    if headers.contains_key(IF_UNMODIFIED_SINCE) {
        return invalid("If-Unmodified-Since", "versions are told apart by If-Match alone");
    }
    let matches = tags(headers, &IF_MATCH, "If-Match")?;
    let absent = tags(headers, &IF_NONE_MATCH, "If-None-Match")?;
    match (matches, absent) {
        (None, None) => Ok(Precondition::None),
        (Some(Tags::Any), None) => Ok(Precondition::Exists),
        (Some(Tags::Some(tags)), None) => Ok(Precondition::Match(tags)),
        (None, Some(Tags::Any)) => Ok(Precondition::Absent),
        (None, Some(Tags::Some(_))) => invalid("If-None-Match", "a write takes only *"),
        (Some(_), Some(_)) => invalid("If-None-Match", "it excludes If-Match"),
    }
}

fn tags(
    headers: &HeaderMap,
    header: &HeaderName,
    name: &'static str,
) -> Result<Option<Tags>, InvalidHeader> {
    let invalid = |reason| InvalidHeader { name, reason };
    let values = headers.get_all(header).iter().map(|value| value.to_str());
    let values: Vec<&str> =
        values.collect::<Result<_, _>>().map_err(|_| invalid("it is not plain ASCII"))?;
    if values.is_empty() {
        return Ok(None);
    }
    Tags::parse(&values.join(",")).map(Some).ok_or(invalid("it is no list of ETags"))
}

impl Tags {
    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        EntityTag::list(text).map(Self::Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    fn matching(tags: &[&str]) -> Precondition {
        Precondition::Match(tags.iter().map(|&tag| EntityTag(tag.to_owned())).collect())
    }

    #[test]
    fn a_precondition_takes_tags_weak_strong_unquoted_and_several() {
        let check = |value: &str, expect: Precondition| {
            assert_eq!(precondition(&headers(&[(IF_MATCH, value)])), Ok(expect), "{value}");
        };
        check(r#"W/"3-a.b""#, matching(&["3-a.b"]));
        check(r#""3-a.b""#, matching(&["3-a.b"]));
        check("3-a.b", matching(&["3-a.b"]));
        check("W/3-a.b", matching(&["3-a.b"]));
        check(r#"W/"1", "2" , 3"#, matching(&["1", "2", "3"]));
        check(r#"W/"1","2",3,"#, matching(&["1", "2", "3"]));
        check(r#""a,b", c"#, matching(&["a,b", "c"]));
        check("*", Precondition::Exists);
    }

    #[test]
    fn several_headers_of_one_name_are_one_list() {
        let given = headers(&[(IF_MATCH, "\"1\""), (IF_MATCH, "\"2\"")]);
        assert_eq!(precondition(&given), Ok(matching(&["1", "2"])));
    }

    #[test]
    fn a_precondition_that_cannot_be_kept_is_refused() {
        for bad in [
            headers(&[(IF_MATCH, "")]),
            headers(&[(IF_MATCH, ",")]),
            headers(&[(IF_MATCH, "\"1")]),
            headers(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]),
            headers(&[(IF_NONE_MATCH, "\"1\"")]),
            headers(&[(IF_UNMODIFIED_SINCE, "Sat, 21 Nov 2026 20:00:01 GMT")]),
            headers(&[(IF_MATCH, &"1,".repeat(1000))]),
        ] {
            assert!(precondition(&bad).is_err(), "{bad:?}");
        }
        let absent = headers(&[(IF_NONE_MATCH, "*")]);
        assert_eq!(precondition(&absent), Ok(Precondition::Absent));
        assert_eq!(precondition(&HeaderMap::new()), Ok(Precondition::None));
    }

    #[test]
    fn a_cached_version_is_recognized_by_tag_or_else_by_date() {
        let version: VersionId = "3-pac.7h2k4m9qzx".parse().unwrap();
        let at = Timestamp(1_795_291_201_204); // 2026-11-21T20:00:01.204Z
        let holds =
            |pairs: &[(HeaderName, &str)]| Cached::of(&headers(pairs)).unwrap().holds(&version, at);
        assert!(!holds(&[]));
        assert!(holds(&[(IF_NONE_MATCH, r#"W/"3-pac.7h2k4m9qzx""#)]));
        assert!(holds(&[(IF_NONE_MATCH, r#""1", "3-pac.7h2k4m9qzx""#)]));
        assert!(holds(&[(IF_NONE_MATCH, "*")]));
        assert!(!holds(&[(IF_NONE_MATCH, r#"W/"2-pac.7h2k4m9qzx""#)]));
        assert!(holds(&[(IF_MODIFIED_SINCE, "Sat, 21 Nov 2026 20:00:01 GMT")]));
        assert!(!holds(&[(IF_MODIFIED_SINCE, "Sat, 21 Nov 2026 20:00:00 GMT")]));
        assert!(!holds(&[(IF_MODIFIED_SINCE, "yesterday")]));
        assert!(!holds(&[
            (IF_NONE_MATCH, "\"1\""),
            (IF_MODIFIED_SINCE, "Sat, 21 Nov 2026 20:00:01 GMT")
        ]));
    }
}
