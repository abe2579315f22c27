//! Real processes on loopback: what a simulation cannot see. Left out by `CHARTMESH_QUICK`.
//!
//! `CHARTMESH_ROUNDS=full` plays every round of the rounds under load, not a few of each.

mod certificates;
mod disk;
mod load;
mod quorum;
mod retries;
mod rounds;
mod shutdown;
