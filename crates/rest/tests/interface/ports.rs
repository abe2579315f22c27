//! This module connects a test node's region with its mirror, as `node` does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chartmesh_mirror::{Mirror, Orderer};
use chartmesh_record::{Cursor, NodeName, Origin, RegionName, Statement, Timestamp};
use chartmesh_region::{Feeds, Region};
use futures::future::BoxFuture;

/// What region and mirror need of each other.
#[derive(Debug, Default)]
pub(crate) struct Ports(Mutex<Option<(Region, Mirror)>>);

/// Lets go of both when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection(Arc<Ports>);

impl Ports {
    pub(crate) fn connect(self: &Arc<Self>, region: Region, mirror: Mirror) -> Connection {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((region, mirror));
        Connection(Arc::clone(self))
    }

    fn region(&self) -> Option<Region> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.as_ref().map(|(region, _)| region.clone())
    }

    fn mirror(&self) -> Option<Mirror> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.as_ref().map(|(_, mirror)| mirror.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let ends = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
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
        false
    }

    fn knows(&self, _region: &RegionName) -> bool {
        false
    }
}
