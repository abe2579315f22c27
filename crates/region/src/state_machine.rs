//! This module applies what the region has agreed on to the node's store.
//!
//! Entries are applied in order, several in one disk batch, away from the tasks that keep time and
//! talk to peers. What an entry does is a function of the log alone, so all voters do the same; one
//! that finds that it would not must stop.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use chartmesh_record::{ChainHash, Clock, Cursor, Decision, RegionName, mutant};
use chartmesh_store::{Apply, Blocking, Run, RunOutcome, Store};
use chartmesh_wire::Canonical;
use chartmesh_wire::raft::Proposal;
use chartmesh_wire::raft::Upload;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, SnapshotMeta};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;

use crate::limits::{APPLY_BYTES, FEED_WAIT};
use crate::position::Position;
use crate::setup::{Corrupt, Feeds, Setup};
use crate::types::{Entry, Fit, LogId, Sealed, StoredMembership, TypeConfig};
use crate::upload::Uploads;
use crate::warm::Warm;

const UNLIKE_LEADER: &str = "a change set differs from the leader's";

/// The node's store as openraft sees it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    region: RegionName,
    store: Store,
    feeds: Arc<dyn Feeds>,
    uploads: Uploads,
    blocking: Blocking,
    position: watch::Sender<Position>,
    snapshot: Arc<Mutex<Option<PositionSnapshot>>>,
    clock: Arc<dyn Clock>,
    warm: Warm,
}

/// What a snapshot holds: not the state, only how far it reaches. Whoever installs it holds the
/// region's feeds up to there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// What the log has said up to there.
    pub(crate) position: Position,
    /// How far the region's feeds are there, the present one and earlier ones.
    pub(crate) feeds: Vec<Cursor>,
}

pub(crate) type PositionSnapshot = SnapshotOf<TypeConfig, Covered>;

impl Covered {
    /// As openraft hands it on.
    pub(crate) fn into_snapshot(self) -> PositionSnapshot {
        let (last_log_id, last_membership) = (self.position.log, self.position.membership.clone());
        let meta = SnapshotMeta { last_log_id, last_membership };
        PositionSnapshot { meta, snapshot: self }
    }
}

/// The state machine, and what tells how far it is.
pub(crate) type Opened = (StateMachine, watch::Receiver<Position>);

/// Why entries are not applied.
enum Stop {
    /// The node cannot go on.
    Broken(io::Error),
    /// The entry with this place among them decides on a command whose pieces are not in the log:
    /// what became of it comes by its feed, up to here.
    Lacking(usize, Cursor),
}

/// What some entries do, gathered for one disk batch.
struct Gathered {
    runs: Vec<Run>,
    /// For each entry, which run it made, if any.
    fits: Vec<EntryFit>,
    position: Position,
}

enum EntryFit {
    Run(usize),
    Known(Fit),
    /// What it does is not known here: its change set comes by its feed, up to here.
    Lacking(Cursor),
}

impl StateMachine {
    /// Goes on where the store is. The receiver tells how far it is.
    pub(crate) fn open(setup: &Setup, uploads: Uploads, warm: Warm) -> Result<Opened, Corrupt> {
        let applied = setup.store.applied();
        let position = applied.map_or_else(|| Ok(Position::start()), Position::decode)?;
        let (position, progress) = watch::channel(position);
        let state = Self {
            region: setup.region.clone(),
            store: setup.store.clone(),
            feeds: Arc::clone(&setup.feeds),
            uploads,
            blocking: setup.blocking,
            position,
            snapshot: Arc::default(),
            clock: Arc::clone(&setup.clock),
            warm,
        };
        Ok((state, progress))
    }

    /// Begins anew, outside of any group: before Raft starts.
    pub(crate) fn begin_at(&self, position: Position) {
        self.position.send_replace(position);
    }

