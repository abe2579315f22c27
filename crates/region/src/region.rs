//! This module is the handle to a node's part of its region: submit, linearize, drain, stop.

use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chartmesh_record::{Alarm, AsOf, Command, Origin, Statement, Timestamp};
use chartmesh_store::{Blocking, Identity};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::admission::Entrance;
use crate::core::{Admission, Core, Why};
use crate::decider::{Decider, Queue};
use crate::forward;
use crate::freshness::Freshness;
use crate::handover;
use crate::isolation::{self, Isolation};
use crate::journal::{self, Journal};
use crate::limits::{ASK_EVERY, IsolationWrites};
use crate::log_store::LogStore;
use crate::members;
use crate::peers::Peers;
use crate::promises::Promises;
use crate::purge;
use crate::recovery::{self, Recovery};
use crate::runtime;
use crate::service::Services;
use crate::setup::{Corrupt, Setup, StartError};
use crate::state_machine::StateMachine;
use crate::status::{RegionStatus, State};
use crate::submit::{Accepted, SubmitError, Unavailable};
use crate::upload::Uploads;
use crate::warm::Warm;
use crate::words::Words;

/// A node's part of its region. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Region {
    core: Arc<Core>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Region {
    /// Starts it, within a tokio runtime. The services must be mounted where the other voters reach
    /// this node.
    ///
    /// # Errors
    /// When the node is none of the region, or its disk does not hold what it must.
    pub fn start(setup: Setup) -> Result<(Self, Services), StartError> {
        let Setup { me, region, voters, mirrors, found, log, random, .. } = &setup;
        let is_voter = voters.iter().any(|member| member.name == *me);
        if !is_voter && !mirrors.iter().any(|member| member.name == *me) {
            return Err(StartError::Stranger { me: me.clone(), region: region.clone() });
        }
        runtime::seed(random.bits());
        let appended = Arc::new(Notify::new());
        let warm = Warm::default();
        let log_store = LogStore::new(log.clone(), Arc::clone(&appended), warm.clone());
        let uploads = Uploads::new(log.clone());
        let recovery = Recovery::recall(&setup.store)?;
        let recovery = recovery.begin(&setup.store, log, random.bits().max(1))?;
        let (state, progress) = StateMachine::open(&setup, uploads.clone(), warm.clone())?;
        let voted = log_store.vote()?.is_some();
        let pristine = !voted && log.last().is_none() && progress.borrow().log.is_none();
        let raft_id = if is_voter { identify(&setup, pristine)? } else { 0 };
        let found = *found;
        let (queue, inbox) = Queue::new(&setup.limits);
        let (journal, journaled) = Journal::new(&setup.limits);
        let core = Arc::new(Core {
            me: setup.me,
            region: setup.region,
            voters: setup.voters,
            mirrors: setup.mirrors,
            timers: setup.profile.timers(),
            limits: setup.limits,
            log: setup.log,
            links: setup.links,
            feeds: setup.feeds,
            isolation: Isolation::new(setup.clock.monotonic()),
            journal,
            words: Words::default(),
            warm,
            told: watch::Sender::new(None),
            draining: watch::Sender::new(false),
            changing: tokio::sync::Mutex::default(),
            clock: setup.clock,
            random: setup.random,
            blocking: setup.blocking,
            raft_id: AtomicU64::new(raft_id),
            promises: Promises::recall(&setup.store),
            recovery: AtomicU64::new(recovery.id()),
            invited: Mutex::default(),
            store: setup.store,
            progress,
            queue,
            uploads,
            freshness: Freshness::default(),
            peers: Peers::default(),
            admission: watch::Sender::new(Admission::Waiting),
            raft: OnceLock::new(),
            fatal: watch::Sender::new(None),
        });
        let mut tasks = beside(&core, appended, recovery.founds());
        if is_voter {
            let core = Arc::clone(&core);
            let founds = recovery.founds();
            let entrance = Entrance { core, log: log_store, state, found, founds };
            tasks.spawn(entrance.enter());
        }
        tasks.spawn(Decider::new(Arc::clone(&core), inbox).run());
        tasks.spawn(journal::keep_deciding(Arc::clone(&core), journaled));
        let services = Services::new(Arc::clone(&core));
        Ok((Self { core, tasks: Arc::new(Mutex::new(tasks)) }, services))
    }

    /// Has a command decided, whoever leads, and waits (for a bounded time) until this node holds
    /// what it changed.
    ///
    /// # Errors
    /// When it is refused, or the region cannot decide now.
    pub async fn submit(&self, command: Command) -> Result<Accepted, SubmitError> {
        forward::submit(&self.core, command).await
    }

    /// Waits until this node holds all that its region had decided when it was asked.
    ///
    /// # Errors
    /// When no quorum confirms how far that is, or this node does not get there in time.
    pub async fn linearize(&self) -> Result<(), Unavailable> {
        forward::linearize(&self.core).await
    }

    /// Up to which instant the node knows all that its region has decided; `None` before it has
    /// heard from a quorum.
    #[must_use]
    pub fn as_of(&self) -> Option<AsOf> {
        self.core.freshness.as_of(&self.core)
    }

    /// The newest statement of the region whose changes the node holds, and its age.
    #[must_use]
    pub fn stated(&self) -> Option<(Statement, Duration)> {
        self.core.freshness.stated(&self.core)
    }

    /// Whether a feed's changes come to this node by being ordered here: the region's present feed
    /// at a voter, and the journal that is open.
    #[must_use]
    pub fn orders(&self, origin: &Origin) -> bool {
        let core = &self.core;
        if origin.name() == core.me.0 {
            return core.journal.is_open(origin);
        }
        *core.admission.borrow() == Admission::Member
            && core.progress.borrow().origin.as_ref() == Some(origin)
    }

    /// Since when the node is isolated, if it is.
    #[must_use]
    pub fn isolated_since(&self) -> Option<Timestamp> {
        self.core.isolation.since()
    }

    /// Where the node stands.
    #[must_use]
    pub fn status(&self) -> RegionStatus {
        let core = &self.core;
        let mut alarms = Vec::new();
        let state = match &*core.admission.borrow() {
            Admission::Refused(refusal) => {
                let reason = refusal.reason.clone();
                let text = format!("this node takes no part in its region: {reason}");
                alarms.push(Alarm { code: "refused", text, since: refusal.since });
                State::Refused { reason }
            }
            Admission::Waiting | Admission::Member | Admission::Joining { .. } => {
                match core.isolation.since() {
                    Some(since) => State::Isolated { since },
                    None if core.isolation.was_confirmed() => State::Region,
                    None => State::Starting { founded: core.belongs() },
                }
            }
        };
        if let State::Isolated { since } = state {
            let text = match core.limits.isolation_writes {
                IsolationWrites::Journal => {
                    "this node is cut off from its region: reads go on, and writes go into a \
                     journal of its own"
                }
                IsolationWrites::Refuse => {
                    "this node is cut off from its region: reads go on, and writes are refused"
                }
            };
            alarms.push(Alarm { code: "isolated", text: text.to_owned(), since });
        }
        if let Admission::Joining { why, since } = *core.admission.borrow() {
            alarms.push(why.alarm(since));
        }
        let (term, last_log) = core.raft().map_or((0, 0), |raft| {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_term, metrics.last_log_index.unwrap_or(0))
        });
        let applied = core.progress.borrow().entries().saturating_sub(1);
        let origin = core.progress.borrow().origin.clone();
        let leader = core.leader().map(|(_, name)| name);
        let members = core.peers.status(core);
        RegionStatus { state, leader, term, origin, last_log, applied, members, alarms }
    }

    /// Finishes what this node is deciding, and hands leadership over if it has it. It leads no more
    /// from then on.
    pub async fn drain(&self) {
        handover::drain(&self.core).await;
    }

    /// Ends it.
    pub async fn stop(self) {
        if let Some(raft) = self.core.raft() {
            let _ = raft.shutdown().await;
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Returns why the process must end, once it must: Raft has died, or the disk holds what it must
    /// not.
    pub fn fatal(&self) -> impl Future<Output = String> + Send + use<> {
        let mut fatal = self.core.fatal.subscribe();
        async move {
            let reason = fatal.wait_for(Option::is_some).await.map(|reason| reason.clone());
            match reason {
                Ok(reason) => reason.unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Why {
    /// What somebody should know of it.
    fn alarm(self, since: Timestamp) -> Alarm {
        let joining = |what: &str| {
            let text = format!("this node's {what}: it fills itself, and does not vote yet");
            Alarm { code: "joining", text, since }
        };
        match self {
            Self::Empty => joining("disk is new"),
            Self::SetBack => joining("disk was set back to old contents"),
            Self::Recovered(_) => joining("region was recovered without it"),
            Self::Uninvited => {
                let text = "this node is no voter of its region; `chartmesh node add` lets it in";
                Alarm { code: "uninvited", text: text.to_owned(), since }
            }
        }
    }
}

/// What runs beside the deciding.
fn beside(core: &Arc<Core>, appended: Arc<Notify>, founds: bool) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(handover::keep_off(Arc::clone(core)));
    tasks.spawn(handover::mind_clock(Arc::clone(core)));
    tasks.spawn(isolation::keep_asking(Arc::clone(core)));
    tasks.spawn(isolation::keep_looking(Arc::clone(core)));
    tasks.spawn(purge::keep_purging(Arc::clone(core)));
    tasks.spawn(greet(Arc::clone(core)));
    tasks.spawn(watch_over(Arc::clone(core)));
    if founds {
        tasks.spawn(recovery::decide_again(Arc::clone(core)));
    }
    if core.blocking == Blocking::Inline {
        tasks.spawn(sync_inline(Arc::clone(core), appended));
    }
    tasks
}

/// The Raft id of this disk; drawn if it is new.
fn identify(setup: &Setup, pristine: bool) -> Result<u64, Corrupt> {
    let corrupt = |reason: String| Corrupt { what: "the identity in the Raft log", reason };
    let known = setup.log.identity();
    if let Some(known) = &known
        && known.region != setup.region
    {
        return Err(corrupt(format!("it belongs to region {}", known.region)));
    }
    if let Some(known) = &known
        && known.founded
        && pristine
    {
        return Err(corrupt("it has belonged to a group, but the log is empty".to_owned()));
    }
    let founded = !pristine;
    if let Some(known) = &known
        && known.founded == founded
    {
        return Ok(known.raft_id);
    }
    if founded && known.is_none() {
        return Err(corrupt("there is a log, but it is missing".to_owned()));
    }
    // 0 is nobody's.
    let raft_id = known.map_or_else(|| setup.random.bits().max(1), |known| known.raft_id);
    let identity = Identity { raft_id, region: setup.region.clone(), founded };
    setup.log.set_identity(&identity).map_err(|error| corrupt(error.to_string()))?;
    Ok(raft_id)
}

/// Keeps an eye on the other voters; a leader tells them what all have acknowledged.
async fn greet(core: Arc<Core>) {
    loop {
        core.promises.learn(&core, &Promises::told_to(&core));
        let greetings = core.peers.greet(&core).await;
        members::heed(&core, &greetings);
        tokio::time::sleep(2 * ASK_EVERY).await;
    }
}

/// Notices when Raft dies. One that was told to stop has not.
async fn watch_over(core: Arc<Core>) {
    core.until(|core| core.raft().is_some()).await;
    let Some(raft) = core.raft() else { return };
    let mut metrics = raft.metrics();
    loop {
        let dead = metrics.borrow_watched().running_state.as_ref().err().cloned();
        match dead {
            Some(Fatal::Stopped) => return,
            Some(reason) => return core.end(reason),
            None => {}
        }
        if metrics.changed().await.is_err() {
            return core.end("Raft has ended");
        }
    }
}

/// Syncs what is appended where no thread does, after a time like a disk's.
async fn sync_inline(core: Arc<Core>, appended: Arc<Notify>) {
    loop {
        appended.notified().await;
        tokio::time::sleep(Duration::from_micros(500 + core.random.bits() % 3_500)).await;
        core.log.sync_pending();
    }
}
