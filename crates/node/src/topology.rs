//! This module describes the mesh: its regions and nodes, from one file that is the same everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use chartmesh_record::{Name, NodeName, RegionName, SiteName, Zone};
use chartmesh_region::Profile;

use crate::keys::{ConfigError, Entry, Problem, ReadError, Table, Text};

/// All regions and nodes of the mesh. Every region has a voter, every address and name is unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// What the mesh is called.
    pub mesh: Name,
    /// `[search] zone`: where dates are read that have no zone.
    pub search_zone: Zone,
    /// Its regions, in the file's order.
    pub regions: Vec<RegionEntry>,
    /// Its nodes, in the file's order.
    pub nodes: Vec<NodeEntry>,
}

/// A region of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionEntry {
    /// Its name.
    pub name: RegionName,
    /// How far apart its voters are.
    pub profile: Profile,
}

/// A node of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its name, which its certificate carries.
    pub name: NodeName,
    /// Its region.
    pub region: RegionName,
    /// The facility it stands in.
    pub site: SiteName,
    /// What it does in its region.
    pub role: Role,
    /// Where it serves other nodes.
    pub mesh: Address,
    /// Where it serves FHIR clients.
    pub fhir: Address,
}

/// What a node does in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes part in the agreement on the region's order.
    Voter,
    /// It only follows feeds.
    Mirror,
}

/// A host and a port, such as `10.1.2.3:9101` or `[::1]:9101`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

/// The text is not a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host and a port, such as 10.1.2.3:9101 or pac-1.example.mil:9101")]
pub struct InvalidAddress {
    /// What was given.
    pub text: String,
}

/// Names of files that stand beside the nodes' certificates: no node may be called so.
const RESERVED: [&str; 2] = ["ca", "operator"];

const PROFILES: &[(&str, Profile)] = &[
    ("lan", Profile::Lan),
    ("wan50", Profile::Wan50),
    ("wan100", Profile::Wan100),
    ("wan200", Profile::Wan200),
];

const ROLES: &[(&str, Role)] = &[("voter", Role::Voter), ("mirror", Role::Mirror)];

impl Topology {
    /// Reads a topology file.
    ///
    /// # Errors
    /// The file cannot be read, or what it says does not hold together.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        ReadError::read(path, Self::parse)
    }

    /// Understands the text of a topology file.
    ///
    /// # Errors
    /// What it says does not hold together; the error names the line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut file = Text::table(text)?;
        let mut mesh = file.table("mesh")?;
        let name = mesh.required("name")?.parse()?;
        mesh.finish()?;
        let mut search_zone = Zone::default();
        let mut search = file.table("search")?;
        search.set("zone", &mut search_zone, Entry::parse)?;
        search.finish()?;
        let mut rules = Rules::default();
        let regions = file.tables("region")?;
        let regions =
            regions.into_iter().map(|table| rules.region(table)).collect::<Result<_, _>>();
        let nodes = file.tables("node")?;
        let nodes = nodes.into_iter().map(|table| rules.node(table)).collect::<Result<_, _>>();
        file.finish()?;
        let topology = Self { mesh: name, search_zone, regions: regions?, nodes: nodes? };
        rules.every_region_has_a_voter(&topology)?;
        Ok(topology)
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The region of this name.
    #[must_use]
    pub fn region(&self, name: &RegionName) -> Option<&RegionEntry> {
        self.regions.iter().find(|region| region.name == *name)
    }

    /// The nodes that agree on the order of this region.
    pub fn voters(&self, region: &RegionName) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter().filter(move |node| node.region == *region && node.role == Role::Voter)
    }
}

/// What only the whole file can show, with the line of each first use.
#[derive(Default)]
struct Rules {
    regions: BTreeMap<RegionName, usize>,
    names: BTreeMap<Name, (&'static str, usize)>,
    addresses: BTreeMap<Address, (String, usize)>,
}

impl Rules {
    fn region(&mut self, mut table: Table<'_>) -> Result<RegionEntry, ConfigError> {
        let line = table.line();
        let name: Name = self.new_name("region", table.required("name")?)?;
        let profile =
            table.optional("profile").map_or(Ok(Profile::Lan), |entry| entry.word(PROFILES))?;
        table.finish()?;
        let name = RegionName(name);
        self.regions.insert(name.clone(), line);
        Ok(RegionEntry { name, profile })
    }

