//! What a node says of itself: one status document, and metrics.
//!
//! This crate is the only one that knows Prometheus. It reads the store, the region and the mirroring,
//! and changes nothing. It does not serve anything: `node` puts its pages where `rest` shows them.

mod alarms;
mod exporter;
mod gauges;
mod observer;
mod status;

pub use exporter::{Exporter, ExporterError};
pub use observer::{Facts, Observer};
pub use status::{
    Alarm, Feed, HeldBack, Peer, Pending, RegionAge, Role, Silent, State, Status, StoreSize,
};
