//! This module holds the links of a mesh: one per directed pair of nodes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits;
use crate::link::Link;
use crate::shape::LinkShape;

/// A node as its links see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The region that it belongs to.
    pub region: String,
    /// Where it listens for other nodes.
    pub mesh: SocketAddr,
}

/// No node, or no region, is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}")]
pub struct UnknownName {
    /// `node` or `region`.
    pub what: &'static str,
    /// What was asked for.
    pub name: String,
}

/// All links of a mesh. They end when this is dropped.
#[derive(Debug)]
pub struct Net {
    members: Vec<Member>,
    /// By the places of who dials and of whom.
    links: BTreeMap<(usize, usize), Link>,
}

impl Net {
    /// A link from every node to every other one. Call it within a runtime.
    ///
    /// # Errors
    /// There are not enough ports or open files for them.
    pub fn start(members: Vec<Member>) -> io::Result<Self> {
        allow_many_files()?;
        let mut links = BTreeMap::new();
        for from in 0..members.len() {
            for (to, member) in members.iter().enumerate().filter(|&(to, _)| to != from) {
                links.insert((from, to), Link::start(member.mesh)?);
            }
        }
        Ok(Self { members, links })
    }

    /// The nodes.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The links, with who dials and whom.
    pub fn links(&self) -> impl Iterator<Item = (&Member, &Member, &Link)> {
        self.links.iter().map(|(&(from, to), link)| (&self.members[from], &self.members[to], link))
    }

    /// The link over which one node dials another one.
    #[must_use]
    pub fn link(&self, from: &str, to: &str) -> Option<&Link> {
        self.links.get(&(self.place(from)?, self.place(to)?))
    }

    /// Cuts a node off from all others.
    ///
    /// # Errors
    /// There is no such node.
    pub fn isolate(&self, node: &str) -> Result<(), UnknownName> {
        self.known("node", node, |member| &member.name)?;
        self.change(|from, to, shape| shape.cut |= from.name == node || to.name == node);
        Ok(())
    }

    /// Lets nothing pass between a node and the others any more: connections stay, and are silent.
    ///
    /// # Errors
    /// There is no such node.
    pub fn stall(&self, node: &str) -> Result<(), UnknownName> {
        self.known("node", node, |member| &member.name)?;
        self.change(|from, to, shape| {
            if from.name == node || to.name == node {
                *shape = shape.stalled();
            }
        });
        Ok(())
    }

    /// Lets nothing pass from one node to another one any more, whoever has dialled; what comes the other
    /// way passes.
    ///
    /// # Errors
    /// There is no such node.
    pub fn stall_one_way(&self, sender: &str, receiver: &str) -> Result<(), UnknownName> {
        self.known("node", sender, |member| &member.name)?;
        self.known("node", receiver, |member| &member.name)?;
        self.change(|from, to, shape| {
            shape.forth.stalled |= from.name == sender && to.name == receiver;
            shape.back.stalled |= from.name == receiver && to.name == sender;
        });
        Ok(())
    }

    /// Cuts a region off from the others. Within it nothing changes.
    ///
    /// # Errors
    /// There is no such region.
    pub fn cut_region(&self, region: &str) -> Result<(), UnknownName> {
        self.known("region", region, |member| &member.region)?;
        self.change(|from, to, shape| {
            shape.cut |= (from.region == region) != (to.region == region);
        });
        Ok(())
    }

    /// Ends every cut and stall. Delays and rates stay.
    pub fn heal(&self) {
        self.change(|_, _, shape| *shape = shape.healed());
    }

    /// Gives every link its shape, by who dials and whom.
    pub fn set_all(&self, shape: impl Fn(&Member, &Member) -> LinkShape) {
        self.change(|from, to, old| *old = shape(from, to));
    }

    /// Changes the links, by who dials and whom.
    pub fn change(&self, change: impl Fn(&Member, &Member, &mut LinkShape)) {
        for (from, to, link) in self.links() {
            link.change(|shape| change(from, to, shape));
        }
    }

