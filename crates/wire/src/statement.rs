//! This module turns statements into messages and back.

use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{Silent, Statement, Timestamp};

use prost::Message;

use crate::error::{WireError, parse, required};
use crate::proto;
use crate::raft::{decode_cursor, encode_cursor};

/// A statement as a message.
#[must_use]
pub fn encode_statement(statement: &Statement) -> proto::Statement {
    let silent = statement
        .silent
        .iter()
        .map(|silent| proto::Silent { node: silent.node.to_string(), since: silent.since.0 });
    proto::Statement {
        feed: Some(encode_cursor(&statement.feed)),
        at: statement.at.0,
        holds: statement.holds.iter().map(encode_cursor).collect(),
        silent: silent.collect(),
    }
}

/// The statement in a message.
///
/// # Errors
/// When a field is not valid.
pub fn decode_statement(message: &proto::Statement) -> Result<Statement, WireError> {
    let silent = message.silent.iter().map(|silent| {
        let node = parse(&silent.node, "Silent.node")?;
        Ok(Silent { node, since: Timestamp(silent.since) })
    });
    Ok(Statement {
        feed: decode_cursor(required(message.feed.as_ref(), "Statement.feed")?)?,
        at: Timestamp(message.at),
        holds: message.holds.iter().map(decode_cursor).collect::<Result<_, _>>()?,
        silent: silent.collect::<Result<_, WireError>>()?,
    })
}

/// A statement and how old it is, as a message. The age is rounded up: it never gets younger.
#[must_use]
pub fn encode_aged(statement: &Statement, age: Duration) -> proto::AgedStatement {
    proto::AgedStatement {
        statement: Some(encode_statement(statement)),
        age: u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
    }
}

/// The statement in a message, and how old it is said to be.
///
/// # Errors
/// When a field is not valid.
pub fn decode_aged(message: &proto::AgedStatement) -> Result<(Statement, Duration), WireError> {
    let statement = required(message.statement.as_ref(), "AgedStatement.statement")?;
    Ok((decode_statement(statement)?, Duration::from_millis(message.age)))
}

/// How fresh things were, as bytes for the disk.
#[must_use]
pub fn encode_note(note: &proto::FreshnessNote) -> Bytes {
    note.encode_to_vec().into()
}

/// How fresh things were, as noted in these bytes.
///
/// # Errors
/// When they are not protobuf of this shape.
pub fn decode_note(bytes: Bytes) -> Result<proto::FreshnessNote, WireError> {
    Ok(proto::FreshnessNote::decode(bytes)?)
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{Cursor, Seq};

    use super::*;

    #[test]
    fn a_statement_survives_its_message() {
        let cursor = |origin: &str, seq| Cursor {
            seq: Seq(seq),
            ..Cursor::start(origin.parse().expect("an origin"))
        };
        let silent = Silent { node: "pac-2".parse().expect("a name"), since: Timestamp(4) };
        let statement = Statement {
            feed: cursor("pac.7h2k4m9qzx", 9),
            at: Timestamp(7),
            holds: vec![cursor("pac-1.x9d2fq71be", 3)],
            silent: vec![silent],
        };
        let age = Duration::from_millis(1_234);

        assert_eq!(decode_aged(&encode_aged(&statement, age)), Ok((statement.clone(), age)));
        let longer = age + Duration::from_nanos(1);
        let (_, rounded) = decode_aged(&encode_aged(&statement, longer)).expect("a statement");
        assert!(rounded >= longer, "{rounded:?}");
    }
}
