//! This module holds what the Raft log orders: proposals, and what a voter keeps of them.
//!
//! The bytes of a proposal are the same in memory, in the log on disk and between voters.

use bytes::Bytes;
use chartmesh_record::{ChainHash, Cursor, Origin, Seq, Timestamp};
use prost::Message;

use crate::error::{WireError, array, invalid, parse, required};
use crate::proto;

/// What a leader puts into the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// The region goes on under a new origin.
    Begin {
        /// The new origin.
        origin: Origin,
        /// The position that it continues; `None` at founding.
        continues: Option<Cursor>,
        /// When.
        at: Timestamp,
    },
    /// Change sets, decided in turn at one instant.
    Batch {
        /// What they extend.
        extends: Cursor,
        /// When they were decided: the feed is complete up to them as of then.
        at: Timestamp,
        /// Their canonical bytes, in the feed's order.
        change_sets: Vec<Bytes>,
    },
    /// A piece of a command that is too big for a batch.
    Part {
        /// Which command: drawn for it.
        upload: u64,
        /// A slice of the compressed command.
        piece: Bytes,
        /// With the last piece: all of them.
        complete: Option<Upload>,
    },
    /// The decision on a command that went through the log in parts.
    Decided {
        /// What its change set extends.
        extends: Cursor,
        /// When it was decided.
        at: Timestamp,
        /// Which command.
        upload: u64,
        /// Where its pieces stand.
        parts: Upload,
        /// What the decision fills in.
        decision: Bytes,
        /// SHA-256 of the canonical bytes of the change set.
        hash: [u8; 32],
    },
    /// The feed is complete as it stands, as of this instant.
    Statement {
        /// The instant.
        at: Timestamp,
    },
}

/// Where the pieces of a command stand in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The indexes of the entries that hold its pieces, in order. The last piece names those before
    /// it, the decision all.
    pub indexes: Vec<u64>,
    /// The length of the command before compression, in bytes.
    pub length: usize,
}

impl Proposal {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        use proto::proposal::Kind;
        let kind = match self {
            Self::Begin { origin, continues, at } => Kind::Begin(proto::Begin {
                origin: origin.to_string(),
                continues: continues.as_ref().map(encode_cursor),
                at: at.0,
            }),
            Self::Batch { extends, at, change_sets } => Kind::Batch(proto::Batch {
                extends: Some(encode_cursor(extends)),
                at: at.0,
                change_sets: change_sets.clone(),
            }),
            Self::Part { upload, piece, complete } => Kind::Part(proto::Part {
                upload: *upload,
                piece: piece.clone(),
                complete: complete.as_ref().map(upload_to),
            }),
            Self::Decided { extends, at, upload, parts, decision, hash } => {
                Kind::Decided(proto::Decided {
                    extends: Some(encode_cursor(extends)),
                    at: at.0,
                    upload: *upload,
                    parts: Some(upload_to(parts)),
                    decision: decision.clone(),
                    hash: Bytes::copy_from_slice(hash),
                })
            }
            Self::Statement { at } => Kind::Statement(proto::Statement { at: at.0 }),
        };
        proto::Proposal { kind: Some(kind) }.encode_to_vec().into()
    }

    /// The proposal in these bytes, of which its contents are slices.
    ///
    /// # Errors
    /// When they are not those of a proposal.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        use proto::proposal::Kind;
        let extends = |position: Option<proto::FeedPosition>| {
            decode_cursor(&required(position, "Proposal.extends")?)
        };
        let message = proto::Proposal::decode(bytes)?;
        Ok(match required(message.kind, "Proposal.kind")? {
            Kind::Begin(begin) => Self::Begin {
                origin: parse(&begin.origin, "Begin.origin")?,
                continues: begin.continues.as_ref().map(decode_cursor).transpose()?,
                at: Timestamp(begin.at),
            },
            Kind::Batch(batch) => Self::Batch {
                extends: extends(batch.extends)?,
                at: Timestamp(batch.at),
                change_sets: batch.change_sets,
            },
            Kind::Part(part) => Self::Part {
                upload: part.upload,
                piece: part.piece,
                complete: part.complete.map(upload_from).transpose()?,
            },
            Kind::Decided(decided) => Self::Decided {
                extends: extends(decided.extends)?,
                at: Timestamp(decided.at),
                upload: decided.upload,
                parts: upload_from(required(decided.parts, "Decided.parts")?)?,
                decision: decided.decision,
                hash: array(&decided.hash, "Decided.hash")?,
            },
            Kind::Statement(statement) => Self::Statement { at: Timestamp(statement.at) },
        })
    }
}

