//! One agreed order of a region's writes: submit, decide, forward, found, hand over; and a node's own
//! journal while it is cut off from that order.
//!
//! This crate is the only one that knows openraft. A [`Region`] is one voter's part of its region's
//! Raft group. A command [submitted](Region::submit) at any node is decided once, by the leader, over
//! its own store; what it changes goes through the log and is applied by every voter. Time,
//! randomness, the disk and the [links](Links) to the other voters come in with the [`Setup`].
//!
//! ```text
//! submit --> forward --leader?--> decider --proposal--> openraft --log--> state machine --> store
//!               |  no                                      |   ^
//!               '--Region/Submit--> service            network service  (Raft, between voters)
//! ```
//! It does not parse FHIR, serve HTTP, open connections or read configuration. Called by `rest`,
//! which submits, and by `node`, which makes the [`Setup`] and mounts the [`Services`].

mod admission;
mod claim;
mod codec;
mod core;
mod decider;
mod forward;
mod freshness;
mod handover;
mod isolation;
mod journal;
mod limits;
mod log_store;
mod members;
mod network;
mod peers;
mod position;
mod promises;
mod purge;
mod recovery;
mod region;
mod runtime;
mod service;
mod setup;
mod state_machine;
mod status;
#[cfg(test)]
mod storage_suite;
mod submit;
mod types;
mod upload;
mod warm;
mod words;

pub use chartmesh_record::{Alarm, AsOf};
pub use chartmesh_store::Blocking;
pub use chartmesh_wire::{Links, PeerIdentity, Purpose};
pub use limits::{IsolationWrites, Limits};
pub use recovery::{Survey, begin_as_new, recover, survey};
pub use region::Region;
pub use service::Services;
pub use setup::{Corrupt, Feeds, Member, Profile, Setup, StartError};
pub use status::{MemberStatus, RegionStatus, State};
pub use submit::{Accepted, Durability, Fate, Reason, SubmitError, Unavailable};
