//! This module keeps what goes wrong with feeds: forks, changes held back, digests that differ. What is
//! refused is counted, with the peer's name.

use std::collections::BTreeMap;
use std::fmt;

use chartmesh_record::{Alarm, Cursor, NodeName, Origin, Seq};

use crate::core::{Core, lock};
use crate::status::HeldBack;

/// What goes wrong with feeds.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Feeds that are followed no more.
    pub(crate) forks: BTreeMap<Origin, Alarm>,
    /// Changes that cannot be applied.
    pub(crate) held_back: BTreeMap<Origin, HeldBack>,
    /// Peers that hold the same and make something else of it.
    pub(crate) divergence: BTreeMap<NodeName, Alarm>,
}

/// Why something of a peer's is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A call without a name, or by no node of the mesh.
    Stranger,
    /// A feed that nobody in the mesh could have begun.
    StrangeFeed,
    /// More feeds than a node may tell of.
    TooMany,
    /// A report, a statement or a place that says what it must not.
    Report,
    /// More calls at once than one node may make.
    Calls,
    /// A chunk that cannot be read.
    Unreadable,
    /// A chunk that does not follow on what is held.
    Gap,
    /// A chunk with another hash than was announced.
    Hash,
    /// A change set of a newer format.
    Format,
    /// Another history of a feed.
    Fork,
}

impl Refused {
    fn label(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::StrangeFeed => "strange_feed",
            Self::TooMany => "too_many",
            Self::Report => "report",
            Self::Calls => "calls",
            Self::Unreadable => "unreadable",
            Self::Gap => "gap",
            Self::Hash => "hash",
            Self::Format => "format",
            Self::Fork => "fork",
        }
    }
}

/// Counts and logs something of a peer's that is not taken.
pub(crate) fn refused(peer: impl fmt::Display, reason: Refused, detail: impl fmt::Display) {
    let (peer, reason) = (peer.to_string(), reason.label());
    tracing::warn!(%peer, reason, %detail, "something of another node's is refused");
    metrics::counter!("chartmesh_mirror_refused_total", "reason" => reason, "peer" => peer)
        .increment(1);
}

/// Notes that a feed has two histories: both are kept, and it is followed no more.
pub(crate) fn fork(core: &Core, peer: &NodeName, held: &Cursor, other: impl fmt::Display) {
    refused(peer, Refused::Fork, format_args!("{} at {}", held.origin, held.seq));
    let mut troubles = lock(&core.troubles);
    troubles.forks.entry(held.origin.clone()).or_insert_with(|| {
        let text = format!(
            "the feed {} has two histories: at change set {} this node holds hash {}, {peer} {other}; \
             it is not followed any more",
            held.origin, held.seq, held.hash
        );
        tracing::error!(origin = %held.origin, %peer, %text, "a feed is forked");
        core.alarm("fork", text)
    });
}

/// Notes that a change set cannot be applied, and with it all that follow.
pub(crate) fn hold_back(core: &Core, origin: &Origin, seq: Seq, reason: String) {
    let held_back = HeldBack { origin: origin.clone(), seq, reason };
    lock(&core.troubles).held_back.insert(origin.clone(), held_back);
}
