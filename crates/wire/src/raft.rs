//! This module holds what the Raft log orders: proposals, and what a voter keeps of them.
//!
//! The bytes of a proposal are the same in memory, in the log on disk and between voters.

use bytes::Bytes;
use chartmesh_record::{
    Ancestry, ChainHash, Cursor, Decision, Generation, Origin, Ruling, Seq, Statement, Timestamp,
};
use prost::Message;

use crate::error::{WireError, array, invalid, parse, required};
use crate::outcome::{
    ancestry_from, ancestry_to, effect_from, effect_to, entry_from, found as encode_entry_outcome,
};
use crate::proto;
use crate::statement::{decode_statement, encode_statement};

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
        /// Which command.
        upload: u64,
        /// Where its pieces stand.
        parts: Upload,
        /// What the decision adds to the command.
        decision: Decision,
        /// The feed's hash after its change set.
        hash: ChainHash,
    },
    /// The feed is complete as it stands, as of an instant.
    Statement {
        /// What the region states.
        statement: Statement,
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
            Self::Decided { extends, upload, parts, decision, hash } => {
                Kind::Decided(proto::Decided {
                    extends: Some(encode_cursor(extends)),
                    at: decision.at.0,
                    upload: *upload,
                    parts: Some(upload_to(parts)),
                    decision: Some(decision_to(decision)),
                    hash: Bytes::copy_from_slice(&hash.0),
                })
            }
            Self::Statement { statement } => Kind::Statement(encode_statement(statement)),
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
            Kind::Decided(decided) => {
                let extends = extends(decided.extends)?;
                let decision = required(decided.decision, "Decided.decision")?;
                Self::Decided {
                    decision: decision_from(decision, &extends, Timestamp(decided.at))?,
                    extends,
                    upload: decided.upload,
                    parts: upload_from(required(decided.parts, "Decided.parts")?)?,
                    hash: ChainHash(array(&decided.hash, "Decided.hash")?),
                }
            }
            Kind::Statement(message) => Self::Statement { statement: decode_statement(&message)? },
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

fn decision_to(decision: &Decision) -> proto::Decision {
    use proto::ruling::Ruling as Wire;
    let rulings = decision.rulings.iter().map(|ruling| {
        let ruling = match ruling {
            Ruling::Write { effect, found, generation, ancestry } => Wire::Write(proto::Write {
                effect: effect_to(*effect).into(),
                found: found.as_ref().map(ToString::to_string),
                generation: generation.0,
                ancestry: (*ancestry != Ancestry::default()).then(|| ancestry_to(ancestry)),
            }),
            Ruling::Leave(outcome) => Wire::Leave(encode_entry_outcome(outcome)),
        };
        proto::Ruling { ruling: Some(ruling) }
    });
    proto::Decision {
        rulings: rulings.collect(),
        matches: decision.matches.iter().map(ToString::to_string).collect(),
    }
}

fn decision_from(
    message: proto::Decision,
    extends: &Cursor,
    at: Timestamp,
) -> Result<Decision, WireError> {
    use proto::ruling::Ruling as Wire;
    let rulings = message.rulings.into_iter().map(|ruling| {
        Ok(match required(ruling.ruling, "Decision.rulings")? {
            Wire::Write(write) => Ruling::Write {
                effect: effect_from(write.effect())?,
                found: write.found.as_deref().map(|id| parse(id, "Write.found")).transpose()?,
                generation: Generation(write.generation),
                ancestry: match &write.ancestry {
                    Some(ancestry) => ancestry_from(ancestry)?,
                    None => Ancestry::default(),
                },
            },
            Wire::Leave(outcome) => Ruling::Leave(entry_from(&outcome, |_| None)?),
        })
    });
    let matches = message.matches.iter().map(|id| parse(id, "Decision.matches"));
    Ok(Decision {
        origin: extends.origin.clone(),
        seq: extends.seq.next(),
        at,
        rulings: rulings.collect::<Result<_, WireError>>()?,
        matches: matches.collect::<Result<_, _>>()?,
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
    /// What the voters have acknowledged, as bytes.
    encode_promises, decode_promises: Promises;
    /// That the region was recovered, as bytes.
    encode_recovery, decode_recovery: Recovery;
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{Effect, EntryOutcome};

    use super::*;

    fn cursor() -> Cursor {
        let origin: Origin = "pac.7h2k4m9qzx".parse().unwrap();
        Cursor { seq: Seq(7), hash: ChainHash([9; 32]), origin }
    }

    fn decision() -> Decision {
        let seen = [(cursor().origin, Generation(2))].into();
        let write = Ruling::Write {
            effect: Effect::Updated,
            found: "a".parse().ok(),
            generation: Generation(3),
            ancestry: Ancestry { seen, ..Ancestry::default() },
        };
        let nothing = EntryOutcome { effect: Effect::NothingToDelete, key: None, version: None };
        Decision {
            origin: cursor().origin,
            seq: cursor().seq.next(),
            at: Timestamp(6),
            rulings: vec![write, Ruling::Leave(nothing)],
            matches: vec!["b".parse().unwrap()],
        }
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
                upload: 4,
                parts: upload,
                decision: decision(),
                hash: ChainHash([1; 32]),
            },
            Proposal::Statement {
                statement: Statement {
                    feed: cursor(),
                    at: Timestamp(8),
                    holds: vec![cursor()],
                    silent: Vec::new(),
                },
            },
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
