//! This module is what stands where in a simulation: a region alone, or three of them.

use std::collections::BTreeMap;

use super::{FHIR_PORT, MESH_PORT};
use crate::history::{NodeName, Standing};

/// A node and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub name: &'static str,
    /// Its region.
    pub region: &'static str,
    /// Its site.
    pub site: &'static str,
    /// Whether it only follows.
    pub mirrors: bool,
}

/// All nodes of a simulation, those of a region beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh(&'static [Place]);

/// Nodes that something happens to together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One.
    Node(&'static str),
    /// Those of a site.
    Site(&'static str),
    /// Those of a region.
    Region(&'static str),
}

const fn voter(name: &'static str, region: &'static str, site: &'static str) -> Place {
    Place { name, region, site, mirrors: false }
}

const REGION: &[Place] = &[
    voter("pac-1", "pac", "site-0"),
    voter("pac-2", "pac", "site-1"),
    voter("pac-3", "pac", "site-2"),
];

/// One site has two nodes, and one node only follows.
const THREE_REGIONS: &[Place] = &[
    voter("central-1", "central", "bethesda"),
    voter("central-2", "central", "belvoir"),
    voter("central-3", "central", "bragg"),
    voter("pac-1", "pac", "yokota"),
    voter("pac-2", "pac", "yokota"),
    voter("pac-3", "pac", "okinawa"),
    voter("eur-1", "eur", "landstuhl"),
    voter("eur-2", "eur", "rota"),
    voter("eur-3", "eur", "naples"),
    Place { name: "eur-4", region: "eur", site: "aviano", mirrors: true },
];

impl Mesh {
    /// One region of three nodes.
    pub const REGION: Self = Self(REGION);
    /// Three regions of three voters each, and a node that only follows.
    pub const THREE_REGIONS: Self = Self(THREE_REGIONS);

    /// The names of all nodes.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|place| place.name)
    }

    /// The regions.
    pub fn regions(self) -> Vec<&'static str> {
        let mut regions: Vec<_> = self.0.iter().map(|place| place.region).collect();
        regions.dedup();
        regions
    }

    /// Whether it is one region alone.
    #[must_use]
    pub fn is_region(self) -> bool {
        self.regions().len() == 1
    }

    /// The nodes of a group.
    pub fn members(self, group: Group) -> impl Iterator<Item = &'static str> {
        let is_member = move |place: &&Place| match group {
            Group::Node(node) => place.name == node,
            Group::Site(site) => place.site == site,
            Group::Region(region) => place.region == region,
        };
        self.0.iter().filter(is_member).map(|place| place.name)
    }

    /// All pairs of a node of the group and one outside.
    pub(super) fn border(self, group: Group) -> Vec<(&'static str, &'static str)> {
        let members: Vec<_> = self.members(group).collect();
        let outside: Vec<_> = self.names().filter(|name| !members.contains(name)).collect();
        let pairs =
            members.iter().flat_map(|&member| outside.iter().map(move |&other| (member, other)));
        pairs.collect()
    }

    /// The voter at which a region is founded.
    pub(super) fn founder(self, region: &str) -> &'static str {
        let mut places = self.0.iter();
        places.find(|place| place.region == region && !place.mirrors).expect("it has a voter").name
    }

    /// The voters.
    pub(super) fn voters(self) -> impl Iterator<Item = &'static Place> {
        self.0.iter().filter(|place| !place.mirrors)
    }

    /// The region of a node.
    pub(super) fn region_of(self, node: &str) -> &'static str {
        let mut places = self.0.iter();
        places.find(|place| place.name == node).expect("it is a node of the mesh").region
    }

    /// The text of the file that describes it.
    pub(super) fn topology(self) -> String {
        let mut text = "[mesh]\nname = \"sim\"\n".to_owned();
        for region in self.regions() {
            text += &format!("[[region]]\nname = \"{region}\"\n");
        }
        for Place { name, region, site, mirrors } in self.0 {
            let role = if *mirrors { "mirror" } else { "voter" };
            text += &format!(
                "[[node]]\nname = \"{name}\"\nregion = \"{region}\"\nsite = \"{site}\"\nrole = \"{role}\"\n\
                 mesh = \"{name}:{MESH_PORT}\"\nfhir = \"{name}:{FHIR_PORT}\"\n"
            );
        }
        text
    }

    /// Where each node stands.
    pub(super) fn places(self) -> BTreeMap<NodeName, Standing> {
        let standing = |place: &Place| {
            let (region, site) = (place.region.to_owned(), place.site.to_owned());
            (NodeName(place.name.to_owned()), Standing { region, site })
        };
        self.0.iter().map(standing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_members_and_borders() {
        let mesh = Mesh::THREE_REGIONS;

        assert_eq!(mesh.regions(), ["central", "pac", "eur"]);
        assert_eq!(mesh.members(Group::Site("yokota")).collect::<Vec<_>>(), ["pac-1", "pac-2"]);
        assert_eq!(mesh.border(Group::Region("eur")).len(), 4 * 6);
        assert_eq!(mesh.border(Group::Node("eur-4")).len(), 9);
        assert_eq!(mesh.founder("eur"), "eur-1");
        assert!(Mesh::REGION.is_region() && !mesh.is_region());
    }
}