    fn node(&mut self, mut table: Table<'_>) -> Result<NodeEntry, ConfigError> {
        let name = table.required("name")?;
        let line = name.line();
        let name = self.new_name("node", name)?;
        let region = table.required("region")?;
        let region_line = region.line();
        let region: RegionName = region.parse()?;
        if !self.regions.contains_key(&region) {
            return contradiction(region_line, format!("there is no [[region]] named {region}"));
        }
        let site = self.site(table.required("site")?)?;
        let role = table.optional("role").map_or(Ok(Role::Voter), |entry| entry.word(ROLES))?;
        let mesh = self.new_address(&name, "mesh", table.required("mesh")?)?;
        let fhir = self.new_address(&name, "fhir", table.required("fhir")?)?;
        table.finish()?;
        if RESERVED.contains(&name.as_str()) || name.as_str().ends_with('-') {
            let reason = "`ca` and `operator` are certificates of their own, and a name in a \
                          certificate does not end with a hyphen";
            return contradiction(line, format!("a node cannot be named {name}: {reason}"));
        }
        Ok(NodeEntry { name: NodeName(name), region, site, role, mesh, fhir })
    }

    fn new_name(&mut self, what: &'static str, entry: Entry<'_>) -> Result<Name, ConfigError> {
        let line = entry.line();
        let name: Name = entry.parse()?;
        match self.names.insert(name.clone(), (what, line)) {
            None => Ok(name),
            Some((other, first)) => taken(line, &name, other, first),
        }
    }

    /// Several nodes stand in one site, so that its name may come again.
    fn site(&mut self, entry: Entry<'_>) -> Result<SiteName, ConfigError> {
        let line = entry.line();
        let name: Name = entry.parse()?;
        match self.names.get(&name) {
            Some(&(other, first)) if other != "site" => taken(line, &name, other, first),
            Some(_) => Ok(SiteName(name)),
            None => {
                self.names.insert(name.clone(), ("site", line));
                Ok(SiteName(name))
            }
        }
    }

    fn new_address(
        &mut self,
        node: &Name,
        port: &str,
        entry: Entry<'_>,
    ) -> Result<Address, ConfigError> {
        let line = entry.line();
        let address: Address = entry.parse()?;
        let user = format!("`{port}` of node {node}");
        match self.addresses.insert(address.clone(), (user, line)) {
            None => Ok(address),
            Some((other, first)) => contradiction(
                line,
                format!("the address {address} is taken by {other} on line {first}"),
            ),
        }
    }

    fn every_region_has_a_voter(&self, topology: &Topology) -> Result<(), ConfigError> {
        if topology.regions.is_empty() {
            return contradiction(1, "the mesh has no [[region]]".to_owned());
        }
        let empty =
            topology.regions.iter().find(|region| topology.voters(&region.name).count() == 0);
        empty.map_or(Ok(()), |region| {
            let reason =
                format!("the region {} has no [[node]] with role = \"voter\"", region.name);
            contradiction(self.regions[&region.name], reason)
        })
    }
}

fn taken<T>(line: usize, name: &Name, other: &str, first: usize) -> Result<T, ConfigError> {
    let reason = "regions, sites and nodes share one namespace";
    contradiction(
        line,
        format!("the name {name} is taken by the {other} on line {first}: {reason}"),
    )
}

fn contradiction<T>(line: usize, reason: String) -> Result<T, ConfigError> {
    Err(ConfigError { line, problem: Problem::Contradiction(reason) })
}

/// A topology is shown as the file that says it.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[mesh]\nname = \"{}\"", self.mesh)?;
        if self.search_zone != Zone::default() {
            writeln!(f, "\n[search]\nzone = \"{}\"", self.search_zone)?;
        }
        for region in &self.regions {
            writeln!(f, "\n[[region]]\nname = \"{}\"", region.name)?;
            writeln!(f, "profile = \"{}\"", word(PROFILES, region.profile))?;
        }
        for node in &self.nodes {
            writeln!(f, "\n[[node]]\nname = \"{}\"", node.name)?;
            writeln!(f, "region = \"{}\"\nsite = \"{}\"", node.region, node.site)?;
            writeln!(f, "role = \"{}\"", node.role)?;
            writeln!(f, "mesh = \"{}\"\nfhir = \"{}\"", node.mesh, node.fhir)?;
        }
        Ok(())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(word(ROLES, *self))
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, meaning)| *meaning == value);
    found.map_or("", |(word, _)| word)
}

