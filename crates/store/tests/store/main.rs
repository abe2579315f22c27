//! The store against a model, against crashes at every byte, and against damage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrivals;
mod crash;
mod damage;
mod model;
mod raft_log;
mod search;
mod store;
mod world;
