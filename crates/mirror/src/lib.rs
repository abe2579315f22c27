//! Serves feeds and follows feeds, and says how fresh what they bring is.
//!
//! Feeds are the only way by which data moves between nodes that do not order it together: between
//! regions, to a new disk, to a site that was cut off, and back from it. This crate is the only one
//! that knows which node holds how much ([`Mirror::status`]) and whom to ask for more.
//!
//! ```text
//! peers --exchange--> views of what each holds --choose--> pull --> store.apply
//!             '--> statements --> freshness             service: exchange, pull <-- peers
//! ```
//! Called by `node`, which makes the [`Setup`] and mounts the [`Services`], by `rest` and `ops`, which
//! ask how fresh things are. It knows nothing of Raft: what orders changes is behind [`Orderer`].

mod accounting;
mod choose;
mod chunk;
mod core;
mod exchange;
mod follow;
mod freshness;
mod give;
mod ledger;
mod limits;
mod mirror;
mod pull;
mod service;
mod setup;
mod status;
#[cfg(test)]
mod testing;
mod troubles;
mod views;

pub use limits::Limits;
pub use mirror::Mirror;
pub use service::Services;
pub use setup::{Orderer, Peer, Setup};
pub use status::{
    FeedStatus, Freshness, HeldBack, MirrorStatus, PeerStatus, Pending, RegionFreshness,
    SilentFreshness,
};
