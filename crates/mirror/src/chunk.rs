//! This module puts the pieces of a chunk together, never taking more memory than the chunk may have.

use std::io::{self, Write};
use std::mem;

use bytes::Bytes;
use chartmesh_wire::{WireError, proto};
use zstd::stream::write::Decoder;

use crate::limits::{CHUNK_BYTES_MAX, PULL_WINDOW_WIDE};

/// Successive change sets of one feed, as they came.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The canonical bytes of each.
    pub(crate) changes: Vec<Bytes>,
    /// The feed's hash up to and with them, as the peer holds it.
    pub(crate) hash: Bytes,
    length: usize,
}

/// Why a chunk cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a chunk of {0} bytes is longer than any may be")]
    TooLong(u64),
    #[error("a chunk is not compressed as it should be: {0}")]
    NotCompressed(io::Error),
    #[error("a chunk is not as long as it says")]
    Length,
    #[error("a chunk ends within a change set")]
    Torn,
    #[error("a change set cannot be read: {0}")]
    Change(WireError),
}

/// The chunks of a call, one after the other.
pub(crate) struct Assembly(Decoder<'static, Room>);

/// What may be written to up to a length.
#[derive(Debug, Default)]
struct Room {
    bytes: Vec<u8>,
    most: usize,
}

impl Assembly {
    pub(crate) fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new(Room::default())?;
        decoder.window_log_max(PULL_WINDOW_WIDE)?;
        Ok(Self(decoder))
    }

    /// Adds a piece. Returns the chunk once it is complete.
    pub(crate) fn add(&mut self, piece: &proto::PullResponse) -> Result<Option<Chunk>, Unreadable> {
        let too_long = || Unreadable::TooLong(piece.length);
        let length = usize::try_from(piece.length).map_err(|_| too_long())?;
        if length > CHUNK_BYTES_MAX {
            return Err(too_long());
        }
        self.0.get_mut().most = length;
        if !piece.changes.is_empty() {
            self.0.write_all(&piece.changes).map_err(Unreadable::NotCompressed)?;
        }
        if piece.more {
            return Ok(None);
        }
        self.0.flush().map_err(Unreadable::NotCompressed)?;
        let bytes = Bytes::from(mem::take(&mut self.0.get_mut().bytes));
        if bytes.len() != length {
            return Err(Unreadable::Length);
        }
        let changes = split(bytes)?;
        Ok(Some(Chunk { changes, hash: piece.hash.clone(), length }))
    }
}

impl Chunk {
    /// How long it is, before compression.
    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::other("it is longer than it says"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The change sets of a chunk.
fn split(mut bytes: Bytes) -> Result<Vec<Bytes>, Unreadable> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let (length, _) = bytes.split_first_chunk::<8>().ok_or(Unreadable::Torn)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let end = length.checked_add(8).filter(|&end| end <= bytes.len());
        let end = end.ok_or(Unreadable::Torn)?;
        changes.push(bytes.split_to(end).slice(8..));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use zstd::stream::write::Encoder;

    use super::*;

    fn piece(changes: impl Into<Bytes>, length: usize, more: bool) -> proto::PullResponse {
        let length = u64::try_from(length).expect("it is short");
        proto::PullResponse { changes: changes.into(), length, hash: Bytes::new(), more }
    }

    fn compressed(changes: &[&[u8]]) -> (Vec<u8>, usize) {
        let mut encoder = Encoder::new(Vec::new(), 1).expect("an encoder");
        let mut length = 0;
        for change in changes {
            encoder.write_all(&(change.len() as u64).to_be_bytes()).expect("room");
            encoder.write_all(change).expect("room");
            length += 8 + change.len();
        }
        encoder.flush().expect("room");
        (mem::take(encoder.get_mut()), length)
    }

    #[test]
    fn a_chunk_is_put_together_from_its_pieces() {
        let (bytes, length) = compressed(&[b"one", b"", b"three"]);
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        let mut assembly = Assembly::new().expect("a decoder");

        let first = assembly.add(&piece(head.to_vec(), length, true)).expect("a piece");
        let chunk = assembly.add(&piece(tail.to_vec(), length, false)).expect("a piece");

        assert!(first.is_none());
        let changes = chunk.expect("a chunk").changes;
        assert_eq!(changes, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn a_chunk_that_is_longer_or_shorter_than_it_says_is_not_read() {
        let zeroes = vec![0; 1 << 22];
        let (bytes, length) = compressed(&[&zeroes]);
        let add =
            |said| Assembly::new().expect("a decoder").add(&piece(bytes.clone(), said, false));

        assert!(add(length).is_ok());
        assert!(matches!(add(length - 1), Err(Unreadable::NotCompressed(_))));
        assert!(matches!(add(length + 1), Err(Unreadable::Length)));
        assert!(matches!(add(usize::MAX), Err(Unreadable::TooLong(_))));
    }

    #[test]
    fn a_chunk_that_is_torn_or_not_compressed_is_not_read() {
        let mut encoder = Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.write_all(&9_u64.to_be_bytes()).expect("room");
        encoder.write_all(b"short").expect("room");
        encoder.flush().expect("room");
        let torn = mem::take(encoder.get_mut());
        let add = |bytes: Vec<u8>, length| {
            Assembly::new().expect("a decoder").add(&piece(bytes, length, false))
        };

        assert!(matches!(add(torn, 13), Err(Unreadable::Torn)));
        assert!(matches!(add(b"plain bytes".to_vec(), 11), Err(Unreadable::NotCompressed(_))));
    }
}
