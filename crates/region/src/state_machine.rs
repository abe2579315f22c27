//! This module applies what the region has agreed on to the node's store.
//!
//! Entries are applied in order, several in one disk batch, away from the tasks that keep time and
//! talk to peers. What an entry does is a function of the log alone, so all voters do the same; one
//! that finds that it would not must stop.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use chartmesh_record::{Clock, Cursor, Decision, Timestamp};
use chartmesh_store::{Apply, Blocking, Run, RunOutcome, Store};
use chartmesh_wire::Canonical;
use chartmesh_wire::raft::Proposal;
use chartmesh_wire::raft::Upload;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, SnapshotMeta};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;

use crate::limits::APPLY_BYTES;
use crate::position::Position;
use crate::setup::Corrupt;
use crate::types::{Entry, Fit, LogId, Sealed, StoredMembership, TypeConfig};
use crate::upload::Uploads;
use crate::warm::Warm;

const UNLIKE_LEADER: &str = "a change set differs from the leader's";

/// The node's store as openraft sees it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    store: Store,
    uploads: Uploads,
    blocking: Blocking,
    position: watch::Sender<Position>,
    snapshot: Arc<Mutex<Option<PositionSnapshot>>>,
    clock: Arc<dyn Clock>,
    warm: Warm,
}

/// What a snapshot holds: not the state, only how far it reaches in the region's feed. Whoever
/// installs it holds the feed up to there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// How far the region's feed.
    feed: Option<Cursor>,
    /// The newest instant in the log.
    at: Timestamp,
}

type PositionSnapshot = SnapshotOf<TypeConfig, Covered>;

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
}

impl StateMachine {
    /// Goes on where the store is. The receiver tells how far it is.
    pub(crate) fn open(
        store: Store,
        uploads: Uploads,
        blocking: Blocking,
        clock: Arc<dyn Clock>,
        warm: Warm,
    ) -> Result<(Self, watch::Receiver<Position>), Corrupt> {
        let position = store.applied().map_or_else(|| Ok(Position::start()), Position::decode)?;
        let (position, progress) = watch::channel(position);
        let snapshot = Arc::default();
        let state = Self { store, uploads, blocking, position, snapshot, clock, warm };
        Ok((state, progress))
    }

    /// Applies entries in one disk batch. Says how each fits.
    fn apply_all(&self, entries: Vec<Entry>) -> io::Result<Vec<Fit>> {
        let position = self.position.borrow().clone();
        let mut gathered = Gathered { runs: Vec::new(), fits: Vec::new(), position };
        let mut live = Vec::new();
        for entry in entries {
            let proposed = matches!(entry.payload, EntryPayload::Normal(_));
            let term = entry.log_id.leader_id.term;
            let fit = self.gather(entry, &mut gathered)?;
            if proposed {
                live.push((term, gathered.position.origin.clone()));
            }
            gathered.fits.push(fit);
        }
        let Gathered { runs, fits, position } = gathered;
        let arrived = self.clock.wall();
        let apply = Apply { runs, applied: Some(position.encode()), arrived };
        let applied = self.store.apply(apply).map_err(io::Error::other)?;
        let fits = fits.into_iter().map(|fit| match fit {
            EntryFit::Known(fit) => Ok(fit),
            EntryFit::Run(run) => match &applied.runs[run] {
                RunOutcome::Held { .. } => Ok(Fit::Applied),
                RunOutcome::Misfit { .. } => Ok(Fit::Misfit),
                RunOutcome::Forked { held } => Err(differs("the feed is forked", held)),
            },
        });
        let fits = fits.collect::<io::Result<_>>()?;
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
                if stands != position.origin.as_ref() {
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
                let change = self.decided(upload, &parts, &decision, fits)?;
                let change = change.ok_or_else(|| differs(UNLIKE_LEADER, &extends))?;
                Run { extends, changes: vec![change] }
            }
        };
        if Some(&run.extends.origin) != position.origin.as_ref() {
            return Ok(EntryFit::Known(Fit::Misfit));
        }
        gathered.runs.push(run);
        Ok(EntryFit::Run(gathered.runs.len() - 1))
    }

    /// The change set that a decision makes of a big command, if it is the one decided.
    fn decided(
        &self,
        upload: u64,
        parts: &Upload,
        decision: &Decision,
        fits: impl Fn(&Canonical) -> bool,
    ) -> io::Result<Option<Canonical>> {
        let prepared = match self.uploads.take(upload) {
            Some(prepared) => prepared,
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
            let fits = self.blocking.run(|| self.apply_all(chunk))?;
            for (responder, fit) in responders.into_iter().zip(fits) {
                if let Some(responder) = responder {
                    responder.send(fit);
                }
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        Self {
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
        if let Some(feed) = &covered.feed
            && self.store.cursor(&feed.origin).seq < feed.seq
        {
            return Err(differs("the feed is not held", feed));
        }
        let position = Position {
            log: meta.last_log_id,
            membership: meta.last_membership.clone(),
            origin: covered.feed.as_ref().map(|feed| feed.origin.clone()),
            at: covered.at,
            statement: None,
        };
        let applied = Some(position.encode());
        let apply = Apply { applied, ..Apply::default() };
        self.store.apply(apply).map_err(io::Error::other)?;
        self.position.send_replace(position);
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
        let feed = position.origin.as_ref().map(|origin| self.store.cursor(origin));
        let snapshot = PositionSnapshot {
            meta: SnapshotMeta { last_log_id: position.log, last_membership: position.membership },
            snapshot: Covered { feed, at: position.at },
        };
        self.set_snapshot(snapshot.clone());
        Ok(snapshot)
    }
}
