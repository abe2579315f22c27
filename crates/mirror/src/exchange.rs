//! This module tells peers what this node holds, and hears what they hold: again and again, one task
//! per neighbour.

use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{NodeName, RegionName};
use chartmesh_store::Standing;
use chartmesh_wire::{Purpose, decode_aged, proto};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::core::{Core, lock, refused};
use crate::freshness;
use crate::limits::{
    EXCHANGE_PAUSE, EXCHANGE_PAUSE_WIDE, EXCHANGE_RETRY, EXCHANGE_TIMEOUT, EXCHANGE_WAIT,
    NEIGHBOURS,
};

/// What has been said between this node and a peer.
#[derive(Debug, Default)]
struct Session {
    /// The last answer of the peer's.
    life: u64,
    revision: u64,
    /// The last of our own that it has.
    own_life: u64,
    own_revision: u64,
}

/// The peers that this node exchanges with, in lists: one of each list at a time, the next one when
/// it does not answer.
pub(crate) fn neighbours(core: &Core) -> Vec<Vec<NodeName>> {
    let setup = &core.setup;
    let in_region = |region: &RegionName| {
        let mut nodes: Vec<_> = setup.peers.iter().filter(|peer| peer.region == *region).collect();
        nodes.sort_by_key(|peer| weight(&setup.me, &peer.name));
        nodes.into_iter().map(|peer| peer.name.clone()).collect::<Vec<_>>()
    };
    let mut lists: Vec<Vec<NodeName>> =
        in_region(&setup.region).into_iter().map(|peer| vec![peer]).collect();
    for region in setup.regions.iter().filter(|region| **region != setup.region) {
        let nodes = in_region(region);
        let list = |first| nodes.iter().skip(first).step_by(NEIGHBOURS).cloned().collect();
        lists.extend((0..NEIGHBOURS.min(nodes.len())).map(list));
    }
    lists
}

fn weight(me: &NodeName, peer: &NodeName) -> [u8; 32] {
    let hash = Sha256::new().chain_update(me.as_str()).chain_update([0]);
    hash.chain_update(peer.as_str()).finalize().into()
}

/// Exchanges with one node of a list after the other.
pub(crate) async fn keep_exchanging(core: Arc<Core>, list: Vec<NodeName>) {
    for peer in list.iter().cycle() {
        let mut session = Session::default();
        loop {
            if let Err(status) = exchange(&core, peer, &mut session).await {
                tracing::debug!(%peer, %status, "no exchange");
                let more = core.setup.random.bits() % (2 * EXCHANGE_RETRY.as_millis() as u64);
                sleep(EXCHANGE_RETRY + Duration::from_millis(more)).await;
                break;
            }
            let mate = core.peer(peer).is_some_and(|peer| peer.region == core.setup.region);
            sleep(if mate { EXCHANGE_PAUSE } else { EXCHANGE_PAUSE_WIDE }).await;
        }
    }
}

/// One question and its answer.
async fn exchange(
    core: &Core,
    peer: &NodeName,
    session: &mut Session,
) -> Result<(), tonic::Status> {
    let (report, own) = {
        let mut ledger = lock(&core.ledger);
        ledger.refresh(&core.setup.store);
        let report = ledger.since(session.own_life, session.own_revision);
        (report, (ledger.life, ledger.revision))
    };
    // The first answer comes at once: it tells how far away the peer is.
    let first = session.life == 0;
    let wait = if first { Duration::ZERO } else { EXCHANGE_WAIT };
    let request = proto::ExchangeRequest {
        report: Some(report),
        life: session.life,
        revision: session.revision,
        wait_ms: wait.as_millis() as u32,
    };
    let asked = core.now();
    let mut client = core.client(peer, Purpose::Heartbeat);
    let answer = tokio::time::timeout(EXCHANGE_TIMEOUT, client.exchange(request)).await;
    let answer = answer.map_err(|_| tonic::Status::deadline_exceeded("no answer in time"))?;
    let answer = answer?.into_inner();
    for aged in &answer.statements {
        match decode_aged(aged) {
            Ok((statement, age)) => freshness::learn(core, statement, asked, age),
            Err(error) => refused(peer, "statement", error),
        }
    }
    let waited = Duration::from_millis(u64::from(answer.waited_ms));
    let rtt = core.since(asked).saturating_sub(waited);
    let half = i64::try_from((waited + rtt / 2).as_millis()).unwrap_or(i64::MAX);
    core.views.with(peer, |view| {
        view.heard = Some(core.now());
        view.rtt = Some(rtt);
        view.clock_offset_ms = Some(answer.wall - asked.wall - half);
    });
    if let Some(report) = &answer.report
        && let Err(error) = core.views.learn(core, peer, report)
    {
        refused(peer, "report", &error);
        return Err(tonic::Status::internal(error.to_string()));
    }
    compare(core, peer, &answer);
    *session = Session {
        life: answer.life,
        revision: answer.revision,
        own_life: own.0,
        own_revision: own.1,
    };
    Ok(())
}

/// Who holds the same must have the same.
fn compare(core: &Core, peer: &NodeName, answer: &proto::ExchangeResponse) {
    let standing = core.setup.store.standing();
    let diverges = answer.horizon == horizon_hash(&standing)[..]
        && answer.digest != standing.digest.to_bytes()[..];
    let mut troubles = lock(&core.troubles);
    if diverges {
        troubles.divergence.entry(peer.clone()).or_insert_with(|| {
            let text = format!(
                "{peer} holds the same change sets and makes something else of them; \
                 `chartmesh verify --deep` tells which of the two is wrong"
            );
            tracing::error!(%peer, "equal horizons, different digests");
            core.alarm("divergence", text)
        });
    } else {
        troubles.divergence.remove(peer);
    }
}

/// All cursors, in 32 bytes.
pub(crate) fn horizon_hash(standing: &Standing) -> [u8; 32] {
    let mut hash = Sha256::new();
    for cursor in standing.horizon.values() {
        hash.update(cursor.origin.as_str());
        hash.update(cursor.seq.0.to_be_bytes());
        hash.update(cursor.hash.0);
    }
    hash.finalize().into()
}
