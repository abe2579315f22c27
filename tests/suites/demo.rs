//! The demo, as whoever tries the project sees it first. Left out by `CHARTMESH_QUICK`.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use chartmesh_tests::cluster;
use tempfile::TempDir;
use tokio::time::Instant;

/// Three regions of three nodes.
const NODES: u16 = 9;

/// How long the tour may take, start and load included, on a machine that does nothing else.
const WITHIN: Duration = Duration::from_secs(120);

/// The first of so many ports that nobody uses now, below those of outgoing connections.
fn quiet_ports(count: u16) -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let quiet = |first: &u16| (*first..first + count).all(free);
    (24_000..32_000).step_by(usize::from(count)).find(quiet).unwrap()
}

#[test]
fn the_tour_of_a_demo_goes_as_it_should_and_tries_nobodys_patience() {
    if env::var_os("CHARTMESH_QUICK").is_some() {
        println!("left out: CHARTMESH_QUICK is set");
        return;
    }
    let dir = TempDir::with_prefix("chartmesh-demo-").unwrap();
    let (dir, port) = (dir.path().to_str().unwrap(), quiet_ports(NODES).to_string());
    let started = Instant::now();

    let told = cluster::run(&["demo", "--tour", "--exit", "--dir", dir, "--port", &port]).unwrap();

    let took = started.elapsed();
    println!("{told}");
    assert!(told.contains("all went as it should"));
    assert!(took < WITHIN, "the tour took {took:?}");
}