/// A place in a feed, as a message.
#[must_use]
pub fn encode_cursor(cursor: &Cursor) -> proto::FeedPosition {
    proto::FeedPosition {
        origin: cursor.origin.to_string(),
        seq: cursor.seq.0,
        hash: Bytes::copy_from_slice(&cursor.hash.0),
    }
}

/// The place in a feed in a message.
///
/// # Errors
/// When a field is not valid.
pub fn decode_cursor(message: &proto::FeedPosition) -> Result<Cursor, WireError> {
    Ok(Cursor {
        origin: parse(&message.origin, "FeedPosition.origin")?,
        seq: Seq(message.seq),
        hash: ChainHash(array(&message.hash, "FeedPosition.hash")?),
    })
}

fn upload_to(upload: &Upload) -> proto::Upload {
    proto::Upload { indexes: upload.indexes.clone(), length: upload.length as u64 }
}

fn upload_from(message: proto::Upload) -> Result<Upload, WireError> {
    if !message.indexes.is_sorted_by(|one, next| one < next) {
        return Err(invalid("Upload.indexes", "not in ascending order"));
    }
    let length = usize::try_from(message.length).map_err(|e| invalid("Upload.length", e))?;
    Ok(Upload { indexes: message.indexes, length })
}

macro_rules! bytes_of {
    ($($(#[$doc:meta])* $encode:ident, $decode:ident: $message:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $encode(message: &proto::$message) -> Bytes {
            message.encode_to_vec().into()
        }

        /// The message in these bytes.
        ///
        /// # Errors
        /// When they are not protobuf of this shape.
        pub fn $decode(bytes: Bytes) -> Result<proto::$message, WireError> {
            Ok(proto::$message::decode(bytes)?)
        }
    )*};
}

bytes_of! {
    /// An entry of the Raft log, as bytes.
    encode_entry, decode_entry: LogEntry;
    /// A vote, as bytes.
    encode_vote, decode_vote: Vote;
    /// How far a voter has applied the log, as bytes.
    encode_applied, decode_applied: Applied;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let origin: Origin = "pac.7h2k4m9qzx".parse().unwrap();
        Cursor { seq: Seq(7), hash: ChainHash([9; 32]), origin }
    }

    #[test]
    fn every_proposal_survives_its_bytes() {
        let upload = Upload { indexes: vec![3, 5, 9], length: 2_000_000 };
        let proposals = [
            Proposal::Begin { origin: cursor().origin, continues: None, at: Timestamp(-1) },
            Proposal::Begin {
                origin: cursor().origin,
                continues: Some(cursor()),
                at: Timestamp(12),
            },
            Proposal::Batch {
                extends: cursor(),
                at: Timestamp(5),
                change_sets: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            },
            Proposal::Part { upload: 4, piece: Bytes::from_static(b"piece"), complete: None },
            Proposal::Part { upload: 4, piece: Bytes::new(), complete: Some(upload.clone()) },
            Proposal::Decided {
                extends: cursor(),
                at: Timestamp(6),
                upload: 4,
                parts: upload,
                decision: Bytes::from_static(b"decision"),
                hash: [1; 32],
            },
            Proposal::Statement { at: Timestamp(8) },
        ];

        for proposal in proposals {
            assert_eq!(Proposal::decode(proposal.encode()), Ok(proposal));
        }
    }

    #[test]
    fn refuses_what_is_no_proposal() {
        for bad in [&b""[..], b"\xff", b"\x12\x02\x10\x02"] {
            assert!(Proposal::decode(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
