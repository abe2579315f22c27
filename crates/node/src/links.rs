//! This module keeps one connection to each node and for each purpose, made when it is first used
//! and again whenever it broke.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use chartmesh_record::NodeName;
use chartmesh_wire::{Links, Purpose};
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::guard::Guard;
use crate::limits;
use crate::network::Stream;

/// The connections of this node to others.
#[derive(Debug)]
pub(crate) struct MeshLinks {
    guard: Arc<Guard>,
    channels: Mutex<BTreeMap<(NodeName, Purpose), Channel>>,
}

impl MeshLinks {
    pub(crate) fn new(guard: Arc<Guard>) -> Self {
        Self { guard, channels: Mutex::default() }
    }
}

impl Links for MeshLinks {
    fn channel(&self, peer: &NodeName, purpose: Purpose) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let channel = channels
            .entry((peer.clone(), purpose))
            .or_insert_with(|| channel(Arc::clone(&self.guard), peer.clone()));
        channel.clone()
    }
}

/// The guard makes the connection, TLS included: to tonic it is plain HTTP/2.
fn channel(guard: Arc<Guard>, peer: NodeName) -> Channel {
    let uri = format!("http://{peer}");
    let endpoint = Endpoint::from_shared(uri).expect("a node's name is a host name");
    endpoint
        .connect_timeout(limits::CONNECT_WITHIN)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(limits::PING_EVERY)
        .keep_alive_timeout(limits::PONG_WITHIN)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (guard, peer) = (Arc::clone(&guard), peer.clone());
            async move {
                let stream: Box<dyn Stream> = guard.reach(&peer).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }))
}