    /// Applies entries in one disk batch. Says how each fits.
    fn apply_all(&self, entries: &[Entry]) -> Result<Vec<Fit>, Stop> {
        let position = self.position.borrow().clone();
        let mut gathered = Gathered { runs: Vec::new(), fits: Vec::new(), position };
        let mut live = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let proposed = matches!(entry.payload, EntryPayload::Normal(_));
            let term = entry.log_id.leader_id.term;
            let fit = match self.gather(entry.clone(), &mut gathered).map_err(Stop::Broken)? {
                EntryFit::Lacking(after) => return Err(Stop::Lacking(place, after)),
                fit => fit,
            };
            if proposed {
                live.push((term, gathered.position.origin.clone()));
            }
            gathered.fits.push(fit);
        }
        let Gathered { runs, fits, position } = gathered;
        let arrived = self.clock.wall();
        let apply = Apply { runs, applied: Some(position.encode()), arrived };
        let broken = |error| Stop::Broken(io::Error::other(error));
        let applied = self.store.apply(apply).map_err(broken)?;
        let fits = fits.into_iter().map(|fit| match fit {
            EntryFit::Lacking(after) => Err(differs(UNLIKE_LEADER, &after)),
            EntryFit::Known(fit) => Ok(fit),
            EntryFit::Run(run) => match &applied.runs[run] {
                RunOutcome::Held { .. } => Ok(Fit::Applied),
                RunOutcome::Misfit { .. } => Ok(Fit::Misfit),
                RunOutcome::Forked { held } => Err(differs("the feed is forked", held)),
            },
        });
        let fits = fits.collect::<io::Result<_>>().map_err(Stop::Broken)?;
        live.iter().for_each(|(term, origin)| self.warm.applied(*term, origin.as_ref()));
        self.position.send_replace(position);
        Ok(fits)
    }

    /// What one entry does.
    fn gather(&self, entry: Entry, gathered: &mut Gathered) -> io::Result<EntryFit> {
        let position = &mut gathered.position;
        position.log = Some(entry.log_id);
        let proposal = match entry.payload {
            EntryPayload::Blank => {
                // A new term: who uploads, begins again.
                self.uploads.forget();
                return Ok(EntryFit::Known(Fit::Applied));
            }
            EntryPayload::Membership(membership) => {
                position.membership = StoredMembership::new(Some(entry.log_id), membership);
                return Ok(EntryFit::Known(Fit::Applied));
            }
            EntryPayload::Normal(Sealed(bytes)) => {
                Proposal::decode(bytes).map_err(io::Error::other)?
            }
        };
        let run = match proposal {
            Proposal::Begin { origin, continues, at } => {
                position.note(at);
                let stands = continues.as_ref().map(|cursor| &cursor.origin);
                // Whoever knows of no feed of the region has just joined it, or begun it.
                if position.origin.is_some() && stands != position.origin.as_ref() {
                    return Ok(EntryFit::Known(Fit::Misfit));
                }
                position.origin = Some(origin);
                return Ok(EntryFit::Known(Fit::Applied));
            }
            Proposal::Statement { statement } => {
                position.note(statement.at);
                if Some(&statement.feed.origin) == position.origin.as_ref() {
                    position.statement = Some(statement);
                }
                return Ok(EntryFit::Known(Fit::Applied));
            }
            Proposal::Part { upload, complete, .. } => {
                if let Some(mut parts) = complete {
                    parts.indexes.push(entry.log_id.index);
                    self.prepare(upload, parts);
                }
                return Ok(EntryFit::Known(Fit::Applied));
            }
            Proposal::Batch { extends, at, change_sets } => {
                position.note(at);
                let changes = change_sets.into_iter().map(Canonical::parse);
                let changes = changes.collect::<Result<_, _>>().map_err(io::Error::other)?;
                Run { extends, changes }
            }
            Proposal::Decided { extends, upload, parts, decision, hash } => {
                position.note(decision.at);
                let fits = |change: &Canonical| extends.extend(change.bytes()).hash == hash;
                match self.decided(upload, &parts, &decision, fits)? {
                    Some(change) => Run { extends, changes: vec![change] },
                    None if self.uploads.are_held(&parts) => {
                        return Err(differs(UNLIKE_LEADER, &extends));
                    }
                    None => return self.without_parts(extends, hash, &gathered.position),
                }
            }
        };
        if Some(&run.extends.origin) != position.origin.as_ref() {
            return Ok(EntryFit::Known(Fit::Misfit));
        }
        gathered.runs.push(run);
        Ok(EntryFit::Run(gathered.runs.len() - 1))
    }

    /// What the decision on a command does whose pieces the log does not hold any more: this voter has
    /// gone on from a snapshot that lies between them.
    fn without_parts(
        &self,
        extends: Cursor,
        hash: ChainHash,
        position: &Position,
    ) -> io::Result<EntryFit> {
        let held = self.store.cursor(&extends.origin);
        let after = Cursor { seq: extends.seq.next(), hash, origin: extends.origin.clone() };
        if Some(&extends.origin) != position.origin.as_ref() {
            return Ok(EntryFit::Known(Fit::Misfit));
        }
        if held == extends {
            return Ok(EntryFit::Lacking(after));
        }
        let there = self.store.chain(&after.origin, after.seq).map_err(io::Error::other)?;
        let fit = if there == Some(hash) { Fit::Applied } else { Fit::Misfit };
        Ok(EntryFit::Known(fit))
    }

    /// The change set that a decision makes of a big command, if it is the one decided; `None` also if
    /// its pieces are not in the log.
    fn decided(
        &self,
        upload: u64,
        parts: &Upload,
        decision: &Decision,
        fits: impl Fn(&Canonical) -> bool,
    ) -> io::Result<Option<Canonical>> {
        let prepared = match self.uploads.take(upload) {
            Some(prepared) => prepared,
            None if !self.uploads.are_held(parts) => return Ok(None),
            None => self.uploads.read(parts).map_err(io::Error::other)?,
        };
        if let Some(change) = prepared.change.filter(&fits) {
            return Ok(Some(change));
        }
        let change = decision.assemble(&prepared.command).map_err(io::Error::other)?;
        Ok(Some(Canonical::encode(change)).filter(fits))
    }

    /// Puts a big command together ahead of its decision, beside what goes on.
    fn prepare(&self, upload: u64, parts: Upload) {
        if !self.uploads.are_held(&parts) {
            return;
        }
        let (uploads, blocking) = (self.uploads.clone(), self.blocking);
        tokio::spawn(async move {
            let readied = blocking.run(|| uploads.read(&parts)).map_err(Arc::new);
            if let Err(error) = &readied {
                tracing::error!(%error, upload, "a command cannot be prepared");
            }
            uploads.keep(upload, readied);
        });
    }

    fn set_snapshot(&self, snapshot: PositionSnapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }
}

