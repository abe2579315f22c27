//! This module tests that what must not be taken is refused, counted, and never applied.

use chartmesh_record::{Origin, Seq};
use chartmesh_wire::proto;
use chartmesh_wire::proto::mirror_client::MirrorClient;
use chartmesh_wire::raft::encode_cursor;
use tonic::Code;

use crate::counters::{counts, refused};
use crate::liar::{Liar, Trick};
use crate::mesh::{Mesh, change, eventually, lock, origin};

/// A node of `pac`, a liar of `eur` with this trick, and an honest node that begins once the liar was
/// refused. Returns the mesh when the honest one's feed has arrived.
async fn refuses(liar: &str, trick: Trick, reason: &str) {
    counts();
    let nodes = [("pac-1", "pac", "yokota"), (liar, "eur", "rota"), ("eur-9", "eur", "rota")];
    let mut mesh = Mesh::new(&nodes);
    Liar::join(&mesh, liar, trick, &origin("eur"));
    mesh.start("pac-1").await;

    let counted = || (refused(liar, reason) > 0).then_some(());
    eventually("it is refused and counted", counted).await;
    assert_eq!(mesh.node("pac-1").held(&origin("eur")), Seq(0), "nothing of it was applied");

    mesh.start("eur-9").await;
    mesh.node("eur-9").write(&origin("eur"), 12, 100);
    let held = || (mesh.node("pac-1").held(&origin("eur")) == Seq(12)).then_some(());
    eventually("another peer gives what is right", held).await;
    let (here, there) = (mesh.node("pac-1"), mesh.node("eur-9"));
    assert_eq!(here.store.cursor(&origin("eur")), there.store.cursor(&origin("eur")));
    assert_eq!(refused(liar, reason), 1, "it is not asked again for a while");
}

#[tokio::test]
async fn a_gap_is_refused() {
    refuses("eur-gap", Trick::Gap, "gap").await;
}

#[tokio::test]
async fn a_wrong_hash_is_refused() {
    refuses("eur-hash", Trick::Tampered, "hash").await;
}

#[tokio::test]
async fn a_chunk_longer_than_it_says_is_refused() {
    refuses("eur-longer", Trick::Longer, "unreadable").await;
}

#[tokio::test]
async fn an_unknown_format_holds_its_feed_back_and_is_passed_on() {
    counts();
    let nodes = [("pac-1", "pac", "yokota"), ("pac-2", "pac", "guam"), ("eur-new", "eur", "rota")];
    let mut mesh = Mesh::new(&nodes);
    Liar::join(&mesh, "eur-new", Trick::NewFormat, &origin("eur"));
    mesh.start("pac-1").await;
    let node = mesh.node("pac-1");

    let held_back = || node.mirror.status().held_back.into_iter().next();
    let held_back = eventually("it is held back", held_back).await;

    assert_eq!((held_back.origin, held_back.seq), (origin("eur"), Seq(3)));
    assert_eq!(node.held(&origin("eur")), Seq(2), "what comes before it is held");
    let all = || (node.store.furthest(&origin("eur")).seq == Seq(10)).then_some(());
    eventually("what follows is kept too", all).await;
    mesh.pipes.cut("pac-1", "eur-new");
    mesh.pipes.cut("pac-2", "eur-new");
    mesh.start("pac-2").await;
    let other = mesh.node("pac-2");
    let passed_on = || (other.store.furthest(&origin("eur")).seq == Seq(10)).then_some(());
    eventually("it is passed on", passed_on).await;
    assert_eq!(other.held(&origin("eur")), Seq(2));
    let node = mesh.node("pac-1");
    assert!(node.mirror.status().alarms.iter().any(|alarm| alarm.code == "format"));
    assert_eq!(refused("eur-new", "format"), 1);
}

#[tokio::test]
async fn a_feed_that_nobody_in_the_mesh_could_have_begun_is_refused() {
    counts();
    let mut mesh = Mesh::new(&[("pac-1", "pac", "yokota"), ("eur-alien", "eur", "rota")]);
    let liar = Liar::join(&mesh, "eur-alien", Trick::Honest, &origin("mars"));
    mesh.start("pac-1").await;

    let counted = || (refused("eur-alien", "strange_feed") > 0).then_some(());
    eventually("it is refused and counted", counted).await;
    let exchanges = || liar.exchanges.load(std::sync::atomic::Ordering::Relaxed);
    let before = exchanges();
    eventually("it is heard again", || (exchanges() > before + 2).then_some(())).await;

    assert_eq!(liar.pulls(), 0);
    assert!(mesh.mirror("pac-1").status().feeds.is_empty());
}

