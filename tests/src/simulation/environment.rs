//! This module is what a simulated node runs on: the simulated network and clocks, seeded randomness.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chartmesh_node::{Address, Environment, Listen, Network, Stream, Trust};
use chartmesh_ops::Exporter;
use chartmesh_record::{Clock, NodeName, Random, Timestamp};
use chartmesh_region::Blocking;
use chartmesh_store::Syncer;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use turmoil::net::{TcpListener, TcpStream};

/// What a node runs on in the simulation that is going on. Its wall clock is wrong by `offset_ms`.
pub(super) fn environment(
    seed: u64,
    addresses: BTreeMap<IpAddr, NodeName>,
    offset_ms: Arc<AtomicI64>,
) -> Environment {
    Environment {
        network: Arc::new(SimulatedNetwork),
        trust: Trust::Addresses(addresses),
        clock: Arc::new(SimulatedClock { offset_ms }),
        random: Arc::new(Seeded(Mutex::new(StdRng::seed_from_u64(seed)))),
        blocking: Blocking::Inline,
        syncer: Syncer::Caller,
        exporter: Exporter::detached(),
    }
}

/// The network of the simulation that is going on.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimulatedNetwork;

/// The clocks of the simulated host that runs.
#[derive(Clone, Debug)]
struct SimulatedClock {
    /// By how much the wall clock is wrong.
    offset_ms: Arc<AtomicI64>,
}

#[derive(Debug)]
struct Seeded(Mutex<StdRng>);

struct Listener(TcpListener);

impl Network for SimulatedNetwork {
    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listen>>> {
        Box::pin(async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            Ok(Box::new(Listener(listener)) as Box<dyn Listen>)
        })
    }

    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl Listen for Listener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }
}

impl Clock for SimulatedClock {
    fn wall(&self) -> Timestamp {
        let since = turmoil::since_epoch().unwrap_or_default();
        let true_time = i64::try_from(since.as_millis()).expect("not that far in the future");
        Timestamp(true_time + self.offset_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}

impl Random for Seeded {
    fn bits(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
