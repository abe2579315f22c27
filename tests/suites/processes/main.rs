//! Real processes on loopback: what a simulation cannot see. Left out by `CHARTMESH_QUICK`.
//!
//! `CHARTMESH_ROUNDS=full` plays every round of the rounds under load, not a few of each.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

mod certificates;
mod clients;
mod disk;
mod load;
mod mesh_rounds;
mod meshes;
mod quorum;
mod retries;
mod rounds;
mod shutdown;
