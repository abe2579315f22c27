//! This module puts a node together, in the order in which it must come up, and takes it apart again
//! without losing what is under way.
//!
//! ```text
//! start: disk -> certificates -> doors bound -> region <-> mirror -> mesh door -> FHIR door
//! stop:  FHIR door shut -> leadership handed over -> requests finished -> mirror, mesh door -> region
//!        -> disk
//! ```

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use chartmesh_mirror::{Mirror, Peer};
use chartmesh_ops::{Facts, Observer};
use chartmesh_record::{NodeName, Place};
use chartmesh_region::{Feeds, Member, Region, Services};
use chartmesh_rest::{Api, Pages};
use chartmesh_store::{Blocking, Memory, OpenError, Options, RaftLog, Store};
use chartmesh_wire::Links;
use chartmesh_wire::proto::audit_server::AuditServer;
use tokio::task::JoinSet;
use tokio::time::interval;
use tonic::server::NamedService;
use tower::Service;

use crate::audit::Auditor;
use crate::certificate::CertificateError;
use crate::credentials::{Credentials, Look};
use crate::door::{Door, Policy};
use crate::environment::{Environment, Trust};
use crate::guard::{Guard, Proof};
use crate::limits;
use crate::links::MeshLinks;
use crate::network::Listen;
use crate::places::Places;
use crate::ports::{Connection, Ports};
use crate::settings::Settings;
use crate::topology::{Address, NodeEntry, Role, Topology};

/// Which node of which mesh, on which disk.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The mesh.
    pub topology: Topology,
    /// The node.
    pub node: NodeName,
    /// The directory of its data.
    pub data: PathBuf,
    /// What its operator has set.
    pub settings: Settings,
    /// Whether to found its region. At a node that belongs to a group already it does nothing.
    pub found: bool,
}

