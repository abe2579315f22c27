//! What the suites share: the workspace as data, records to send, a client, writers and what they
//! saw, the invariants that must hold of it, real processes and a simulated mesh.
//!
//! The suites stand in `suites/`, one binary each. This crate is the only one that drives several
//! nodes at once. Nothing depends on it.

pub mod cluster;
pub mod freshness;
pub mod history;
pub mod http;
pub mod invariants;
pub mod json;
pub mod records;
pub mod simulation;
pub mod witness;
pub mod workspace;
pub mod writer;
