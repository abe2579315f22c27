//! Disks that were set back, logs that were purged, regions that go on from one disk, and voters that
//! come and go.

use std::time::Duration;

use chartmesh_record::Seq;
use chartmesh_region::{Limits, State, begin_as_new, recover, survey};
use chartmesh_store::{Memory, Options, RaftLog, Store, Syncer};
use chartmesh_wire::proto::change_request::Change;
use chartmesh_wire::proto::change_response::Answer;

use crate::commands::{key, put};
use crate::feeds::Carries;
use crate::mesh::{Mesh, eventually};
use crate::version;

fn raft_id(mesh: &Mesh, number: usize) -> Option<u64> {
    let members = mesh.node(number).region.status().members;
    members.iter().find(|member| member.name == mesh.name(number)).unwrap().raft_id
}

/// Whether a node says that its disk does not vote.
fn is_joining(mesh: &Mesh, number: usize) -> bool {
    let alarms = mesh.node(number).region.status().alarms;
    alarms.iter().any(|alarm| ["joining", "uninvited"].contains(&alarm.code))
}

async fn votes_again(mesh: &Mesh, number: usize) {
    let votes = || {
        let state = mesh.state(number);
        (state == State::Region && !is_joining(mesh, number)).then_some(())
    };
    eventually("it votes again", votes).await;
}

