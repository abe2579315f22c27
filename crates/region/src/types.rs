//! This module names the types that openraft is used with.

use std::fmt;

use bytes::Bytes;
use chartmesh_record::NodeName;
use openraft::type_config::alias;

use crate::runtime::Runtime;
use crate::state_machine::StateMachine;

openraft::declare_raft_types!(
    /// The types that openraft is used with. Raft ids are random: one disk's life each.
    pub(crate) TypeConfig:
        D = Sealed,
        R = Fit,
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = Runtime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type LeaderId = alias::LeaderIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type Payload = alias::PayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub(crate) type AppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
pub(crate) type RpcError = openraft::errors::RPCError<TypeConfig>;

/// A proposal, encoded: the same bytes in memory, on disk and on the wire.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed(pub(crate) Bytes);

/// What openraft is told of an applied entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It was applied.
    Applied,
    /// It did not fit what stood: it changed nothing, and its commands are decided again.
    Misfit,
}

/// What openraft keeps of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name; absent only in a default value.
    pub(crate) name: Option<NodeName>,
    /// Its mesh address.
    pub(crate) address: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
