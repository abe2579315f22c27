//! This module holds a validated resource: its bytes to the letter, minified, cut into what a
//! server sets and the rest.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::kind::{ResourceId, ResourceKey, ResourceType};
use crate::timestamp::Timestamp;
use crate::version::VersionId;

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

/// The first 16 bytes of a SHA-256 of a rendered resource, without its id and the server's meta.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
