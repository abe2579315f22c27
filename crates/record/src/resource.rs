//! This module holds a validated resource: its bytes to the letter, minified, cut into what a
//! server sets and the rest.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::invalid::{Invalid, ProblemSort};
use crate::json::{Document, Kind, Minifier, Value};
use crate::kind::{ResourceId, ResourceKey, ResourceType};
use crate::structure;
use crate::timestamp::Timestamp;
use crate::validate::Validator;
use crate::version::VersionId;

/// System and code of the tag that reads put on a resource in conflict; it is never stored.
pub const CONFLICT_TAG: (&str, &str) = ("urn:chartmesh", "conflict");

/// A validated resource.
///
/// `content` is `meta ++ body`: the members of `meta` other than `versionId` and `lastUpdated`, then
/// the members of the resource other than `resourceType`, `id` and `meta`; each part minified JSON
/// members without the braces around them, possibly empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    kind: ResourceType,
    id: Option<ResourceId>,
    content: Bytes,
    meta_len: usize,
}

impl Resource {
    /// Reads and checks a resource of any type.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let document = Document::parse(bytes)?;
        let mut validator = Validator::new();
        let kind = check(&mut validator, document.root());
        validator.finish()?;
        let kind = kind.expect("a resource without problems has a type");
        Ok(Self::cut(kind, document.root(), &[]).0)
    }

    /// Cuts a resource that was checked, and says where these ranges of the source, in ascending
    /// order and each within one string, now stand in its content: by number, in the content's order,
    /// those that are part of it.
    pub(crate) fn cut(
        kind: ResourceType,
        value: Value<'_>,
        wanted: &[Range<usize>],
    ) -> (Self, Vec<(usize, Range<usize>)>) {
        let out = Vec::with_capacity(value.span().len());
        let meta = value.member("meta");
        let mut placed = Vec::new();
        let mut writer = Minifier::new(out, wanted);
        for member in meta.into_iter().flat_map(Value::children) {
            match &*member.name() {
                "versionId" | "_versionId" | "lastUpdated" | "_lastUpdated" => {}
                "tag" => write_tags(&mut writer, member),
                _ => writer.member(member, writer.out.is_empty()),
            }
        }
        let meta_len = writer.out.len();
        placed.append(&mut writer.placed);

        let mut writer = Minifier::new(writer.out, wanted);
        let mut id = None;
        for member in value.children() {
            match &*member.name() {
                "resourceType" | "meta" => {}
                "id" => id = member.string().and_then(|id| id.parse().ok()),
                _ => writer.member(member, writer.out.len() == meta_len),
            }
        }
        placed.append(&mut writer.placed);
        let content = Bytes::from(writer.out.into_boxed_slice());
        (Self { kind, id, content, meta_len }, placed)
    }

    /// Puts a resource together from its parts, which must come from a parsed resource.
    #[must_use]
    pub fn from_parts(
        kind: ResourceType,
        id: Option<ResourceId>,
        content: Bytes,
        meta_len: usize,
    ) -> Self {
        assert!(meta_len <= content.len(), "the meta members lie within the content");
        Self { kind, id, content, meta_len }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// The id that its sender gave it.
    #[must_use]
    pub fn id(&self) -> Option<&ResourceId> {
        self.id.as_ref()
    }

    /// The members of `meta`, then the members of the resource.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// How many bytes of the content are members of `meta`.
    #[must_use]
    pub fn meta_len(&self) -> usize {
        self.meta_len
    }

    /// The resource as it is read: minified JSON with `resourceType`, `id` and `meta` first.
    #[must_use]
    pub fn render(&self, key: &ResourceKey, version: &VersionId, at: Timestamp) -> Bytes {
        let (meta, body) = self.content.split_at(self.meta_len);
        let mut out = Vec::with_capacity(self.content.len() + 220);
        let head = format!(
            r#"{{"resourceType":"{}","id":"{}","meta":{{"versionId":"{version}","lastUpdated":"{at}""#,
            key.kind, key.id
        );
        out.extend_from_slice(head.as_bytes());
        for (members, close) in [(meta, b'}'), (body, b'}')] {
            if !members.is_empty() {
                out.push(b',');
                out.extend_from_slice(members);
            }
            out.push(close);
        }
        out.into()
    }
}

/// Checks a resource: against the table of R4, then by the second opinion. Its type, if that can be
/// told.
pub(crate) fn check<'d>(validator: &mut Validator<'d>, value: Value<'d>) -> Option<ResourceType> {
    let before = validator.problems();
    let kind = validator.resource(value)?;
    if validator.problems() == before
        && let Some((culprit, reason)) = structure::objection(kind, value)
    {
        validator.fault(culprit, ProblemSort::Structure, reason);
    }
    Some(kind)
}

/// Writes `meta.tag` without the tag that reads put on resources in conflict.
fn write_tags(writer: &mut Minifier<'_>, tags: Value<'_>) {
    let is = |tag: Value<'_>, name: &str, value: &str| {
        tag.member(name).and_then(Value::string).is_some_and(|string| string == value)
    };
    let is_ours = |tag: &Value<'_>| {
        tag.kind() == Kind::Object
            && is(*tag, "system", CONFLICT_TAG.0)
            && is(*tag, "code", CONFLICT_TAG.1)
    };
    let first = writer.out.is_empty();
    if !tags.children().any(|tag| is_ours(&tag)) {
        return writer.member(tags, first);
    }
    let kept: Vec<_> = tags.children().filter(|tag| !is_ours(tag)).collect();
    if !kept.is_empty() {
        writer.array("tag", first, &kept);
    }
}

/// The first 16 bytes of a SHA-256 of a rendered resource, without its id and the server's meta.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyHash(pub [u8; 16]);

impl BodyHash {
    /// The hash of a rendered resource without what the server sets in it; of nothing: a deletion.
    #[must_use]
    pub fn of(rendered: &[u8]) -> Self {
        const LAST: &[u8] = br#""lastUpdated":""#;
        let stamp = rendered.windows(LAST.len()).position(|window| window == LAST);
        let rest = stamp.map_or(rendered, |place| &rendered[place + LAST.len()..]);
        let after = rest.iter().position(|&byte| byte == b'"').map_or(rest, |end| &rest[end..]);
        let hash: [u8; 32] = Sha256::digest(after).into();
        Self(hash.first_chunk().copied().expect("32 bytes hold 16"))
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