fn differs(what: &str, at: &Cursor) -> io::Error {
    io::Error::other(format!("{what} at {} of {}: this node must not go on", at.seq, at.origin))
}

fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Sealed(bytes)) => bytes.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Covered;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.position.borrow();
        Ok((position.log, position.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        loop {
            let (mut chunk, mut responders, mut bytes) = (Vec::new(), Vec::new(), 0);
            while bytes < APPLY_BYTES {
                let Some(next) = entries.next().await else { break };
                let (entry, responder) = next?;
                bytes += size(&entry);
                chunk.push(entry);
                responders.push(responder);
            }
            if chunk.is_empty() {
                return Ok(());
            }
            let mut responders = responders.into_iter();
            let mut rest = &chunk[..];
            let mut count = rest.len();
            while !rest.is_empty() {
                match self.blocking.run(|| self.apply_all(&rest[..count])) {
                    Ok(fits) => {
                        rest = &rest[count..];
                        count = rest.len();
                        for (fit, responder) in fits.into_iter().zip(&mut responders) {
                            if let Some(responder) = responder {
                                responder.send(fit);
                            }
                        }
                    }
                    Err(Stop::Broken(error)) => return Err(error),
                    Err(Stop::Lacking(0, after)) => {
                        tracing::info!(at = %after.seq, "a big change is taken from its feed");
                        self.feeds.hold(vec![after], FEED_WAIT).await;
                    }
                    // What comes before it first: it may be what it follows on.
                    Err(Stop::Lacking(place, _)) => count = place,
                }
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        Self {
            region: self.region.clone(),
            feeds: Arc::clone(&self.feeds),
            store: self.store.clone(),
            uploads: self.uploads.clone(),
            blocking: self.blocking,
            position: self.position.clone(),
            snapshot: self.snapshot.clone(),
            clock: Arc::clone(&self.clock),
            warm: self.warm.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        covered: Covered,
    ) -> io::Result<()> {
        let lacks = |feed: &&Cursor| self.store.cursor(&feed.origin).seq < feed.seq;
        if let Some(feed) = covered.feeds.iter().find(lacks)
            && !mutant("snapshot-without-its-data")
        {
            return Err(differs("the feed is not held", feed));
        }
        let applied = Some(covered.position.encode());
        let apply = Apply { applied, ..Apply::default() };
        // The log is purged up to there next.
        let kept = self.blocking.run(|| {
            self.store.apply(apply).map_err(io::Error::other)?;
            self.store.sync().map_err(io::Error::other)
        });
        kept?;
        self.position.send_replace(covered.position.clone());
        self.set_snapshot(PositionSnapshot { meta: meta.clone(), snapshot: covered });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<PositionSnapshot>> {
        Ok(self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = Covered;

    async fn build_snapshot(&mut self) -> io::Result<PositionSnapshot> {
        let position = self.position.borrow().clone();
        // The log may be purged up to here: what is applied must be on the disk.
        if !mutant("purge-beyond-synced") {
            self.blocking.run(|| self.store.sync()).map_err(io::Error::other)?;
        }
        let feeds = self.store.horizon().into_values();
        let feeds = feeds.filter(|feed| feed.origin.name() == self.region.0).collect();
        let snapshot = Covered { position, feeds }.into_snapshot();
        self.set_snapshot(snapshot.clone());
        Ok(snapshot)
    }
}
