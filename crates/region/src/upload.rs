//! This module takes commands through the Raft log that are too big for a batch: cut into pieces on
//! the way in, put together again, ahead of the decision, at every voter.
//!
//! ```text
//! command --encode, compress, cut--> Part, Part, ..., Part(complete) --log--> Uploads --> Decided
//! ```
//! The log itself keeps the pieces: the decision names their places, so a voter that has restarted
//! reads them there, and what is kept ready in memory is only that.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chartmesh_record::Command;
use chartmesh_store::RaftLog;
use chartmesh_wire::raft::{Proposal, Upload};
use chartmesh_wire::{Canonical, MAX_COMMAND_BYTES, decode_command};
use openraft::EntryPayload;
use tokio::sync::Notify;

use crate::codec::entry_kept;
use crate::limits::{PIECE_BYTES, PIECE_LEVEL, PREPARED};
use crate::setup::Corrupt;
use crate::types::Sealed;

/// A big command, ready to be decided or assembled.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// The command.
    pub(crate) command: Arc<Command>,
    /// At the leader that has decided it: what became of it.
    pub(crate) change: Option<Canonical>,
}

/// The big commands that are kept ready, the newest last. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    log: RaftLog,
    kept: Arc<Mutex<VecDeque<(u64, Readied)>>>,
    changed: Arc<Notify>,
}

/// A command that is ready, or why it never will be.
pub(crate) type Readied = Result<Prepared, Arc<Corrupt>>;

impl Uploads {
    pub(crate) fn new(log: RaftLog) -> Self {
        Self { log, kept: Arc::default(), changed: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(u64, Readied)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a command ready; the oldest gives way.
    pub(crate) fn keep(&self, upload: u64, readied: Readied) {
        let mut kept = self.kept();
        kept.retain(|(known, _)| *known != upload);
        kept.push_back((upload, readied));
        while kept.len() > PREPARED {
            kept.pop_front();
        }
        self.changed.notify_one();
    }

    /// Returns when another command has become ready.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the command is ready.
    pub(crate) fn is_ready(&self, upload: u64) -> bool {
        self.kept().iter().any(|(known, _)| *known == upload)
    }

    /// The command, if it is ready.
    pub(crate) fn ready(&self, upload: u64) -> Option<Readied> {
        let kept = self.kept();
        kept.iter().find(|(known, _)| *known == upload).map(|(_, readied)| readied.clone())
    }

    /// Keeps nothing any more.
    pub(crate) fn forget(&self) {
        self.kept().clear();
    }

    /// The command, if it is ready; it is kept no longer.
    pub(crate) fn take(&self, upload: u64) -> Option<Prepared> {
        let mut kept = self.kept();
        let place = kept.iter().position(|(known, _)| *known == upload)?;
        kept.remove(place).and_then(|(_, readied)| readied.ok())
    }

    /// Whether the log holds all pieces of a command.
    pub(crate) fn are_held(&self, parts: &Upload) -> bool {
        let first = self.log.purged().map_or(0, |purged| purged.index + 1);
        parts.indexes.iter().all(|&index| index >= first)
    }

    /// Puts a command together from its pieces in the log.
    pub(crate) fn read(&self, parts: &Upload) -> Result<Prepared, Corrupt> {
        let corrupt = |reason: String| Corrupt { what: "a command in parts", reason };
        let mut pieces = Vec::with_capacity(parts.indexes.len());
        for &index in &parts.indexes {
            let read = self.log.read(index..index + 1).map_err(|e| corrupt(e.to_string()))?;
            let Some((_, kept)) = read.into_iter().next() else {
                return Err(corrupt(format!("entry {index} is not in the log")));
            };
            let EntryPayload::Normal(Sealed(bytes)) = entry_kept(kept)?.payload else {
                return Err(corrupt(format!("entry {index} is no part")));
            };
            match Proposal::decode(bytes).map_err(|e| corrupt(e.to_string()))? {
                Proposal::Part { piece, .. } => pieces.push(piece),
                _ => return Err(corrupt(format!("entry {index} is no part"))),
            }
        }
        let command = join(&pieces, parts.length)?;
        Ok(Prepared { command: Arc::new(command), change: None })
    }
}

/// Puts a command together from its pieces.
pub(crate) fn join(pieces: &[Bytes], length: usize) -> Result<Command, Corrupt> {
    let corrupt = |reason: String| Corrupt { what: "a command in parts", reason };
    let command = expand(pieces, length).map_err(|e| corrupt(e.to_string()))?;
    let command = decode_command(command).map_err(|e| corrupt(e.to_string()))?;
    if !command.is_sound() {
        return Err(corrupt("a link leads nowhere".to_owned()));
    }
    Ok(command)
}

/// Compresses an encoded command and cuts it into pieces.
pub(crate) fn cut(command: &Bytes) -> io::Result<Vec<Bytes>> {
    let mut rest = Bytes::from(zstd::stream::encode_all(&command[..], PIECE_LEVEL)?);
    let mut pieces = Vec::with_capacity(rest.len() / PIECE_BYTES + 1);
    while !rest.is_empty() {
        pieces.push(rest.split_to(rest.len().min(PIECE_BYTES)));
    }
    Ok(pieces)
}

/// The encoded command in these pieces, which must have the given length.
pub(crate) fn expand(pieces: &[Bytes], length: usize) -> io::Result<Bytes> {
    if length > MAX_COMMAND_BYTES {
        return Err(io::Error::other(format!("{length} bytes, {MAX_COMMAND_BYTES} are allowed")));
    }
    let mut command = Vec::with_capacity(length);
    let limit = length as u64 + 1;
    zstd::stream::Decoder::new(Pieces { now: &[], next: pieces })?
        .take(limit)
        .read_to_end(&mut command)?;
    if command.len() == length {
        Ok(command.into())
    } else {
        Err(io::Error::other(format!("not {length} bytes after decompression")))
    }
}

/// Reads pieces as one stream.
struct Pieces<'a> {
    now: &'a [u8],
    next: &'a [Bytes],
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            let Some((piece, next)) = self.next.split_first() else {
                return Ok(0);
            };
            (self.now, self.next) = (piece, next);
        }
        self.now.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_being_cut() {
        let noise = (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
        let command: Bytes = noise.collect::<Vec<u8>>().into();

        let pieces = cut(&command).unwrap();

        assert!(pieces.len() > 1, "{} pieces", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(expand(&pieces, command.len()).unwrap(), command);
        for wrong in [command.len() - 1, command.len() + 1, MAX_COMMAND_BYTES + 1] {
            assert!(expand(&pieces, wrong).is_err(), "{wrong}");
        }
        assert!(expand(&pieces[1..], command.len()).is_err());
    }
}