/// A node that runs. Dropped without being stopped, it ends as in a crash.
#[derive(Debug)]
pub struct Node {
    store: Store,
    region: Region,
    mirror: Mirror,
    credentials: Option<Arc<Credentials>>,
    settings: Settings,
    fhir: Door,
    mesh: Door,
    /// Before what it connects ends.
    _connection: Connection,
    /// What runs beside: it ends with the node.
    _chores: JoinSet<()>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not name it.
    #[error("the topology names no node {node}; it names {known}")]
    UnknownNode {
        /// Who was to start.
        node: NodeName,
        /// Who could.
        known: String,
    },
    /// Its certificates cannot be used.
    #[error("{0}; `chartmesh certs` makes what is missing")]
    Certificates(#[from] CertificateError),
    /// The directory of its data cannot be made.
    #[error("cannot use {} for data: {source}", dir.display())]
    Data {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its data cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address cannot be listened at.
    #[error("cannot listen at {address} ({purpose}): {source}")]
    Listen {
        /// Where.
        address: Address,
        /// What for.
        purpose: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Its part of the region cannot run.
    #[error(transparent)]
    Region(#[from] chartmesh_region::StartError),
}

impl Node {
    /// Starts a node. It serves reads once this returns; writes, once a quorum has answered.
    ///
    /// # Errors
    /// It cannot run as it is configured; the error says what to change.
    pub async fn start(config: NodeConfig, environment: Environment) -> Result<Self, StartError> {
        let started = environment.clock.monotonic();
        let entry = config.entry()?;
        let (store, log) = open(&config, &environment)?;
        let topology = Arc::new(config.topology.clone());
        let (proof, credentials) = proof(&config.node, &environment)?;
        let guard = Arc::new(Guard::new(proof, Arc::clone(&environment.network), topology));
        let links: Arc<dyn Links> = Arc::new(MeshLinks::new(Arc::clone(&guard)));
        let settings = config.settings.clone();
        let mesh_address = settings.listen_mesh.as_ref().unwrap_or(&entry.mesh);
        let mesh = listen(&environment, mesh_address, "mesh").await?;
        let fhir_address = settings.listen_fhir.as_ref().unwrap_or(&entry.fhir);
        let fhir = listen(&environment, fhir_address, "fhir").await?;
        let ports = Arc::new(Ports::default());
        let beside = Beside { store: store.clone(), links, ports: Arc::clone(&ports) };
        let (region, services) = Region::start(config.region(&entry, log, &beside, &environment))?;
        let (mirror, mirroring) = Mirror::start(config.mirror(&entry, beside, &environment));
        let connection = ports.connect(region.clone(), mirror.clone());
        let audit =
            Auditor::service(entry.name.clone(), store.clone(), Arc::clone(&environment.clock));
        let mesh_router = mesh_router(&services, &mirroring, audit);
        let policy = Policy::Nodes(guard);
        let mesh = Door::open(
            mesh,
            policy,
            Places::new(settings.mesh_connections, settings.mesh_connections),
            mesh_router,
        );
        let parts = Parts { store: &store, region: &region, mirror: &mirror };
        let api = api(&config, &entry, &parts, credentials.clone(), &environment);
        let router = chartmesh_rest::router(api);
        let places = Places::new(settings.fhir_connections, settings.fhir_connections_of_one);
        let fhir = Door::open(fhir, Policy::Clients, places, router);
        let chores = chores(credentials.clone(), &store, &environment);
        let took = environment.clock.monotonic().saturating_sub(started);
        tracing::info!(node = %entry.name, region = %entry.region, site = %entry.site,
            fhir = %fhir_address, mesh = %mesh_address, ?took, "the node serves");
        Ok(Self {
            store,
            region,
            mirror,
            credentials,
            settings,
            fhir,
            mesh,
            _connection: connection,
            _chores: chores,
        })
    }

    /// Its state.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its part of the region.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Its mirroring.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Looks at the files of its certificates now, and uses them if they have changed.
    pub fn look_at_certificates(&self) {
        if let Some(credentials) = &self.credentials {
            look(credentials, &mut None);
        }
    }

    /// Stops it: no new connection, the leadership handed over, what is under way finished, as far
    /// as the settings give it time, everything on the disk.
    pub async fn stop(mut self) {
        self.fhir.shut();
        self.region.drain().await;
        if !self.fhir.emptied(self.settings.finish_within).await {
            tracing::warn!("requests were still under way when the time to finish was over");
        }
        self.mirror.stop().await;
        self.mesh.shut();
        self.region.stop().await;
        self.mesh.emptied(limits::LEAVE_WITHIN).await;
        if let Err(error) = self.store.flush() {
            tracing::warn!(%error, "what is in memory was not written into files; the next start does it");
        }
        tracing::info!("the node has stopped");
    }
}

impl NodeConfig {
    fn entry(&self) -> Result<NodeEntry, StartError> {
        let node = self.node.clone();
        let Some(entry) = self.topology.node(&node) else {
            let known: Vec<&str> =
                self.topology.nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(StartError::UnknownNode { node, known: known.join(", ") });
        };
        Ok(entry.clone())
    }

    fn region(
        &self,
        entry: &NodeEntry,
        log: RaftLog,
        beside: &Beside,
        environment: &Environment,
    ) -> chartmesh_region::Setup {
        let Beside { store, links, ports } = beside;
        let member = |node: &NodeEntry| Member {
            name: node.name.clone(),
            site: node.site.clone(),
            address: node.mesh.to_string(),
        };
        let region = self.topology.region(&entry.region);
        let mates = self.topology.nodes.iter().filter(|node| node.region == entry.region);
        chartmesh_region::Setup {
            me: entry.name.clone(),
            region: entry.region.clone(),
            voters: self.topology.voters(&entry.region).map(member).collect(),
            mirrors: mates.filter(|node| node.role == Role::Mirror).map(member).collect(),
            profile: region.map(|region| region.profile).unwrap_or_default(),
            found: self.found,
            store: store.clone(),
            log,
            feeds: Arc::clone(ports) as Arc<dyn Feeds>,
            links: Arc::clone(links),
            clock: Arc::clone(&environment.clock),
            random: Arc::clone(&environment.random),
            blocking: environment.blocking,
            limits: chartmesh_region::Limits {
                isolation_after: self.settings.isolation_after,
                isolation_writes: self.settings.isolation_writes,
                // A write that waits when the node isolates itself is journaled, not refused.
                patience: self.settings.isolation_after + limits::PATIENCE_BEYOND_ISOLATION,
                ..chartmesh_region::Limits::default()
            },
        }
    }

    fn mirror(
        &self,
        entry: &NodeEntry,
        beside: Beside,
        environment: &Environment,
    ) -> chartmesh_mirror::Setup {
        let others = self.topology.nodes.iter().filter(|node| node.name != entry.name);
        let peer = |node: &NodeEntry| Peer {
            name: node.name.clone(),
            region: node.region.clone(),
            site: node.site.clone(),
        };
        chartmesh_mirror::Setup {
            me: entry.name.clone(),
            region: entry.region.clone(),
            site: entry.site.clone(),
            peers: others.map(peer).collect(),
            regions: self.topology.regions.iter().map(|region| region.name.clone()).collect(),
            store: beside.store,
            links: beside.links,
            clock: Arc::clone(&environment.clock),
            random: Arc::clone(&environment.random),
            blocking: environment.blocking,
            orderer: beside.ports,
            limits: chartmesh_mirror::Limits { clock_max_offset: self.settings.clock_max_offset },
        }
    }
}

/// What the parts that move data are built on.
struct Beside {
    store: Store,
    links: Arc<dyn Links>,
    ports: Arc<Ports>,
}

/// What clients and operators are shown.
struct Parts<'n> {
    store: &'n Store,
    region: &'n Region,
    mirror: &'n Mirror,
}

/// Opens the disk; a mirror's Raft log stays empty.
fn open(config: &NodeConfig, environment: &Environment) -> Result<(Store, RaftLog), StartError> {
    let dir = &config.data;
    std::fs::create_dir_all(dir).map_err(|source| StartError::Data { dir: dir.clone(), source })?;
    let started = environment.clock.monotonic();
    let memory = Memory::new(limits::CACHE_BYTES, limits::WRITE_BYTES);
    let zone = Some(config.topology.search_zone);
    let store = Store::open(dir, Options { zone, ..Options::new(memory.clone()) })?;
    let log = RaftLog::open(dir, environment.syncer, &memory)?;
    let took = environment.clock.monotonic().saturating_sub(started);
    let held = store.counts().total();
    tracing::info!(dir = %dir.display(), resources = held.resources, versions = held.versions,
        ?took, "the disk is open");
    Ok((store, log))
}

type Credential = Option<Arc<Credentials>>;

fn proof(node: &NodeName, environment: &Environment) -> Result<(Proof, Credential), StartError> {
    match &environment.trust {
        Trust::Addresses(nodes) => Ok((Proof::Address(nodes.clone()), None)),
        Trust::Certificates(dir) => {
            let clock = Arc::clone(&environment.clock);
            let credentials = Arc::new(Credentials::read(dir.clone(), node.clone(), clock)?);
            Ok((Proof::Certificate(Arc::clone(&credentials)), Some(credentials)))
        }
    }
}

async fn listen(
    environment: &Environment,
    address: &Address,
    purpose: &'static str,
) -> Result<Box<dyn Listen>, StartError> {
    let listening = environment.network.listen(address).await;
    listening.map_err(|source| StartError::Listen { address: address.clone(), purpose, source })
}

/// What a node offers to other nodes, and to whoever operates the mesh.
fn mesh_router(
    services: &Services,
    mirroring: &chartmesh_mirror::Services,
    audit: AuditServer<Auditor>,
) -> Router {
    let router = mount(Router::new(), services.raft());
    let router = mount(router, services.region());
    let router = mount(router, mirroring.mirror());
    mount(router, audit)
}

/// Puts a gRPC service where its clients look for it.
fn mount<S>(router: Router, service: S) -> Router
where
    S: Service<http::Request<Body>, Error = Infallible, Response: IntoResponse, Future: Send>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: 'static,
{
    router.route_service(&format!("/{}/{{*method}}", S::NAME), service)
}

fn api(
    config: &NodeConfig,
    entry: &NodeEntry,
    parts: &Parts<'_>,
    credentials: Credential,
    environment: &Environment,
) -> Api {
    let (store, region, mirror) = (parts.store, parts.region, parts.mirror);
    let software = env!("CARGO_PKG_VERSION").to_owned();
    let facts = Facts {
        node: entry.name.clone(),
        region: entry.region.clone(),
        site: entry.site.clone(),
        role: match entry.role {
            Role::Voter => chartmesh_ops::Role::Voter,
            Role::Mirror => chartmesh_ops::Role::Mirror,
        },
        version: software.clone(),
        disk_reserve_bytes: config.settings.disk_reserve_bytes,
    };
    let alarms = move || credentials.as_ref().map_or_else(Vec::new, |own| own.alarms());
    let (exporter, clock) = (environment.exporter.clone(), Arc::clone(&environment.clock));
    let (held, part, following) = (store.clone(), region.clone(), mirror.clone());
    let observer = Observer::new(facts, held, part, following, exporter, clock);
    let observer = Arc::new(observer.also(alarms));
    let pages = Pages {
        metrics: Box::new({
            let observer = Arc::clone(&observer);
            move || observer.metrics()
        }),
        status: Box::new(move || observer.status_json()),
    };
    Api {
        store: store.clone(),
        region: region.clone(),
        mirror: mirror.clone(),
        region_name: entry.region.clone(),
        place: Place { node: entry.name.clone(), site: entry.site.clone() },
        software,
        clock: Arc::clone(&environment.clock),
        random: Arc::clone(&environment.random),
        blocking: environment.blocking,
        limits: chartmesh_rest::Limits {
            disk_reserve_bytes: config.settings.disk_reserve_bytes,
            ..chartmesh_rest::Limits::default()
        },
        origins: config.settings.cors_origins.clone(),
        pages,
    }
}

/// What is done now and then: certificates are looked at, metrics are kept in order, resources are
/// indexed by what SearchParameter resources add.
fn chores(credentials: Credential, store: &Store, environment: &Environment) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    if let Some(credentials) = credentials {
        chores.spawn(async move {
            let mut told = None;
            let mut ticks = interval(limits::CERTIFICATES_EVERY);
            loop {
                ticks.tick().await;
                look(&credentials, &mut told);
            }
        });
    }
    let exporter = environment.exporter.clone();
    chores.spawn(async move {
        let mut ticks = interval(limits::UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            exporter.upkeep();
        }
    });
    chores.spawn(keep_indexed(store.clone(), environment.blocking));
    chores
}

/// Has resources indexed again whenever other parameters are defined.
async fn keep_indexed(store: Store, blocking: Blocking) {
    let mut unindexed = store.unindexed();
    loop {
        match store.is_indexed() {
            Ok(true) => {}
            Ok(false) => index(&store, blocking).await,
            Err(corrupt) => tracing::error!(%corrupt, "the search index cannot be looked at"),
        }
        if unindexed.changed().await.is_err() {
            return;
        }
        // Parameters come in numbers: one pass is for all of them.
        tokio::time::sleep(limits::REINDEX_AFTER).await;
        unindexed.mark_unchanged();
        index(&store, blocking).await;
    }
}

async fn index(store: &Store, blocking: Blocking) {
    let work = {
        let store = store.clone();
        move || store.reindex(|_| {})
    };
    let indexed = match blocking {
        Blocking::Pool => tokio::task::spawn_blocking(work).await.ok(),
        Blocking::Inline => Some(work()),
    };
    match indexed {
        Some(Ok(done)) => {
            tracing::info!(
                resources = done.resources,
                changed = done.changed,
                "resources are indexed by the search parameters there are"
            );
        }
        Some(Err(error)) => tracing::error!(%error, "resources cannot be indexed"),
        None => {}
    }
}

/// Looks at the certificates, and tells what is new about them.
fn look(credentials: &Credentials, told: &mut Option<String>) {
    match credentials.look() {
        Look::Same => {}
        Look::Replaced => {
            *told = None;
            let ends = credentials.ends();
            tracing::info!(%ends, "a replaced certificate is in use for new connections");
        }
        Look::Broken(reason) => {
            if told.as_ref() != Some(&reason) {
                tracing::error!(%reason, "a replaced certificate is not in use: the old one still is");
                *told = Some(reason);
            }
        }
    }
}