#[tokio::test]
async fn strangers_and_callers_without_a_name_are_refused() {
    counts();
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;
    let ask = async |from: Option<&str>| {
        let mut client = MirrorClient::new(mesh.channel_as(from, "pac-1"));
        let exchange = client.exchange(proto::ExchangeRequest::default()).await;
        let requests = tokio_stream::iter([proto::PullRequest::default()]);
        let pull = client.pull(requests).await;
        (exchange.map(|_| ()), pull.map(|_| ()))
    };

    let (exchange, pull) = ask(Some("mars-1")).await;
    assert_eq!(exchange.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(pull.unwrap_err().code(), Code::PermissionDenied);
    let (exchange, pull) = ask(None).await;
    assert_eq!(exchange.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(pull.unwrap_err().code(), Code::Unauthenticated);
    let (exchange, pull) = ask(Some("eur-1")).await;
    assert!(exchange.is_ok() && pull.is_ok());

    assert_eq!(refused("mars-1", "stranger"), 2);
    assert_eq!(refused("unknown", "stranger"), 2);
}

#[tokio::test]
async fn a_peer_has_so_many_pulls_open_and_no_more() {
    counts();
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-many", "eur", "rota")]).await;
    let mut client = MirrorClient::new(mesh.channel_as(Some("eur-many"), "pac-1"));
    let mut open = Vec::new();

    let refusal = loop {
        let (requests, asked) = tokio::sync::mpsc::channel::<proto::PullRequest>(1);
        match client.pull(tokio_stream::wrappers::ReceiverStream::new(asked)).await {
            Ok(answers) => open.push((requests, answers)),
            Err(refusal) => break refusal,
        }
        assert!(open.len() < 500, "there is no limit");
    };

    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert_eq!(refused("eur-many", "calls"), 1);
    open.clear();
    let mut again = async || client.pull(tokio_stream::pending()).await.is_ok();
    let mut begun = false;
    for _ in 0..1_000 {
        begun = again().await;
        if begun {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(begun, "there is room again");
}

#[tokio::test]
async fn a_fork_is_followed_no_more_and_is_an_alarm_that_names_the_peer() {
    for (here, there) in [(2, 5), (5, 2), (4, 4)] {
        let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;
        let forked = origin("eur");
        for (node, count, text) in [("pac-1", here, "one"), ("eur-1", there, "other")] {
            write_texts(&mesh, node, &forked, count, text);
        }

        let alarm = || {
            let alarms = ["pac-1", "eur-1"].map(|node| (node, mesh.mirror(node).status().alarms));
            alarms.into_iter().find_map(|(node, alarms)| {
                alarms.into_iter().find(|it| it.code == "fork").map(|it| (node, it.text))
            })
        };
        let (node, text) = eventually("the fork is an alarm", alarm).await;

        let peer = if node == "pac-1" { "eur-1" } else { "pac-1" };
        assert!(text.contains(forked.as_str()) && text.contains(peer), "{text}");
        mesh.node("eur-1").write(&origin("eur-1"), 3, 100);
        let other = || (mesh.node("pac-1").held(&origin("eur-1")) == Seq(3)).then_some(());
        eventually("other feeds go on", other).await;
        assert_eq!(mesh.node("pac-1").held(&forked), Seq(here));
        assert_eq!(mesh.node("eur-1").held(&forked), Seq(there));
    }
}

/// Writes changes that say this.
fn write_texts(mesh: &Mesh, node: &str, origin: &Origin, count: u64, text: &str) {
    let store = &mesh.node(node).store;
    let extends = store.cursor(origin);
    let changes = (1..=count).map(|seq| change(origin, Seq(seq), text)).collect();
    let runs = vec![chartmesh_store::Run { extends, changes }];
    let apply = chartmesh_store::Apply { runs, ..chartmesh_store::Apply::default() };
    store.apply(apply).unwrap();
}

#[tokio::test]
async fn equal_horizons_with_different_digests_are_an_alarm() {
    let mut mesh = Mesh::new(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]);
    let liar = Liar::join(&mesh, "eur-1", Trick::Honest, &origin("eur"));
    mesh.start("pac-1").await;
    let held = || (mesh.node("pac-1").held(&origin("eur")) == Seq(10)).then_some(());
    eventually("the feed is held", held).await;
    let divergence = || {
        let alarms = mesh.mirror("pac-1").status().alarms;
        alarms.into_iter().find(|alarm| alarm.code == "divergence")
    };
    let client = MirrorClient::new(mesh.channel_as(Some("eur-1"), "pac-1"));
    let place = encode_cursor(&mesh.node("pac-1").store.cursor(&origin("eur")));
    let known = async || {
        let request = proto::ExchangeRequest { wait_ms: 100, ..Default::default() };
        client.clone().exchange(request).await.unwrap().into_inner()
    };
    let answer = loop {
        let answer = known().await;
        let told = answer.report.iter().flat_map(|report| &report.holdings);
        if told.into_iter().any(|holding| holding.feed.as_ref() == Some(&place)) {
            break answer;
        }
    };
    *lock(&liar.summary) = (answer.horizon.clone(), answer.digest.clone());
    assert_eq!(divergence(), None);

    *lock(&liar.summary) = (answer.horizon, vec![7; 32].into());
    let alarm = eventually("it is an alarm", divergence).await;
    assert!(alarm.text.contains("eur-1"));

    lock(&liar.summary).1 = answer.digest;
    let over = || divergence().is_none().then_some(());
    eventually("it is over", over).await;
}
