//! This module connects a node's part of its region with its mirroring: what each needs of the other,
//! without either knowing it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chartmesh_mirror::{Mirror, Orderer};
use chartmesh_record::{Cursor, NodeName, Origin, RegionName, Statement, Timestamp};
use chartmesh_region::{Feeds, Region};
use futures::future::BoxFuture;

/// What region and mirror need of each other. Each holds this, so that it must let go of them at the
/// end: see [`Connection`].
#[derive(Debug, Default)]
pub(crate) struct Ports(RwLock<Ends>);

#[derive(Debug, Default)]
struct Ends {
    region: Option<Region>,
    mirror: Option<Mirror>,
}

/// The connection between a node's region and its mirroring. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection(Arc<Ports>);

impl Ports {
    /// Connects the two.
    pub(crate) fn connect(self: &Arc<Self>, region: Region, mirror: Mirror) -> Connection {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            Ends { region: Some(region), mirror: Some(mirror) };
        Connection(Arc::clone(self))
    }

    fn region(&self) -> Option<Region> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).region.clone()
    }

    fn mirror(&self) -> Option<Mirror> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).mirror.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let ends = std::mem::take(&mut *self.0.0.write().unwrap_or_else(PoisonError::into_inner));
        drop(ends);
    }
}

impl Orderer for Ports {
    fn orders(&self, origin: &Origin) -> bool {
        self.region().is_some_and(|region| region.orders(origin))
    }

    fn stated(&self) -> Option<(Statement, Duration)> {
        self.region()?.stated()
    }

    fn isolated_since(&self) -> Option<Timestamp> {
        self.region()?.isolated_since()
    }
}

impl Feeds for Ports {
    fn hold(&self, cursors: Vec<Cursor>, within: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            match self.mirror() {
                Some(mirror) => mirror.hold(&cursors, within).await,
                None => false,
            }
        })
    }

    fn ahead_of(&self, peer: &NodeName) -> Vec<Cursor> {
        self.mirror().map(|mirror| mirror.ahead_of(peer)).unwrap_or_default()
    }

    fn copies(&self, at: Cursor, within: Duration) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            match self.mirror() {
                Some(mirror) => mirror.copies(&at, within).await,
                None => 1,
            }
        })
    }

    fn clock_off(&self) -> bool {
        self.mirror().is_some_and(|mirror| mirror.clock_off())
    }

    fn knows(&self, region: &RegionName) -> bool {
        let known = |mirror: Mirror| {
            let feeds = mirror.status().feeds;
            feeds.iter().any(|feed| feed.cursor.origin.name() == region.0)
        };
        self.mirror().is_some_and(known)
    }
}
