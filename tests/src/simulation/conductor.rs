//! This module makes things happen to the nodes, at instants that come from the seed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use turmoil::Sim;

use super::disk::cut_power;
use super::{LATENCY, NODES, World};
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
    /// A node hears nothing of the others, nor they of it; clients still reach it.
    Isolate(Who),
    /// A node hears the others, but they do not hear it.
    Mute(Who),
    /// Messages between a node and the others are held, and delivered later.
    Freeze(Who),
    /// Messages between a node and the others take long.
    Slow(Who),
}

/// To whom it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The node that leads then.
    Leader,
    /// This one.
    Node(&'static str),
}

/// What ends something that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Start(&'static str),
    Repair(&'static str),
    Release(&'static str),
    Hasten(&'static str),
}

/// Before the first happening, between two, and after the last.
const CALM: Duration = Duration::from_secs(2);
/// The longest that anything lasts.
const LASTS: Duration = Duration::from_millis(2_500);
/// A slow message.
const SLOW: Duration = Duration::from_millis(60);

impl Score {
    /// So many happenings of all kinds, drawn from a seed.
    #[must_use]
    pub fn drawn(seed: u64, count: u32) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        let happening = |number: u32| {
            let node = *NODES.choose(&mut random).expect("there are nodes");
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

    /// These happenings, at these instants.
    #[must_use]
    pub fn of(happenings: impl IntoIterator<Item = (Instant, Happening)>) -> Self {
        Self(happenings.into_iter().collect())
    }

    /// Runs the simulation to its end. Returns what happened, and when nodes were started again.
    pub(super) fn perform(
        &self,
        sim: &mut Sim<'_>,
        world: &World,
        stop: &AtomicBool,
    ) -> (Vec<String>, Vec<(NodeName, Instant)>) {
        let mut stage = Stage {
            sim,
            world,
            random: StdRng::seed_from_u64(world.seed ^ 0xd15c),
            undo: Vec::new(),
            told: Vec::new(),
            restarts: Vec::new(),
        };
        let mut next = self.0.iter().peekable();
        let end = self.0.last().map_or(Instant::ZERO, |(at, _)| *at) + LASTS + CALM;
        loop {
            let now = stage.sim.elapsed();
            stage.undo_what_is_over(now);
            if let Some((_, happening)) = next.next_if(|(at, _)| *at <= now) {
                stage.make_happen(now, *happening);
            }
            if now >= end && stage.undo.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            let finished = stage.sim.step().unwrap_or_else(|error| {
                panic!("at {now:?}, after {:#?}: {error}", stage.told);
            });
            if finished {
                return (stage.told, stage.restarts);
            }
        }
    }
}

struct Stage<'s, 'sim> {
    sim: &'s mut Sim<'sim>,
    world: &'s World,
    random: StdRng,
    undo: Vec<(Instant, Undo)>,
    told: Vec<String>,
    restarts: Vec<(NodeName, Instant)>,
}

impl Stage<'_, '_> {
    fn make_happen(&mut self, now: Instant, happening: Happening) {
        let later = |stage: &mut Self| now + LASTS.mul_f64(stage.random.random_range(0.1..1.0));
        let leader = self.world.leader();
        let name = |who| match who {
            Who::Leader => leader,
            Who::Node(node) => node,
        };
        self.told.push(format!("{now:?} {happening:?}, led by {leader}"));
        let until = later(self);
        match happening {
            Happening::Crash(who) => self.crash(name(who), until),
            Happening::PowerCut => NODES.into_iter().for_each(|node| {
                let until = later(self);
                self.crash(node, until);
            }),
            Happening::Isolate(who) => {
                others(name(who)).for_each(|other| self.sim.partition(name(who), other));
                self.undo.push((until, Undo::Repair(name(who))));
            }
            Happening::Mute(who) => {
                others(name(who)).for_each(|other| self.sim.partition_oneway(name(who), other));
                self.undo.push((until, Undo::Repair(name(who))));
            }
            Happening::Freeze(who) => {
                others(name(who)).for_each(|other| self.sim.hold(name(who), other));
                self.undo.push((until, Undo::Release(name(who))));
            }
            Happening::Slow(who) => {
                let slow = |other| self.sim.set_link_latency(name(who), other, SLOW);
                others(name(who)).for_each(slow);
                self.undo.push((until, Undo::Hasten(name(who))));
            }
        }
    }

    fn crash(&mut self, node: &'static str, until: Instant) {
        if !self.sim.is_host_running(node) {
            return;
        }
        // What has no power says no farewell. And the order in which a crash drops connections, which
        // differs from run to run, leaves no trace.
        let hosts = || others(node).map(str::to_owned).chain(self.world.clients.iter().cloned());
        hosts().for_each(|other| self.sim.partition(node, other));
        self.sim.crash(node);
        hosts().for_each(|other| self.sim.repair(node, other));
        let share = self.random.random_range(0.0..1.0);
        let data: &Path = &self.world.data(node);
        // Half of the time only the process is lost.
        if self.random.random_bool(0.5) {
            cut_power(data, share * share);
        }
        self.undo.push((until, Undo::Start(node)));
    }

    fn undo_what_is_over(&mut self, now: Instant) {
        let (over, lasting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.undo).into_iter().partition(|(until, _)| *until <= now);
        self.undo = lasting;
        for (_, undo) in over {
            self.told.push(format!("{now:?} {undo:?}"));
            match undo {
                Undo::Start(node) => {
                    self.sim.bounce(node);
                    self.restarts.push((NodeName(node.to_owned()), now));
                }
                Undo::Repair(node) => others(node).for_each(|other| self.sim.repair(node, other)),
                Undo::Release(node) => others(node).for_each(|other| self.sim.release(node, other)),
                Undo::Hasten(node) => {
                    let hasten = |other| self.sim.set_link_latency(node, other, LATENCY / 2);
                    others(node).for_each(hasten);
                }
            }
        }
    }
}

fn others(node: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    NODES.into_iter().filter(move |other| *other != node)
}
