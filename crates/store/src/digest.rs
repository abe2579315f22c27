//! This module sums up what is held in 32 bytes that do not depend on the order of arrival.

use std::fmt;

use chartmesh_record::{Head, ResourceKey};
use sha2::{Digest, Sha256};

/// The sum of a hash per resource, over its key and its heads: equal for nodes that hold the same
/// change sets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StateDigest([u64; 4]);

impl StateDigest {
    /// The 32 bytes, the lowest first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        Some(Self(words))
    }

    /// What a resource adds: nothing if no version of it is held.
    pub(crate) fn of_resource<'h>(
        key: &ResourceKey,
        heads: impl IntoIterator<Item = &'h Head>,
    ) -> Self {
        let mut heads: Vec<&Head> = heads.into_iter().collect();
        if heads.is_empty() {
            return Self::default();
        }
        heads.sort_by(|a, b| a.version.cmp(&b.version));
        let mut hash = Sha256::new().chain_update(key.to_string());
        for head in heads {
            hash.update(format!("\n{} {}", head.version, head.deleted));
            hash.update(head.request.0);
            hash.update(head.body.0);
            for (origin, generation) in &head.ancestry.seen {
                hash.update(format!(" {generation}-{origin}"));
            }
            for kept in &head.ancestry.kept {
                hash.update(format!(" +{kept}"));
            }
        }
        Self::from_bytes(&hash.finalize()).expect("a SHA-256 has 32 bytes")
    }

    pub(crate) fn add(&mut self, other: Self) {
        let mut carry = false;
        for (word, addend) in self.0.iter_mut().zip(other.0) {
            let (sum, over) = word.overflowing_add(addend);
            let (sum, over_again) = sum.overflowing_add(carry.into());
            (*word, carry) = (sum, over || over_again);
        }
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        let mut borrow = false;
        for (word, subtrahend) in self.0.iter_mut().zip(other.0) {
            let (rest, under) = word.overflowing_sub(subtrahend);
            let (rest, under_again) = rest.overflowing_sub(borrow.into());
            (*word, borrow) = (rest, under || under_again);
        }
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_added_can_be_taken_away_in_any_order(all: Vec<[u64; 4]>) {
            let mut sum = StateDigest::default();
            for &one in &all {
                sum.add(StateDigest(one));
            }
            for &one in &all {
                sum.subtract(StateDigest(one));
            }
            prop_assert_eq!(sum, StateDigest::default());
        }

        #[test]
        fn a_digest_survives_its_bytes(words: [u64; 4]) {
            let digest = StateDigest(words);
            prop_assert_eq!(StateDigest::from_bytes(&digest.to_bytes()), Some(digest));
        }
    }

    #[test]
    fn a_carry_reaches_the_last_word() {
        let mut sum = StateDigest([u64::MAX; 4]);
        sum.add(StateDigest([1, 0, 0, 0]));
        assert_eq!(sum, StateDigest::default());
    }
}
