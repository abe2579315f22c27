//! This module says what mirroring needs to run: who the node is, its disk, its time, its links.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{
    Clock, NodeName, Origin, Random, RegionName, SiteName, Statement, Timestamp,
};
use chartmesh_store::{Blocking, Store};
use chartmesh_wire::Links;

use crate::limits::Limits;

/// All that a node's mirroring is made of.
#[derive(Debug)]
pub struct Setup {
    /// This node.
    pub me: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its site.
    pub site: SiteName,
    /// All other nodes of the mesh, as the topology has them.
    pub peers: Vec<Peer>,
    /// All regions of the mesh.
    pub regions: Vec<RegionName>,
    /// The node's state.
    pub store: Store,
    /// The ways to the others.
    pub links: Arc<dyn Links>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where work runs that takes long.
    pub blocking: Blocking,
    /// What orders this node's region.
    pub orderer: Arc<dyn Orderer>,
    /// A user's numbers.
    pub limits: Limits,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its site.
    pub site: SiteName,
}

/// What orders the changes of this node's region, as far as following has to know it: a port that
/// `node` fills.
pub trait Orderer: Debug + Send + Sync + 'static {
    /// Whether the changes of a feed come to this node by being ordered here, so that it is not
    /// followed: the region's present feed at a voter that takes part, the journal that is open.
    fn orders(&self, origin: &Origin) -> bool;

    /// The newest statement of the node's own region whose changes it holds, and its age.
    fn stated(&self) -> Option<(Statement, Duration)>;

    /// Since when the node is isolated, if it is.
    fn isolated_since(&self) -> Option<Timestamp>;
}
