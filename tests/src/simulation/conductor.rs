//! This module makes things happen to the nodes, at instants that come from the seed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use turmoil::Sim;

use super::disk;
use super::mesh::{Group, Mesh, Place};
use super::{ISOLATION_AFTER, LATENCY, World};
use crate::history::{Instant, NodeName};

/// What happens, and when.
#[derive(Clone, Debug)]
pub struct Score(Vec<(Instant, Happening)>);

/// Something that happens to nodes. What lasts is undone after some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A node loses its power, with what it has not synced; it comes back later.
    Crash(Who),
    /// All nodes lose their power at once; they come back one after the other.
    PowerCut,
    /// All nodes of a region do.
    RegionPowerCut(&'static str),
    /// A node hears nothing of the others, nor they of it; clients still reach it.
    Isolate(Who),
    /// A node hears the others, but they do not hear it.
    Mute(Who),
    /// Messages between a node and the others are held, and delivered later.
    Freeze(Who),
    /// Messages between a node and the others take long.
    Slow(Who),
    /// These nodes and the others hear nothing of each other for so long.
    Cut(Group, Duration),
    /// A node and the others hear of each other now and then.
    Flap(Who),
    /// The wall clock of a node jumps by so many milliseconds, and back later.
    ClockJump(Who, i64),
    /// A node comes back with an empty disk.
    Wipe(Who),
    /// A node crashes, goes on, and crashes again; then it comes back with the disk of the first time.
    SetBack(Who),
}

