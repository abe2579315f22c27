//! This module tells peers what this node holds, and hears what they hold: again and again, one task
//! per neighbour.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chartmesh_record::{Moment, NodeName, RegionName};
use chartmesh_wire::{Purpose, decode_aged, proto};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::choose::Distance;
use crate::core::{Core, lock};
use crate::freshness;
use crate::ledger::Edition;
use crate::limits::{
    EXCHANGE_PAUSE, EXCHANGE_PAUSE_WIDE, EXCHANGE_RETRY, EXCHANGE_TIMEOUT, EXCHANGE_WAIT,
    NEIGHBOURS,
};
use crate::troubles::{Refused, refused};

/// What has been said between this node and a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Session {
    /// The last answer of the peer's.
    heard: Edition,
    /// The last of our own that it has.
    told: Edition,
}

/// Nodes of which some are exchanged with: all of the own region, a few of each other one.
#[derive(Debug)]
pub(crate) struct Neighbourhood {
    /// In the order of preference, which differs from node to node.
    nodes: Vec<NodeName>,
    /// Those that somebody exchanges with.
    taken: Mutex<BTreeSet<NodeName>>,
    /// With how many at one time.
    pub(crate) places: usize,
}

/// The nodes that this one exchanges with.
pub(crate) fn neighbourhoods(core: &Core) -> Vec<Arc<Neighbourhood>> {
    let setup = &core.setup;
    let neighbourhood = |region: &RegionName| {
        let mut nodes: Vec<_> = setup.peers.iter().filter(|peer| peer.region == *region).collect();
        nodes.sort_by_key(|peer| weight(&setup.me, &peer.name));
        let nodes: Vec<_> = nodes.into_iter().map(|peer| peer.name.clone()).collect();
        let most = if *region == setup.region { nodes.len() } else { NEIGHBOURS };
        let places = most.min(nodes.len());
        Arc::new(Neighbourhood { nodes, taken: Mutex::default(), places })
    };
    setup.regions.iter().map(neighbourhood).collect()
}

fn weight(me: &NodeName, peer: &NodeName) -> [u8; 32] {
    let hash = Sha256::new().chain_update(me.as_str()).chain_update([0]);
    hash.chain_update(peer.as_str()).finalize().into()
}

impl Neighbourhood {
    /// Takes the next node that nobody exchanges with, in turn.
    fn take(&self, turn: &mut usize) -> Option<&NodeName> {
        let mut taken = lock(&self.taken);
        for _ in 0..self.nodes.len() {
            let node = &self.nodes[*turn % self.nodes.len()];
            *turn += 1;
            if taken.insert(node.clone()) {
                return Some(node);
            }
        }
        None
    }

    fn leave(&self, node: &NodeName) {
        lock(&self.taken).remove(node);
    }
}

/// Exchanges with one node, and with the next one when it does not answer.
pub(crate) async fn keep_exchanging(core: Arc<Core>, neighbourhood: Arc<Neighbourhood>) {
    let mut turn = 0;
    // There are as many nodes as places at the least.
    while let Some(peer) = neighbourhood.take(&mut turn) {
        let status = exchange_until_it_fails(&core, peer).await;
        tracing::debug!(%peer, %status, "no exchange");
        let spread = u64::try_from(EXCHANGE_RETRY.as_millis() * 2).unwrap_or(u64::MAX);
        let more = Duration::from_millis(core.setup.random.bits() % spread);
        sleep(EXCHANGE_RETRY + more).await;
        neighbourhood.leave(peer);
    }
}

async fn exchange_until_it_fails(core: &Core, peer: &NodeName) -> Status {
    let wide = core.peer(peer).is_some_and(|peer| core.distance(peer) == Distance::Wide);
    let pause = if wide { EXCHANGE_PAUSE_WIDE } else { EXCHANGE_PAUSE };
    let mut hurry = core.hurry.subscribe();
    let mut session = Session::default();
    loop {
        match exchange(core, peer, session).await {
            Ok(next) => session = next,
            Err(status) => return status,
        }
        // Whoever waits does not wait for this.
        let _ = timeout(pause, hurry.changed()).await;
    }
}

/// One question and its answer.
async fn exchange(core: &Core, peer: &NodeName, session: Session) -> Result<Session, Status> {
    core.ledger.refresh(core);
    let (report, told) = core.ledger.report(session.told);
    // The first answer comes at once: it tells how far away the peer is.
    let first = session.heard == Edition::default();
    let wait = if first { Duration::ZERO } else { EXCHANGE_WAIT };
    let request = proto::ExchangeRequest {
        report: Some(report),
        life: session.heard.life,
        revision: session.heard.revision,
        wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
    };
    let asked = core.now();
    let mut client = core.client(peer, Purpose::Heartbeat);
    let answer = timeout(EXCHANGE_TIMEOUT, client.exchange(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner();
    for aged in &answer.statements {
        match decode_aged(aged) {
            Ok((statement, age)) => {
                let region = statement.region();
                if !freshness::learn(core, statement, asked, age) {
                    refused(peer, Refused::Report, format_args!("a statement of {region}"));
                }
            }
            Err(error) => refused(peer, Refused::Report, error),
        }
    }
    measure(core, peer, asked, &answer);
    if let Some(report) = &answer.report {
        core.views.learn(core, peer, report).map_err(|error| {
            refused(peer, Refused::Report, &error);
            Status::internal(error.to_string())
        })?;
    }
    compare(core, peer, &answer);
    let heard = Edition { life: answer.life, revision: answer.revision };
    // A process that began since has forgotten what it was told.
    let forgot = !first && heard.life != session.heard.life;
    Ok(Session { heard, told: if forgot { Edition::default() } else { told } })
}

/// Notes how far away a peer is, and what its clock said half way.
fn measure(core: &Core, peer: &NodeName, asked: Moment, answer: &proto::ExchangeResponse) {
    let waited = Duration::from_millis(answer.waited_ms.into());
    let took = core.setup.clock.monotonic().saturating_sub(asked.monotonic);
    let rtt = took.saturating_sub(waited);
    let then = i64::try_from((waited + rtt / 2).as_millis()).unwrap_or(i64::MAX);
    let offset = answer.wall.saturating_sub(asked.wall.0).saturating_sub(then);
    core.views.measured(core, peer, rtt, offset);
}

/// Who holds the same must have the same.
fn compare(core: &Core, peer: &NodeName, answer: &proto::ExchangeResponse) {
    let summary = core.ledger.summary();
    let diverges =
        answer.horizon == summary.horizon[..] && answer.digest != summary.digest.to_bytes()[..];
    let mut troubles = lock(&core.troubles);
    if !diverges {
        troubles.divergence.remove(peer);
        return;
    }
    troubles.divergence.entry(peer.clone()).or_insert_with(|| {
        let text = format!(
            "{peer} holds the same change sets and makes something else of them; \
             `chartmesh verify --deep` tells which of the two is wrong"
        );
        tracing::error!(%peer, "equal horizons, different digests");
        core.alarm("divergence", text)
    });
}
