//! This module decides which nodes a demo has, and where they listen.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, bail};
use chartmesh_link_proxy::{Member, Net};
use chartmesh_node::{NodeEntry, Profile, RegionEntry, Role, Topology};
use chartmesh_record::Zone;

use crate::terminal::WrongUsage;

/// The regions of a demo, and the facilities in which their nodes stand.
const REGIONS: [(&str, [&str; 9]); 9] = [
    (
        "central",
        [
            "walter-reed",
            "belvoir",
            "portsmouth",
            "andrews",
            "meade",
            "quantico",
            "langley",
            "annapolis",
            "detrick",
        ],
    ),
    (
        "pac",
        [
            "yokota",
            "okinawa",
            "guam",
            "misawa",
            "iwakuni",
            "osan",
            "camp-walker",
            "sasebo",
            "yokosuka",
        ],
    ),
    (
        "eur",
        [
            "landstuhl",
            "naples",
            "rota",
            "vicenza",
            "sigonella",
            "lakenheath",
            "vilseck",
            "wiesbaden",
            "aviano",
        ],
    ),
    (
        "west",
        [
            "san-diego",
            "pendleton",
            "madigan",
            "travis",
            "bremerton",
            "nellis",
            "lemoore",
            "fairchild",
            "irwin",
        ],
    ),
    (
        "south",
        [
            "san-antonio",
            "cavazos",
            "bliss",
            "keesler",
            "pensacola",
            "eglin",
            "jacksonville",
            "tinker",
            "sill",
        ],
    ),
    (
        "north",
        [
            "great-lakes",
            "wright-patterson",
            "scott",
            "riley",
            "leavenworth",
            "offutt",
            "ellsworth",
            "minot",
            "drum",
        ],
    ),
    (
        "east",
        [
            "bragg",
            "lejeune",
            "cherry-point",
            "gordon",
            "beaufort",
            "stewart",
            "charleston",
            "shaw",
            "benning",
        ],
    ),
    (
        "arctic",
        [
            "elmendorf",
            "wainwright",
            "eielson",
            "kodiak",
            "greely",
            "clear",
            "pituffik",
            "keflavik",
            "sitka",
        ],
    ),
    (
        "gulf",
        [
            "al-udeid",
            "bahrain",
            "arifjan",
            "ali-al-salem",
            "al-dhafra",
            "incirlik",
            "prince-sultan",
            "muwaffaq-salti",
            "lemonnier",
        ],
    ),
];

/// From here upward the ports are looked for at which nodes listen for each other.
const MESH_PORT: u16 = 9_101;

/// How many regions a demo has, and how many nodes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) regions: usize,
    pub(super) nodes: usize,
}

/// The nodes of a demo.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topology: Topology,
}

impl Plan {
    /// A demo of this size in `dir`. One that was there before keeps its nodes.
    pub(super) fn new(dir: &Path, size: Size, port: u16) -> anyhow::Result<Self> {
        size.check()?;
        if let Some(earlier) = super::earlier(dir)? {
            size.expect_as(&earlier, dir)?;
        }
        let mut taken = BTreeSet::new();
        let mut places = Vec::new();
        for (region, sites) in REGIONS.iter().take(size.regions) {
            for (number, site) in (1..).zip(sites.iter().take(size.nodes)) {
                let fhir = fhir_port(port, places.len())?;
                taken.insert(fhir);
                places.push((format!("{region}-{number}"), *region, *site, fhir));
            }
        }
        let nodes = places.into_iter().map(|(name, region, site, fhir)| {
            let mesh = (MESH_PORT..).find(|&port| !taken.contains(&port) && free(port));
            let mesh = mesh.context("no port is free for the nodes to talk to each other")?;
            taken.insert(mesh);
            Ok(NodeEntry {
                name: name.parse()?,
                region: region.parse()?,
                site: site.parse()?,
                role: Role::Voter,
                mesh: format!("127.0.0.1:{mesh}").parse()?,
                fhir: format!("127.0.0.1:{fhir}").parse()?,
            })
        });
        let nodes = nodes.collect::<anyhow::Result<_>>()?;
        let region = |(name, _): &(&str, _)| -> anyhow::Result<RegionEntry> {
            Ok(RegionEntry { name: name.parse()?, profile: Profile::Lan })
        };
        let regions = REGIONS.iter().take(size.regions).map(region).collect::<Result<_, _>>()?;
        let search_zone = Zone::default();
        Ok(Self { topology: Topology { mesh: "demo".parse()?, search_zone, regions, nodes } })
    }

    /// The nodes as their links see them.
    pub(super) fn members(&self) -> anyhow::Result<Vec<Member>> {
        let member = |node: &NodeEntry| -> anyhow::Result<Member> {
            let (name, region) = (node.name.to_string(), node.region.to_string());
            Ok(Member { name, region, mesh: node.mesh.as_str().parse()? })
        };
        self.topology.nodes.iter().map(member).collect()
    }

    /// The topology as one of the nodes sees it: it reaches each of the others over a link.
    pub(super) fn seen_by(&self, node: &NodeEntry, net: &Net) -> anyhow::Result<Topology> {
        let mut topology = self.topology.clone();
        for other in topology.nodes.iter_mut().filter(|other| other.name != node.name) {
            let link = net.link(node.name.as_str(), other.name.as_str());
            let link = link.with_context(|| format!("no link to {}", other.name))?;
            other.mesh = link.address().to_string().parse()?;
        }
        Ok(topology)
    }
}

