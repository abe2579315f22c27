//! Meshes in one process: real disks and real tonic, connections that can be cut, peers that lie.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counters;
mod following;
mod freshness;
mod liar;
mod mesh;
mod refusals;
mod standing;
