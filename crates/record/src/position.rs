//! This module says how far a node holds a feed: sequence number, chain hash, cursor, horizon.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::version::Origin;

/// The place of a change set in its origin's feed, counted from 1; 0 is "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hash of a feed up to one change set: `hash(n) = SHA-256(hash(n-1), bytes(n))`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The hash that the first change set of a feed extends.
    #[must_use]
    pub fn start(origin: &Origin) -> Self {
        Self(
            Sha256::new()
                .chain_update(b"chartmesh feed ")
                .chain_update(origin.as_str())
                .finalize()
                .into(),
        )
    }

    /// The hash after the change set with these canonical bytes.
    #[must_use]
    pub fn extend(&self, canonical: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(canonical).finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far a node holds one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whose feed.
    pub origin: Origin,
    /// The last change set held.
    pub seq: Seq,
    /// The chain up to and with it.
    pub hash: ChainHash,
}

impl Cursor {
    /// The cursor of a feed of which nothing is held.
    #[must_use]
    pub fn start(origin: Origin) -> Self {
        let hash = ChainHash::start(&origin);
        Self { origin, seq: Seq(0), hash }
    }

    /// The cursor after the next change set.
    #[must_use]
    pub fn extend(&self, canonical: &[u8]) -> Self {
        Self {
            origin: self.origin.clone(),
            seq: self.seq.next(),
            hash: self.hash.extend(canonical),
        }
    }
}

/// All cursors of a node, one per origin.
pub type Horizon = BTreeMap<Origin, Cursor>;