impl Size {
    fn check(self) -> Result<(), WrongUsage> {
        let most = REGIONS.len();
        if !(1..=most).contains(&self.regions) {
            let reason = format!("--regions {}: a demo has 1 to {most} regions", self.regions);
            return Err(WrongUsage(reason));
        }
        let most = REGIONS[0].1.len();
        if !(1..=most).contains(&self.nodes) {
            let reason =
                format!("--nodes {}: a region of a demo has 1 to {most} nodes", self.nodes);
            return Err(WrongUsage(reason));
        }
        Ok(())
    }

    /// A demo that goes on has the nodes that it had.
    fn expect_as(self, earlier: &Topology, dir: &Path) -> anyhow::Result<()> {
        let regions = earlier.regions.len();
        let nodes = earlier.nodes.len() / regions.max(1);
        let known = earlier
            .regions
            .iter()
            .zip(REGIONS)
            .all(|(region, (name, _))| region.name.as_str() == name);
        if known && (regions, nodes) == (self.regions, self.nodes) {
            return Ok(());
        }
        let dir = dir.display();
        if !known {
            bail!("{dir} holds a demo of other regions: choose another --dir, or remove it");
        }
        bail!(
            "{dir} holds a demo of {regions} x {nodes} nodes: go on with --regions {regions} --nodes \
             {nodes}, choose another --dir, or remove it"
        );
    }
}

/// The port of the FHIR endpoint of the node at this place.
fn fhir_port(first: u16, place: usize) -> anyhow::Result<u16> {
    let offset = u16::try_from(place).context("few nodes")?;
    let port = first.checked_add(offset).filter(|&port| port > 0);
    let port = port.with_context(|| format!("--port {first} leaves no room for all nodes"))?;
    if !free(port) {
        bail!("port {port} is taken, maybe by another demo: choose another --port");
    }
    Ok(port)
}

fn free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Size = Size { regions: 1, nodes: 3 };

    /// A stretch of ports that nobody uses now.
    fn quiet_port(length: u16) -> u16 {
        let port =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let quiet = |&port: &u16| port < u16::MAX - length && (port..port + length).all(free);
        std::iter::repeat_with(port).find(quiet).unwrap()
    }

    #[test]
    fn fhir_ports_count_up_from_the_first_and_mesh_ports_are_free_ones() {
        let dir = tempfile::tempdir().unwrap();
        let port = quiet_port(6);

        let plan = Plan::new(dir.path(), Size { regions: 2, nodes: 3 }, port).unwrap();

        let nodes = &plan.topology.nodes;
        let ports: Vec<u16> = nodes.iter().map(|node| node.fhir.port()).collect();
        assert_eq!(ports, (port..port + 6).collect::<Vec<_>>());
        assert!(nodes.iter().all(|node| node.mesh.port() >= MESH_PORT));
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["central-1", "central-2", "central-3", "pac-1", "pac-2", "pac-3"]);
        assert_eq!(Topology::parse(&plan.topology.to_string()).unwrap(), plan.topology);
    }

    #[test]
    fn the_largest_demo_has_a_name_and_a_site_for_every_node() {
        let dir = tempfile::tempdir().unwrap();

        let plan = Plan::new(dir.path(), Size { regions: 9, nodes: 9 }, quiet_port(81)).unwrap();

        // Regions, sites and nodes share one namespace, and a topology that breaks it is refused.
        assert_eq!(Topology::parse(&plan.topology.to_string()).unwrap(), plan.topology);
        let sites: BTreeSet<_> = plan.topology.nodes.iter().map(|node| &node.site).collect();
        assert_eq!(sites.len(), 81);
    }

    #[tokio::test]
    async fn a_node_reaches_others_over_links_and_listens_where_the_mesh_says() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(dir.path(), THREE, quiet_port(3)).unwrap();
        let net = Net::start(plan.members().unwrap()).unwrap();
        let real = &plan.topology.nodes;

        let seen = plan.seen_by(&real[1], &net).unwrap();

        assert_eq!(seen.nodes[1], real[1]);
        for other in [0, 2] {
            let (from, to) = (real[1].name.as_str(), real[other].name.as_str());
            let link = net.link(from, to).unwrap().address().to_string();
            assert_eq!(seen.nodes[other].mesh.as_str(), link);
            assert_eq!(seen.nodes[other].fhir, real[other].fhir);
        }
        assert_eq!(Topology::parse(&seen.to_string()).unwrap(), seen);
    }

    #[test]
    fn says_what_to_do_where_a_plan_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let port = quiet_port(3);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).unwrap();
        let taken = Plan::new(dir.path(), THREE, port).unwrap_err().to_string();
        drop(listener);
        let plan = Plan::new(dir.path(), THREE, port).unwrap();
        std::fs::write(dir.path().join("mesh.toml"), plan.topology.to_string()).unwrap();

        let fewer = Size { regions: 1, nodes: 2 };
        let other = Plan::new(dir.path(), fewer, port).unwrap_err().to_string();

        assert!(
            taken.ends_with("is taken, maybe by another demo: choose another --port"),
            "{taken}"
        );
        assert!(
            other.contains("holds a demo of 1 x 3 nodes: go on with --regions 1 --nodes 3"),
            "{other}"
        );
        for (regions, nodes) in [(0, 1), (1, 0), (10, 1), (1, 10)] {
            assert!(Plan::new(dir.path(), Size { regions, nodes }, port).is_err());
        }
    }
}
