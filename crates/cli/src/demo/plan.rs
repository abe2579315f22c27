//! This module decides which nodes a demo has, and where they listen.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, bail};
use chartmesh_node::{NodeEntry, Profile, RegionEntry, Role, Topology};

use crate::terminal::WrongUsage;

/// The region of a demo, and the facilities in which its nodes stand.
const REGION: &str = "pac";
const SITES: [&str; 7] = ["yokota", "okinawa", "guam", "misawa", "iwakuni", "osan", "camp-walker"];

/// From here upward the ports are looked for at which nodes listen for each other.
const MESH_PORT: u16 = 9_101;

/// The nodes of a demo.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topology: Topology,
}

impl Plan {
    /// A demo of so many nodes in `dir`. One that was there before keeps its nodes.
    pub(super) fn new(dir: &Path, nodes: usize, port: u16) -> anyhow::Result<Self> {
        if !(1..=SITES.len()).contains(&nodes) {
            let reason =
                format!("--nodes {nodes}: a region of a demo has 1 to {} nodes", SITES.len());
            return Err(WrongUsage(reason).into());
        }
        if let Some(earlier) = super::earlier(dir)?
            && earlier.nodes.len() != nodes
        {
            bail!(
                "{} holds a demo of {} nodes: go on with --nodes {}, choose another --dir, or remove it",
                dir.display(),
                earlier.nodes.len(),
                earlier.nodes.len()
            );
        }
        let mut taken = BTreeSet::new();
        let mut entries = Vec::new();
        for (place, site) in SITES.iter().take(nodes).enumerate() {
            let offset = u16::try_from(place).context("few nodes")?;
            let fhir = port.checked_add(offset).filter(|&port| port > 0);
            let fhir =
                fhir.with_context(|| format!("--port {port} leaves no room for {nodes} nodes"))?;
            if !free(fhir) {
                bail!("port {fhir} is taken, maybe by another demo: choose another --port");
            }
            taken.insert(fhir);
            entries.push((format!("{REGION}-{}", place + 1), *site, fhir));
        }
        let nodes = entries.into_iter().map(|(name, site, fhir)| {
            let mesh = (MESH_PORT..).find(|&port| !taken.contains(&port) && free(port));
            let mesh = mesh.context("no port is free for the nodes to talk to each other")?;
            taken.insert(mesh);
            Ok(NodeEntry {
                name: name.parse()?,
                region: REGION.parse()?,
                site: site.parse()?,
                role: Role::Voter,
                mesh: format!("127.0.0.1:{mesh}").parse()?,
                fhir: format!("127.0.0.1:{fhir}").parse()?,
            })
        });
        let nodes = nodes.collect::<anyhow::Result<_>>()?;
        let regions = vec![RegionEntry { name: REGION.parse()?, profile: Profile::Lan }];
        Ok(Self { topology: Topology { mesh: "demo".parse()?, regions, nodes } })
    }
}

fn free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A stretch of ports that nobody uses now.
    fn quiet_port() -> u16 {
        let port =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        std::iter::repeat_with(port).find(|&port| (port..port + 3).all(free)).unwrap()
    }

    #[test]
    fn fhir_ports_count_up_from_the_first_and_mesh_ports_are_free_ones() {
        let dir = tempfile::tempdir().unwrap();
        let port = quiet_port();

        let plan = Plan::new(dir.path(), 3, port).unwrap();

        let ports: Vec<u16> = plan.topology.nodes.iter().map(|node| node.fhir.port()).collect();
        assert_eq!(ports, [port, port + 1, port + 2]);
        assert!(plan.topology.nodes.iter().all(|node| node.mesh.port() >= MESH_PORT));
        assert_eq!(Topology::parse(&plan.topology.to_string()).unwrap(), plan.topology);
    }

    #[test]
    fn says_what_to_do_where_a_plan_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let port = quiet_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).unwrap();
        let taken = Plan::new(dir.path(), 3, port).unwrap_err().to_string();
        drop(listener);
        let plan = Plan::new(dir.path(), 3, port).unwrap();
        std::fs::write(dir.path().join("mesh.toml"), plan.topology.to_string()).unwrap();

        let other = Plan::new(dir.path(), 2, port).unwrap_err().to_string();

        assert!(
            taken.ends_with("is taken, maybe by another demo: choose another --port"),
            "{taken}"
        );
        assert!(other.contains("holds a demo of 3 nodes: go on with --nodes 3"), "{other}");
        assert!(Plan::new(dir.path(), 0, port).is_err());
    }
}