async fn write(mesh: &Mesh, at: usize, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let id = format!("r{}", number % 50);
        mesh.node(at).region.submit(put(number, &id, &format!("{number}"))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_was_set_back_becomes_a_new_one_and_fills_itself() {
    let mut mesh = Mesh::founded(3).await;
    write(&mesh, 1, 0..10).await;
    mesh.settle().await;
    let back = mesh.follower().await;
    let other = (1..=3).find(|&number| number != back).unwrap();
    mesh.kill(back).await;
    let old = mesh.copy(back).await;
    mesh.start(back, false).await;
    mesh.settle().await;
    write(&mesh, other, 10..40).await;
    mesh.settle().await;
    let before = raft_id(&mesh, back);
    // What is acknowledged is told once a second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;

    mesh.kill(back).await;
    mesh.set_back(back, &old).await;
    mesh.start(back, false).await;
    votes_again(&mesh, back).await;

    assert_ne!(raft_id(&mesh, back), before);
    write(&mesh, back, 40..50).await;
    mesh.settle().await;
    assert!(mesh.node(back).store.read(&key("r39")).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_does_not_vote_before_it_has_heard_what_it_promised() {
    let mut mesh = Mesh::founded(3).await;
    write(&mesh, 1, 0..5).await;
    mesh.settle().await;
    for number in 1..=3 {
        mesh.kill(number).await;
    }

    mesh.start(1, false).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(mesh.node(1).region.status().term, 0, "its Raft does not run yet");
    assert!(mesh.node(1).store.read(&key("r0")).unwrap().is_some());
    mesh.start(2, false).await;

    mesh.leader().await;
    write(&mesh, 1, 5..10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_what_was_purged_goes_on_from_the_feeds() {
    let mut mesh = Mesh::new(3);
    mesh.limits = Limits { log_bytes: 1, ..Limits::default() };
    let mut mesh = mesh.found().await;
    write(&mesh, 1, 0..10).await;
    mesh.settle().await;
    let away = mesh.follower().await;
    let wiped = (1..=3).find(|&it| it != away && it != away % 3 + 1).unwrap();
    mesh.kill(away).await;
    let leader = mesh.leader().await;
    write(&mesh, leader, 10..1_500).await;
    let purged = || {
        let purged = mesh.running().all(|(_, node)| node.log.purged().is_some());
        purged.then_some(())
    };
    eventually("the logs are purged", purged).await;
    for (number, node) in mesh.running() {
        let origin = node.region.status().origin.unwrap();
        let kept = node.log.last().unwrap().index - node.log.purged().unwrap().index;
        let synced = node.store.cursor(&origin).seq.0.saturating_sub(kept);
        assert!(node.store.synced(&origin) >= Seq(synced), "{number} has purged what it may lose");
    }

    let reached = |mesh: &Mesh| mesh.node(away).region.status().applied;
    mesh.carrier.carry(Carries::Nothing);
    mesh.start(away, false).await;
    let applied = reached(&mesh);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(reached(&mesh), applied, "it does not go on without the data");
    mesh.carrier.carry(Carries::All);
    votes_again(&mesh, away).await;
    mesh.settle().await;
    mesh.kill(wiped).await;
    mesh.wipe(wiped).await;
    mesh.start(wiped, false).await;
    votes_again(&mesh, wiped).await;

    write(&mesh, wiped, 1_500..1_510).await;
    mesh.settle().await;
    mesh.node(away).region.linearize().await.unwrap();
    // With what was told in the log before.
    let stated = || {
        let (statement, _) = mesh.node(away).region.stated()?;
        (statement.feed.seq >= Seq(1_510)).then_some(())
    };
    eventually("it knows how fresh it is", stated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_goes_on_from_one_disk_and_the_others_that_are_left_join_it() {
    let mut mesh = Mesh::founded(3).await;
    write(&mesh, 1, 0..20).await;
    mesh.settle().await;
    let old = version(&mesh.node(1).region.submit(put(100, "a", "x")).await.unwrap());
    mesh.settle().await;
    for number in 1..=3 {
        mesh.kill(number).await;
    }
    mesh.wipe(3).await;

    {
        let free = mesh.copy(1).await;
        drop(free);
        let memory = Memory::new(8 << 20, 8 << 20);
        let store = Store::open(&mesh.disk(1), Options::new(memory.clone())).unwrap();
        let log = RaftLog::open(&mesh.disk(1), Syncer::Thread, &memory).unwrap();
        let held = survey(&store, &log).unwrap();
        assert_eq!(held.voters.len(), 3);
        recover(&store, &log, chartmesh_record::Timestamp(1), 1).unwrap();
    }
    mesh.start(1, false).await;
    mesh.leader().await;
    let new = version(&mesh.node(1).region.submit(put(101, "a", "y")).await.unwrap());
    let again = mesh.node(1).region.submit(put(100, "a", "x")).await.unwrap();
    assert_eq!(version(&again), old, "a request of the old group is remembered");
    assert!(new.starts_with("2-pac.") && new[2..] != old[2..], "{new} follows on {old}");

    mesh.start(2, false).await;
    mesh.start(3, false).await;
    votes_again(&mesh, 2).await;
    votes_again(&mesh, 3).await;
    mesh.kill(1).await;
    write(&mesh, 2, 200..210).await;
    mesh.start(1, false).await;
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_goes_on_from_a_disk_that_was_put_back_from_a_backup() {
    let mut mesh = Mesh::founded(3).await;
    write(&mesh, 1, 0..20).await;
    let old = version(&mesh.node(1).region.submit(put(100, "a", "x")).await.unwrap());
    mesh.settle().await;
    for number in 1..=3 {
        mesh.kill(number).await;
    }
    mesh.wipe(2).await;
    mesh.wipe(3).await;

    {
        drop(mesh.copy(1).await);
        let memory = Memory::new(8 << 20, 8 << 20);
        let store = Store::open(&mesh.disk(1), Options::new(memory.clone())).unwrap();
        begin_as_new(&store).unwrap();
        // What Raft has promised is not part of a backup.
        std::fs::remove_dir_all(mesh.disk(1).join("log")).unwrap();
        let log = RaftLog::open(&mesh.disk(1), Syncer::Thread, &memory).unwrap();
        let held = survey(&store, &log).unwrap();
        assert_eq!((held.region.as_str(), held.voters.len(), held.undecided), ("pac", 0, 0));
        recover(&store, &log, chartmesh_record::Timestamp(1), 1).unwrap();
    }
    mesh.start(1, false).await;
    mesh.leader().await;
    let new = version(&mesh.node(1).region.submit(put(101, "a", "y")).await.unwrap());
    assert!(new.starts_with("2-pac.") && new[2..] != old[2..], "{new} follows on {old}");
    mesh.start(2, false).await;
    mesh.start(3, false).await;
    votes_again(&mesh, 2).await;
    votes_again(&mesh, 3).await;
    write(&mesh, 2, 200..210).await;
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_are_let_in_and_taken_out_while_the_region_decides() {
    let mut mesh = Mesh::founded(3).await;
    write(&mesh, 1, 0..10).await;
    let new = mesh.add_voter();
    for number in 1..=3 {
        mesh.kill(number).await;
        mesh.start(number, false).await;
        mesh.leader().await;
    }
    mesh.start(new, false).await;
    eventually("it asks", || is_joining(&mesh, new).then_some(())).await;

    let leader = mesh.leader().await;
    let name = mesh.name(new).to_string();
    let added = mesh.change(leader, Change::Add(name)).await;
    assert!(matches!(added, Answer::Done(_)), "{added:?}");
    votes_again(&mesh, new).await;
    write(&mesh, new, 10..20).await;

    let leader = mesh.leader().await;
    let out = (1..=3).find(|&number| number != leader).unwrap();
    let name = mesh.name(out).to_string();
    let removed = mesh.change(leader, Change::Remove(name)).await;
    assert!(matches!(removed, Answer::Done(_)), "{removed:?}");
    eventually("it knows", || is_joining(&mesh, out).then_some(())).await;
    write(&mesh, new, 20..30).await;
    let caught_up = || {
        let feeds = mesh.node(out).store.horizon() == mesh.node(new).store.horizon();
        feeds.then_some(())
    };
    eventually("it follows as a mirror does", caught_up).await;
    write(&mesh, out, 30..31).await;

    let leader = mesh.leader_of(new);
    let added = mesh.change(leader, Change::Add(mesh.name(out).to_string())).await;
    assert!(matches!(added, Answer::Done(_)), "{added:?}");
    votes_again(&mesh, out).await;
}