impl Address {
    /// The host: a name or an IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let (host, _) = self.0.rsplit_once(':').expect("parsed with a port");
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let (_, port) = self.0.rsplit_once(':').expect("parsed with a port");
        port.parse().expect("parsed with a valid port")
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_holds = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                !host.is_empty() && host.bytes().all(letter)
            }
        };
        let port_holds = port.parse::<u16>().is_ok_and(|port| port > 0);
        if host_holds && port_holds { Ok(Self(text.to_ascii_lowercase())) } else { Err(invalid()) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: &str = r#"
[mesh]
name = "demo"

[[region]]
name = "pac"
profile = "wan50"

[[node]]
name = "pac-1"
region = "pac"
site = "yokota"
role = "voter"
mesh = "127.0.0.1:9101"
fhir = "127.0.0.1:8081"

[[node]]
name = "pac-2"
region = "pac"
site = "yokota"
role = "mirror"
mesh = "[::1]:9102"
fhir = "pac-2.example.mil:8082"
"#;

    #[test]
    fn what_a_file_says_is_what_the_topology_shows() {
        let topology = Topology::parse(MESH).unwrap();

        let shown = topology.to_string();

        assert_eq!(shown.trim(), MESH.trim());
        assert_eq!(Topology::parse(&shown), Ok(topology));
    }

    #[test]
    fn dates_without_a_zone_are_read_in_the_zone_of_the_mesh() {
        let search = "name = \"demo\"\n\n[search]\nzone = \"+09:00\"\n";
        let text = MESH.replace("name = \"demo\"\n", search);

        let topology = Topology::parse(&text).unwrap();

        assert_eq!(topology.search_zone, Zone { seconds: 32_400 });
        assert_eq!(topology.to_string().trim(), text.trim());
        let refused = Topology::parse(&text.replace("+09:00", "Asia/Tokyo")).unwrap_err();
        assert!(refused.to_string().contains("+09:00"), "{refused}");
    }

    #[test]
    fn profile_and_role_may_be_left_out() {
        let text = MESH.replace("profile = \"wan50\"\n", "").replace("role = \"voter\"\n", "");

        let topology = Topology::parse(&text).unwrap();

        assert_eq!(topology.regions[0].profile, Profile::Lan);
        assert_eq!(topology.nodes[0].role, Role::Voter);
        assert_eq!(topology.voters(&topology.regions[0].name).count(), 1);
    }

    #[test]
    fn an_address_is_cut_into_host_and_port() {
        for (text, host, port) in [
            ("127.0.0.1:9101", "127.0.0.1", 9101),
            ("[::1]:1", "::1", 1),
            ("Pac-1.mil:80", "pac-1.mil", 80),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
        }
        for bad in
            ["", "host", "host:", ":80", "host:0", "host:65536", "::1:80", "[x]:80", "a b:80"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_refusal_names_the_line_and_what_to_write_instead() {
        let refused = |find: &str, put: &str| {
            assert!(MESH.contains(find), "{find:?} is in the file");
            Topology::parse(&MESH.replacen(find, put, 1)).unwrap_err().to_string()
        };
        let found = [
            refused("[mesh]", "[mesh"),
            refused("[[region]]", "[[regions]]"),
            refused("role = \"voter\"", "rol = \"voter\""),
            refused("name = \"demo\"", "nam = \"demo\""),
            refused("site = \"yokota\"\nrole = \"voter\"", "role = \"voter\""),
            refused("\"wan50\"", "\"wan500\""),
            refused("\"wan50\"", "50"),
            refused("\"voter\"", "\"leader\""),
            refused("\"voter\"", "\"mirror\""),
            refused("name = \"pac-2\"", "name = \"pac-1\""),
            refused("site = \"yokota\"", "site = \"pac\""),
            refused("name = \"pac-2\"", "name = \"yokota\""),
            refused("region = \"pac\"", "region = \"eur\""),
            refused("127.0.0.1:8081", "127.0.0.1:9101"),
            refused("127.0.0.1:8081", "127.0.0.1"),
            refused("\"pac-1\"", "\"PAC 1\""),
            refused("\"pac-1\"", "\"operator\""),
            refused("\"pac-1\"", "\"pac-\""),
            Topology::parse("[mesh]\nname = \"demo\"\n").unwrap_err().to_string(),
            Topology::parse("region = 3\n[mesh]\nname = \"demo\"\n").unwrap_err().to_string(),
        ];
        insta::assert_snapshot!(found.join("\n"));
    }
}
