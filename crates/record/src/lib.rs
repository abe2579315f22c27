//! What a record is and what a command does to it.
//!
//! This crate is pure: no I/O, no clock, no randomness, no tokio. It is the only one that knows
//! `fhir-sdk`, FHIR versioning and the rules by which versions supersede each other. Bytes become
//! a [`Resource`], requests become a [`Command`], a command judged over a [`View`] becomes a
//! [`ChangeSet`] with its [`Outcome`]; later code takes the stronger type.
//!
//! `rest` parses with it, `region` decides with it, `store` keeps what it describes.

mod alarm;
mod ancestry;
mod bundle;
mod change_set;
mod clock;
mod command;
mod criteria;
mod decide;
mod definitions;
mod entity_tag;
pub mod escape;
mod invalid;
mod json;
mod kind;
pub mod limits;
mod links;
mod mutant;
mod name;
mod narrative;
mod patch;
mod position;
mod primitive;
mod resource;
mod statement;
mod structure;
mod subset;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timestamp;
mod tree;
mod validate;
mod version;
mod zone;

pub use alarm::Alarm;
pub use ancestry::{Ancestry, Head, Heads, Kept, Seen};
pub use bundle::{
    BatchEntry, BundledRead, BundledWrite, PatchRequest, PatchTarget, PostedBundle, ReadTarget,
};
pub use change_set::{ChangeSet, Effect, EntryOutcome, Outcome, Version};
pub use clock::{Clock, Moment, Random};
pub use command::{
    Action, Command, Draft, EntityTag, Link, LinkTarget, Operation, Place, Precondition,
    RequestDigest, RequestId,
};
pub use criteria::{Criteria, InvalidCriteria};
pub use decide::{
    Batch, Decision, FindError, Judgement, Recorded, Rejection, RejectionReason, Ruling,
    UnfitDecision, View,
};
pub use invalid::{Invalid, Problem, ProblemSort};
pub use kind::{InvalidResourceId, ResourceId, ResourceKey, ResourceType, UnknownResourceType};
pub use mutant::mutant;
pub use name::{InvalidName, Name, NodeName, RegionName, SiteName};
pub use patch::{Patch, Unpatchable};
pub use position::{ChainHash, Cursor, Horizon, Seq};
pub use resource::{BodyHash, CONFLICT_TAG, Resource};
pub use statement::{AsOf, Silent, Statement};
pub use subset::Subset;
pub use timestamp::Timestamp;
pub use tree::{ElementType, FieldName, Node, Tree};
pub use version::{Generation, InvalidVersionId, Origin, VersionId};
pub use zone::{InvalidZone, Zone};
