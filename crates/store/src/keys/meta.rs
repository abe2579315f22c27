//! This module names the rows of which there is one each.
//!
//! ```text
//! 'm' 'f' -> format (4)      'm' 'a' -> what the caller keeps beside      'm' 'd' -> digest (32)
//! 'm' 'i' -> the format of the search index (4), the zone of its dates: seconds east (4)
//! 'm' 'j' -> the added search parameters that all resources are indexed by, a line each
//! 'm' 'h' -> when the first and the last version arrived (8 each)
//! 'm' 'n' -> how fresh what is held was when it was last noted
//! 'm' 'p' -> what the voters of the region have acknowledged      'm' 'r' -> that it was recovered
//! ```

/// A row of which there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaKey {
    /// The format of all rows.
    Format,
    /// What the caller of apply keeps beside.
    Applied,
    /// The digest of what is held.
    Digest,
    /// How the search index was made.
    Index,
    /// The added parameters that everything is indexed by.
    Added,
    /// Between when everything has arrived.
    Arrivals,
    /// A note.
    Note(Note),
}

/// What the crates above note down, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// How fresh what is held is.
    Freshness,
    /// What the voters of the region have acknowledged.
    Promises,
    /// That the region was recovered.
    Recovery,
}

impl MetaKey {
    pub(crate) fn key(self) -> &'static [u8] {
        match self {
            Self::Format => b"mf",
            Self::Applied => b"ma",
            Self::Digest => b"md",
            Self::Index => b"mi",
            Self::Added => b"mj",
            Self::Arrivals => b"mh",
            Self::Note(Note::Freshness) => b"mn",
            Self::Note(Note::Promises) => b"mp",
            Self::Note(Note::Recovery) => b"mr",
        }
    }
}

/// The format that this software writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;

/// The value of the row of the format.
pub(crate) fn encode_format() -> [u8; 4] {
    FORMAT.to_be_bytes()
}

/// The format in its row.
pub(crate) fn decode_format(row: &[u8]) -> Option<u32> {
    row.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_share_a_key() {
        let notes = [Note::Freshness, Note::Promises, Note::Recovery].map(MetaKey::Note);
        let keys = [MetaKey::Format, MetaKey::Applied, MetaKey::Digest].into_iter().chain(notes);
        let keys: Vec<&[u8]> = keys.map(MetaKey::key).collect();
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key));
        }
    }

    #[test]
    fn the_format_survives_its_row() {
        assert_eq!(decode_format(&encode_format()), Some(FORMAT));
        assert_eq!(decode_format(b"1"), None);
    }
}
