//! This module says how far a voter has applied the Raft log, and what the log has said so far. It
//! is written in the same disk batch as what it is about.

use bytes::Bytes;
use chartmesh_record::{Origin, Statement, Timestamp};
use chartmesh_wire::{decode_statement, encode_statement, proto, raft as wire};

use crate::codec::{log_id_from, log_id_to, stored_membership_from, stored_membership_to};
use crate::setup::Corrupt;
use crate::types::{LogId, StoredMembership};

/// How far a voter has applied the Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last entry applied.
    pub(crate) log: Option<LogId>,
    /// Who votes.
    pub(crate) membership: StoredMembership,
    /// The region's origin. How far its feed is held, the store knows.
    pub(crate) origin: Option<Origin>,
    /// The newest instant in the log: what is decided later is stamped later.
    pub(crate) at: Timestamp,
    /// The newest statement in the log.
    pub(crate) statement: Option<Statement>,
}

impl Position {
    /// Nothing is applied.
    pub(crate) fn start() -> Self {
        let membership = StoredMembership::default();
        Self { log: None, membership, origin: None, at: Timestamp(0), statement: None }
    }

    /// The index of the last entry applied, counted so that 0 means none.
    pub(crate) fn entries(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.index + 1)
    }

    /// Notes an instant in the log.
    pub(crate) fn note(&mut self, at: Timestamp) {
        self.at = self.at.max(at);
    }

    pub(crate) fn encode(&self) -> Bytes {
        wire::encode_applied(&self.to_message())
    }

    pub(crate) fn to_message(&self) -> proto::Applied {
        proto::Applied {
            log: self.log.as_ref().map(log_id_to),
            membership: Some(stored_membership_to(&self.membership)),
            origin: self.origin.as_ref().map(ToString::to_string).unwrap_or_default(),
            at: self.at.0,
            statement: self.statement.as_ref().map(encode_statement),
        }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Corrupt> {
        let what = "the applied position";
        let message = wire::decode_applied(bytes);
        let message = message.map_err(|error| Corrupt { what, reason: error.to_string() })?;
        Self::from_message(&message)
    }

    pub(crate) fn from_message(message: &proto::Applied) -> Result<Self, Corrupt> {
        let corrupt = |reason: String| Corrupt { what: "the applied position", reason };
        let membership = message.membership.as_ref().map(stored_membership_from).transpose();
        let origin = match message.origin.as_str() {
            "" => None,
            origin => Some(origin.parse().map_err(|_| corrupt(format!("origin {origin:?}")))?),
        };
        let statement = message.statement.as_ref().map(decode_statement).transpose();
        Ok(Self {
            statement: statement.map_err(|error| corrupt(error.to_string()))?,
            log: message.log.as_ref().map(log_id_from),
            membership: membership.map_err(|error| corrupt(error.to_string()))?.unwrap_or_default(),
            origin,
            at: Timestamp(message.at),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use openraft::Membership;

    use super::*;
    use crate::types::{LeaderId, Peer};

    #[test]
    fn a_position_survives_its_bytes() {
        let log = LogId { leader_id: LeaderId { term: 3, node_id: 9 }, index: 12 };
        let peer = Peer { name: "pac-1".parse().ok(), address: "h:1".to_owned() };
        let nodes = BTreeMap::from([(9, peer.clone()), (7, peer)]);
        let membership = Membership::new(vec![[9].into()], nodes).unwrap();
        let position = Position {
            log: Some(log),
            membership: StoredMembership::new(Some(log), membership),
            origin: "pac.7h2k4m9qzx".parse().ok(),
            at: Timestamp(77),
            statement: Some(Statement {
                feed: chartmesh_record::Cursor::start("pac.7h2k4m9qzx".parse().unwrap()),
                at: Timestamp(76),
                holds: Vec::new(),
                silent: Vec::new(),
            }),
        };

        for position in [Position::start(), position] {
            assert_eq!(Position::decode(position.encode()).unwrap(), position);
        }
    }
}
