//! What a record is and what a command does to it.
//!
//! This crate is pure: no I/O, no clock, no randomness, no tokio. It is the only one that knows
//! `fhir-sdk`, FHIR versioning and the rules by which versions supersede each other. Bytes become
//! a [`Resource`], requests become a [`Command`], a command judged over a [`View`] becomes a
//! [`ChangeSet`] with its [`Outcome`]; later code takes the stronger type.
//!
//! `rest` parses with it, `region` decides with it, `store` keeps what it describes.

mod ancestry;
mod change_set;
mod clock;
mod command;
mod criteria;
mod decide;
mod identifier;
mod kind;
mod mutant;
mod name;
mod position;
mod resource;
mod timestamp;
mod version;

pub use ancestry::{Ancestry, Head, Heads, Kept, Seen};
pub use change_set::{ChangeSet, Effect, EntryOutcome, Outcome, Version};
pub use clock::{Clock, Random};
pub use command::{
    Action, Command, Draft, EntityTag, Link, LinkTarget, Operation, Place, Precondition,
    RequestDigest, RequestId,
};
pub use criteria::{Criteria, InvalidCriteria, Term, Token, TokenSystem};
pub use decide::{Batch, Judgement, Recorded, Rejection, RejectionReason, View};
pub use identifier::{Identifier, identifiers};
pub use kind::{InvalidResourceId, ResourceId, ResourceKey, ResourceType, UnknownResourceType};
pub use mutant::mutant;
pub use name::{InvalidName, Name, NodeName, RegionName, SiteName};
pub use position::{ChainHash, Cursor, Horizon, Seq};
pub use resource::{BodyHash, Resource};
pub use timestamp::Timestamp;
pub use version::{Generation, InvalidVersionId, Origin, VersionId};