    /// How many bytes have passed between nodes of different regions, in both directions.
    #[must_use]
    pub fn passed_between_regions(&self) -> u64 {
        let between = self.links().filter(|(from, to, _)| from.region != to.region);
        between.map(|(_, _, link)| link.passed()).map(|passed| passed.forth + passed.back).sum()
    }

    fn place(&self, node: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == node)
    }

    fn known(
        &self,
        what: &'static str,
        name: &str,
        by: impl Fn(&Member) -> &str,
    ) -> Result<(), UnknownName> {
        match self.members.iter().any(|member| by(member) == name) {
            true => Ok(()),
            false => Err(UnknownName { what, name: name.to_owned() }),
        }
    }
}

/// Every connection over a link takes two open files here.
fn allow_many_files() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(limits::OPEN_FILES, |maximum| maximum.min(limits::OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    /// Two nodes in `a`, one in `b`. Nobody listens there.
    fn net() -> Net {
        let member = |name: &str, region: &str| Member {
            name: name.to_owned(),
            region: region.to_owned(),
            mesh: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        };
        Net::start(vec![member("a-1", "a"), member("a-2", "a"), member("b-1", "b")]).unwrap()
    }

    /// The links of which this holds, as `a-1>a-2`.
    fn such(net: &Net, holds: impl Fn(LinkShape) -> bool) -> Vec<String> {
        net.links()
            .filter(|(_, _, link)| holds(link.shape()))
            .map(|(from, to, _)| format!("{}>{}", from.name, to.name))
            .collect()
    }

    #[tokio::test]
    async fn every_directed_pair_has_a_link_and_an_address_of_its_own() {
        let net = net();

        let mut addresses: Vec<_> = net.links().map(|(_, _, link)| link.address()).collect();
        addresses.sort();
        addresses.dedup();

        assert_eq!(addresses.len(), 6);
        assert!(net.link("a-1", "b-1").is_some() && net.link("a-1", "a-1").is_none());
    }

    #[tokio::test]
    async fn a_node_or_a_region_is_cut_off_and_healed_and_delays_stay() {
        let net = net();
        let delayed = LinkShape::delayed(Duration::from_millis(50));
        net.set_all(|from, to| match from.region == to.region {
            true => LinkShape::default(),
            false => delayed,
        });

        net.isolate("a-2").unwrap();
        assert_eq!(such(&net, |shape| shape.cut), ["a-1>a-2", "a-2>a-1", "a-2>b-1", "b-1>a-2"]);
        net.heal();
        net.cut_region("a").unwrap();
        assert_eq!(such(&net, |shape| shape.cut), ["a-1>b-1", "a-2>b-1", "b-1>a-1", "b-1>a-2"]);
        net.heal();

        assert_eq!(such(&net, |shape| shape == delayed).len(), 4);
        assert_eq!(such(&net, |shape| shape == LinkShape::default()).len(), 2);
    }

    #[tokio::test]
    async fn one_way_means_what_one_node_sends_whoever_has_dialled() {
        let net = net();

        net.stall_one_way("a-1", "b-1").unwrap();

        assert_eq!(such(&net, |shape| shape.forth.stalled), ["a-1>b-1"]);
        assert_eq!(such(&net, |shape| shape.back.stalled), ["b-1>a-1"]);
        net.stall("a-2").unwrap();
        assert_eq!(such(&net, |shape| !shape.passes()).len(), 6);
    }

    #[tokio::test]
    async fn names_that_nobody_has_are_refused() {
        let net = net();

        assert_eq!(net.isolate("a").unwrap_err().to_string(), "there is no node \"a\"");
        assert_eq!(net.cut_region("a-1").unwrap_err().to_string(), "there is no region \"a-1\"");
        assert!(net.stall_one_way("a-1", "c-1").is_err());
    }
}
