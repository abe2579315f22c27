//! This module holds the row of a business identifier of a current version that is no deletion.
//!
//! ```text
//! type (1) value system? id -> nothing
//! ```
//! Value and system are texts that end by themselves: a zero byte within is followed by 0xff, the
//! end is two zeros. Of a text that is longer than [`MAX_TEXT_BYTES`] the SHA-256 stands for the
//! rest, after a zero and a one. An absent system is one zero byte, a present one follows a one.

use std::collections::BTreeSet;

use chartmesh_record::{Identifier, ResourceId, ResourceKey, ResourceType, identifiers};
use sha2::{Digest, Sha256};

use crate::limits::MAX_TEXT_BYTES;

/// What the key of an identifier begins with, or all of it.
#[derive(Debug)]
pub(crate) struct IdentifierKey(Vec<u8>);

impl IdentifierKey {
    /// The part that all identifiers of a type share.
    pub(crate) fn of_type(kind: ResourceType) -> Self {
        Self(vec![kind.code()])
    }

    /// The part that all with this value share, whatever their system.
    pub(crate) fn of_value(kind: ResourceType, value: &str) -> Self {
        let mut key = Self::of_type(kind);
        key.put_text(value);
        key
    }

    /// The part that all with this system and value share, whatever their resource.
    pub(crate) fn of_identifier(kind: ResourceType, (system, value): &Identifier) -> Self {
        let mut key = Self::of_value(kind, value);
        key.put_system(system.as_deref());
        key
    }

    /// The key of one identifier of one resource.
    pub(crate) fn encode(kind: ResourceType, identifier: &Identifier, id: &ResourceId) -> Vec<u8> {
        let mut key = Self::of_identifier(kind, identifier);
        key.0.extend_from_slice(id.as_str().as_bytes());
        key.0
    }

    /// The keys of all identifiers of a resource with this content.
    pub(crate) fn all(resource: &ResourceKey, content: Option<&[u8]>) -> BTreeSet<Vec<u8>> {
        let identifiers = content.map(identifiers).unwrap_or_default();
        let keys = identifiers.iter().map(|it| Self::encode(resource.kind, it, &resource.id));
        keys.collect()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id in a key, and whether the key has this system.
    pub(crate) fn decode(key: &[u8], system: Option<&str>) -> Option<(ResourceId, bool)> {
        let rest = skip_text(key.get(1..)?)?;
        let (&present, after) = rest.split_first()?;
        let id = if present == 0 { after } else { skip_text(after)? };
        let mut asked = Self(Vec::new());
        asked.put_system(system);
        let same = rest[..rest.len() - id.len()] == asked.0;
        Some((std::str::from_utf8(id).ok()?.parse().ok()?, same))
    }

    fn put_system(&mut self, system: Option<&str>) {
        self.0.push(system.is_some().into());
        if let Some(system) = system {
            self.put_text(system);
        }
    }

    fn put_text(&mut self, text: &str) {
        let whole = text.len() <= MAX_TEXT_BYTES;
        for &byte in &text.as_bytes()[..text.len().min(MAX_TEXT_BYTES)] {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.extend_from_slice(&[0, u8::from(!whole)]);
        if !whole {
            self.0.extend_from_slice(&Sha256::digest(text));
        }
    }
}

/// What follows a text.
fn skip_text(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match bytes.get(at..)? {
            [0, 0xff, ..] => at += 2,
            [0, 0, rest @ ..] => return Some(rest),
            [0, 1, rest @ ..] => return rest.get(32..),
            [other, ..] if *other != 0 => at += 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::resources;
    use super::*;

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof!["[a\u{0}\u{1}b]{0,6}", ".{0,20}", "x{250,300}"]
    }

    proptest! {
        #[test]
        fn a_key_gives_its_resource_back_and_knows_its_system(
            resource in resources(), system in prop::option::of(texts()), value in texts(),
            other in prop::option::of(texts()),
        ) {
            let identifier = (system.clone(), value);
            let key = IdentifierKey::encode(resource.kind, &identifier, &resource.id);

            let decoded = IdentifierKey::decode(&key, system.as_deref());
            prop_assert_eq!(decoded, Some((resource.id.clone(), true)));
            let decoded = IdentifierKey::decode(&key, other.as_deref());
            prop_assert_eq!(decoded, Some((resource.id, other == system)));
        }

        #[test]
        fn a_prefix_is_shared_by_what_has_the_same_value_and_by_nothing_else(
            resource in resources(), system in prop::option::of(texts()), a in texts(), b in texts(),
        ) {
            let key = IdentifierKey::encode(resource.kind, &(system, a.clone()), &resource.id);
            let prefix = IdentifierKey::of_value(resource.kind, &b);
            prop_assert_eq!(key.starts_with(prefix.as_bytes()), a == b);
        }

        #[test]
        fn short_values_sort_as_their_texts(a in ".{0,9}", b in ".{0,9}", resource in resources()) {
            let key = |text: &str| IdentifierKey::of_value(resource.kind, text).0;
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(key: Vec<u8>) {
            let _ = IdentifierKey::decode(&key, None);
        }
    }
}
