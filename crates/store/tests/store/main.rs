//! The store against a model, against crashes at every byte, and against damage.

mod crash;
mod damage;
mod model;
mod raft_log;
mod store;
mod world;