/// To whom it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The node that leads the first region then.
    Leader,
    /// The node that leads this region then.
    LeaderOf(&'static str),
    /// This one.
    Node(&'static str),
}

/// What is done later because of something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Start(&'static str),
    Cut(Group),
    Repair(Group),
    Release(&'static str),
    Hasten(&'static str),
    RightClock(&'static str),
    Fall(&'static str),
}

/// What becomes of a disk while its node does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Half of the time only the process is lost, else what was not synced too.
    Drawn,
    Wiped,
    Kept,
    SetBack,
}

/// Before the first happening, between two, and after the last.
const CALM: Duration = Duration::from_secs(2);
/// The longest that anything lasts which has no time of its own.
const LASTS: Duration = Duration::from_millis(2_500);
/// From one crash of a disk that is set back to the next.
const BETWEEN_FALLS: Duration = Duration::from_secs(6);
/// A flapping link changes so often, each time for so long.
const FLAPS: u32 = 5;
const FLAP: Duration = Duration::from_millis(400);
/// A slow message.
const SLOW: Duration = Duration::from_millis(60);
/// Clocks jump by so many milliseconds at the most.
const JUMP_MS: i64 = 3_600_000;

impl Score {
    /// So many happenings of all kinds to a region, drawn from a seed.
    #[must_use]
    pub fn drawn(seed: u64, count: u32) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        let nodes: Vec<_> = Mesh::REGION.names().collect();
        let happening = |number: u32| {
            let node = *nodes.choose(&mut random).expect("there are nodes");
            let who = if random.random_bool(0.7) { Who::Leader } else { Who::Node(node) };
            let happening = match random.random_range(0..12) {
                0..4 => Happening::Crash(who),
                4..6 => Happening::PowerCut,
                6..8 => Happening::Isolate(who),
                8 => Happening::Mute(who),
                9..11 => Happening::Freeze(who),
                _ => Happening::Slow(who),
            };
            let at = CALM * (number + 1) + LASTS * number;
            (at + CALM.mul_f64(random.random_range(0.0..1.0)), happening)
        };
        Self((0..count).map(happening).collect())
    }

    /// So many happenings of all kinds to a mesh, drawn from a seed. No region loses a second disk: what
    /// a region has agreed on survives the loss of a minority.
    #[must_use]
    pub fn drawn_for_mesh(mesh: Mesh, seed: u64, count: u32) -> Self {
        let mut draw =
            Draw { mesh, random: StdRng::seed_from_u64(seed ^ 0x5eed), wiped: BTreeSet::new() };
        let (mut at, mut happenings) = (CALM, Vec::new());
        for _ in 0..count {
            let happening = draw.happening();
            happenings.push((at, happening));
            at += happening.lasts_at_most() + CALM;
        }
        Self(happenings)
    }

    /// These happenings, at these instants.
    #[must_use]
    pub fn of(happenings: impl IntoIterator<Item = (Instant, Happening)>) -> Self {
        Self(happenings.into_iter().collect())
    }

    /// Whether a clock is wrong at some time.
    pub(super) fn jumps(&self) -> bool {
        self.0.iter().any(|(_, happening)| matches!(happening, Happening::ClockJump(..)))
    }

    /// Runs the simulation to its end. Returns what happened, when nodes were started again, and when
    /// disks were lost.
    pub(super) fn perform(&self, sim: &mut Sim<'_>, world: &World, stop: &AtomicBool) -> Performed {
        let mut stage = Stage {
            sim,
            world,
            random: StdRng::seed_from_u64(world.seed ^ 0xd15c),
            later: Vec::new(),
            cuts: Vec::new(),
            performed: Performed::default(),
        };
        let mut next = self.0.iter().peekable();
        let ends = self.0.iter().map(|(at, happening)| *at + happening.lasts_at_most());
        let end = ends.max().unwrap_or_default() + CALM;
        loop {
            let now = stage.sim.elapsed();
            stage.do_what_is_due(now);
            if let Some((_, happening)) = next.next_if(|(at, _)| *at <= now) {
                stage.make_happen(now, *happening);
            }
            if now >= end && stage.later.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            let finished = stage.sim.step().unwrap_or_else(|error| {
                panic!("at {now:?}, after {:#?}: {error}", stage.performed.happenings);
            });
            if finished {
                return stage.performed;
            }
        }
    }
}

/// What a score came to.
#[derive(Debug, Default)]
pub(super) struct Performed {
    pub(super) happenings: Vec<String>,
    pub(super) restarts: Vec<(NodeName, Instant)>,
    pub(super) lost_disks: Vec<(NodeName, Instant)>,
}

impl Happening {
    fn lasts_at_most(&self) -> Duration {
        match self {
            Self::Cut(_, lasts) => *lasts,
            Self::SetBack(_) => BETWEEN_FALLS + LASTS * 2,
            _ => LASTS,
        }
    }
}

/// What a score is drawn with.
struct Draw {
    mesh: Mesh,
    random: StdRng,
    /// The regions in which a disk was lost.
    wiped: BTreeSet<&'static str>,
}

impl Draw {
    fn happening(&mut self) -> Happening {
        let regions = self.mesh.regions();
        let region = *regions.choose(&mut self.random).expect("there are regions");
        let members: Vec<_> = self.mesh.members(Group::Region(region)).collect();
        let node = *members.choose(&mut self.random).expect("it has nodes");
        let who = match self.random.random_bool(0.4) {
            true => Who::LeaderOf(region),
            false => Who::Node(node),
        };
        // Half of the time long enough for the node to isolate itself.
        let long = ISOLATION_AFTER.mul_f64(self.random.random_range(0.3..3.0));
        match self.random.random_range(0..20) {
            0..3 => Happening::Crash(who),
            3 => Happening::PowerCut,
            4..6 => Happening::RegionPowerCut(region),
            6 => Happening::Mute(who),
            7..9 => Happening::Freeze(who),
            9 => Happening::Slow(who),
            10..12 => Happening::Flap(who),
            12..14 => Happening::Cut(Group::Region(region), long),
            14..17 => Happening::Cut(self.site(), long),
            17 => Happening::ClockJump(who, self.random.random_range(-JUMP_MS..JUMP_MS)),
            _ => self.wipe(),
        }
    }

    fn site(&mut self) -> Group {
        let places: Vec<&Place> = self.mesh.voters().collect();
        Group::Site(places.choose(&mut self.random).expect("there are voters").site)
    }

    fn wipe(&mut self) -> Happening {
        let places: Vec<&Place> = self.mesh.voters().collect();
        let place = *places.choose(&mut self.random).expect("there are voters");
        match self.wiped.insert(place.region) {
            true => Happening::Wipe(Who::Node(place.name)),
            false => Happening::Crash(Who::Node(place.name)),
        }
    }
}

struct Stage<'s, 'sim> {
    sim: &'s mut Sim<'sim>,
    world: &'s World,
    random: StdRng,
    later: Vec<(Instant, Later)>,
    /// What is cut off now.
    cuts: Vec<Group>,
    performed: Performed,
}

impl Stage<'_, '_> {
    fn make_happen(&mut self, now: Instant, happening: Happening) {
        let told = match happening.who().map(|who| self.name(who)) {
            Some(node) => format!("{now:?} {happening:?}: {node}"),
            None => format!("{now:?} {happening:?}"),
        };
        self.performed.happenings.push(told);
        let until = self.some_time_after(now);
        match happening {
            Happening::Crash(who) => self.crash(self.name(who), until, Fate::Drawn),
            Happening::PowerCut => self.cut_power(now, self.world.mesh.names().collect()),
            Happening::RegionPowerCut(region) => {
                let members = self.world.mesh.members(Group::Region(region)).collect();
                self.cut_power(now, members);
            }
            Happening::Isolate(who) => self.cut(Group::Node(self.name(who)), until),
            Happening::Cut(group, lasts) => self.cut(group, now + lasts),
            Happening::Mute(who) => {
                let node = self.name(who);
                self.each_other(node, |sim, other| sim.partition_oneway(node, other));
                self.later.push((until, Later::Repair(Group::Node(node))));
            }
            Happening::Freeze(who) => {
                let node = self.name(who);
                self.each_other(node, |sim, other| sim.hold(node, other));
                self.later.push((until, Later::Release(node)));
            }
            Happening::Slow(who) => {
                let node = self.name(who);
                self.each_other(node, |sim, other| sim.set_link_latency(node, other, SLOW));
                self.later.push((until, Later::Hasten(node)));
            }
            Happening::Flap(who) => {
                let group = Group::Node(self.name(who));
                for flap in 0..FLAPS {
                    let at = now + FLAP * flap;
                    let flap = if flap % 2 == 0 { Later::Cut(group) } else { Later::Repair(group) };
                    self.later.push((at, flap));
                }
                self.later.push((now + FLAP * FLAPS, Later::Repair(group)));
            }
            Happening::ClockJump(who, offset_ms) => {
                let node = self.name(who);
                self.world.set_clock(node, offset_ms);
                self.later.push((until, Later::RightClock(node)));
            }
            Happening::Wipe(who) => {
                let node = self.name(who);
                self.lose_disk(node, now);
                self.crash(node, until, Fate::Wiped);
            }
            Happening::SetBack(who) => {
                let node = self.name(who);
                self.crash(node, until, Fate::Kept);
                self.later.push((now + BETWEEN_FALLS, Later::Fall(node)));
            }
        }
    }

    fn name(&self, who: Who) -> &'static str {
        match who {
            Who::Leader => self.world.leader(self.world.mesh.regions()[0]),
            Who::LeaderOf(region) => self.world.leader(region),
            Who::Node(node) => node,
        }
    }

    fn some_time_after(&mut self, now: Instant) -> Instant {
        now + LASTS.mul_f64(self.random.random_range(0.1..1.0))
    }

    fn each_other(&mut self, node: &'static str, mut what: impl FnMut(&mut Sim<'_>, &'static str)) {
        for other in self.world.mesh.names().filter(|other| *other != node) {
            what(&mut *self.sim, other);
        }
    }

    fn lose_disk(&mut self, node: &str, now: Instant) {
        self.performed.lost_disks.push((NodeName(node.to_owned()), now));
    }

    fn cut_power(&mut self, now: Instant, nodes: Vec<&'static str>) {
        for node in nodes {
            let until = self.some_time_after(now);
            self.crash(node, until, Fate::Drawn);
        }
    }

    fn cut(&mut self, group: Group, until: Instant) {
        self.partition(group);
        self.later.push((until, Later::Repair(group)));
    }

    fn partition(&mut self, group: Group) {
        for (one, other) in self.world.mesh.border(group) {
            self.sim.partition(one, other);
        }
        self.cuts.push(group);
    }

    fn repair(&mut self, group: Group) {
        self.cuts.retain(|cut| *cut != group);
        for (one, other) in self.world.mesh.border(group) {
            self.sim.repair(one, other);
        }
        self.cut_again();
    }

    /// Whatever was repaired in passing is cut still where a cut goes on.
    fn cut_again(&mut self) {
        let standing = self.cuts.iter().flat_map(|cut| self.world.mesh.border(*cut));
        let standing: Vec<_> = standing.collect();
        standing.into_iter().for_each(|(one, other)| self.sim.partition(one, other));
    }

    fn crash(&mut self, node: &'static str, until: Instant, fate: Fate) {
        if !self.sim.is_host_running(node) {
            return;
        }
        // What has no power says no farewell. And the order in which a crash drops connections, which
        // differs from run to run, leaves no trace.
        let nodes = self.world.mesh.names().filter(|other| *other != node).map(str::to_owned);
        let hosts: Vec<String> = nodes.chain(self.world.clients.iter().cloned()).collect();
        hosts.iter().for_each(|other| self.sim.partition(node, other.as_str()));
        self.sim.crash(node);
        hosts.iter().for_each(|other| self.sim.repair(node, other.as_str()));
        self.cut_again();
        let share = self.random.random_range(0.0..1.0);
        let data = self.world.data(node);
        match fate {
            Fate::Drawn if self.random.random_bool(0.5) => disk::cut_power(&data, share * share),
            Fate::Drawn => {}
            Fate::Wiped => disk::wipe(&data),
            Fate::Kept => disk::keep(&data),
            Fate::SetBack => disk::set_back(&data),
        }
        self.later.push((until, Later::Start(node)));
    }

    fn do_what_is_due(&mut self, now: Instant) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = rest;
        for (_, what) in due {
            self.performed.happenings.push(format!("{now:?} {what:?}"));
            match what {
                Later::Start(node) => {
                    self.sim.bounce(node);
                    self.performed.restarts.push((NodeName(node.to_owned()), now));
                }
                Later::Cut(group) => self.partition(group),
                Later::Repair(group) => self.repair(group),
                Later::Release(node) => {
                    self.each_other(node, |sim, other| sim.release(node, other));
                }
                Later::Hasten(node) => self.each_other(node, |sim, other| {
                    sim.set_link_latency(node, other, LATENCY / 2);
                }),
                Later::RightClock(node) => self.world.set_clock(node, 0),
                Later::Fall(node) => {
                    let until = self.some_time_after(now);
                    self.lose_disk(node, now);
                    self.crash(node, until, Fate::SetBack);
                }
            }
        }
    }
}

impl Happening {
    /// The node that it happens to, if it is one.
    fn who(&self) -> Option<Who> {
        match *self {
            Self::Crash(who)
            | Self::Isolate(who)
            | Self::Mute(who)
            | Self::Freeze(who)
            | Self::Slow(who)
            | Self::Flap(who)
            | Self::ClockJump(who, _)
            | Self::Wipe(who)
            | Self::SetBack(who) => Some(who),
            Self::PowerCut | Self::RegionPowerCut(_) | Self::Cut(..) => None,
        }
    }
}
