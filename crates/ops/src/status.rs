//! This module holds the status document: the shape of `GET /status`, which tools read.
//!
//! Instants are FHIR instants by the clock of whoever named them. Ages are seconds, and measured: they
//! are never the difference of two nodes' clocks. What a node says of others is what it knows itself.

use serde::{Deserialize, Serialize};

/// What a node says of itself. Names are kept stable; new ones may be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Its site.
    pub site: String,
    /// Its part in the region.
    pub role: Role,
    /// The version of its software.
    pub version: String,
    /// Where it stands.
    pub state: State,
    /// The node that leads the region, as far as this one knows.
    pub leader: Option<String>,
    /// The Raft term.
    pub term: u64,
    /// How far it holds each feed.
    pub horizon: Vec<Feed>,
    /// The digest of all heads, in hexadecimal: equal at nodes with equal horizons.
    pub digest: String,
    /// How fresh what is held of each region is.
    #[serde(default)]
    pub regions: Vec<RegionAge>,
    /// Nodes that may be writing what has not arrived. An isolated node lists itself.
    pub silent: Vec<Silent>,
    /// All other nodes of the mesh.
    pub peers: Vec<Peer>,
    /// What no node outside is known to hold on a synced disk: of the region's feeds none of another
    /// region, of this node's own journals no other node.
    pub pending: Vec<Pending>,
    /// How many conflicts are open, of all kinds.
    pub conflicts: u64,
    /// Changes that are known but cannot be applied, and with each all that follow in its feed.
    pub held_back: Vec<HeldBack>,
    /// What somebody should look at: `docs/operations.md` says of each code what to do.
    pub alarms: Vec<Alarm>,
    /// What is stored.
    pub store: StoreSize,
}

/// A node's part in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It decides with the others.
    Voter,
    /// It follows feeds only.
    Mirror,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not heard from a quorum yet.
    Starting,
    /// It is part of its region.
    Region,
    /// It is without its region's quorum.
    Isolated,
}

/// How far a feed is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// Whose.
    pub origin: String,
    /// The last change set held; 0 if nothing is, and more is known of.
    pub seq: u64,
    /// The hash of the feed up to there, in hexadecimal.
    pub hash: String,
    /// Up to which instant all is known; only of a region's present feed.
    pub as_of: Option<String>,
    /// How long ago that is, in seconds.
    pub age: Option<f64>,
    /// Whether the feed has ended: a later one of its region or node has begun, or its isolation is
    /// over.
    pub closed: bool,
    /// How many change sets of it some reachable node holds and this one does not.
    #[serde(default)]
    pub behind: u64,
}

/// How fresh what is held of a region is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionAge {
    /// Which region.
    pub region: String,
    /// Up to which instant all that it decided is known; `None` if it was never heard of.
    pub as_of: Option<String>,
    /// How long ago that is, in seconds.
    pub age: Option<f64>,
    /// Its nodes that may be writing what has not arrived.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// A node that may be writing what has not arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silent {
    /// Which.
    pub node: String,
    /// When the last word of it came.
    pub since: String,
    /// How long ago that is, in seconds.
    #[serde(default)]
    pub age: f64,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Which.
    pub node: String,
    /// Whether it has answered lately.
    pub reachable: bool,
    /// How long that took, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// How far its clock is ahead, in milliseconds; `None` if it was not measured.
    pub clock_offset_ms: Option<f64>,
}

/// Changes that no node outside holds yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Of which feed.
    pub origin: String,
    /// How many.
    pub changes: u64,
    /// When the oldest was decided.
    pub oldest: String,
    /// How many disks are known to hold them all, this node's included.
    pub copies: u64,
    /// How many seconds ago the oldest was decided, by this node's clock.
    #[serde(default)]
    pub oldest_age: f64,
}

/// A change that is held but cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Of which feed.
    pub origin: String,
    /// Which.
    pub seq: u64,
    /// Why not.
    pub reason: String,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Which, for machines.
    pub code: String,
    /// What, for people.
    pub text: String,
    /// Since when.
    pub since: String,
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSize {
    /// Resources whose current version is no deletion.
    pub resources: u64,
    /// Versions, deletions included.
    pub versions: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Status {
        let text = str::to_owned;
        let since = || text("2026-11-21T20:00:01.204Z");
        Status {
            node: text("pac-1"),
            region: text("pac"),
            site: text("yokota"),
            role: Role::Voter,
            version: text("0.1.0"),
            state: State::Region,
            leader: Some(text("pac-2")),
            term: 3,
            horizon: vec![Feed {
                origin: text("pac.7h2k4m9qzx"),
                seq: 7,
                hash: text("00ff"),
                as_of: Some(since()),
                age: Some(0.7),
                closed: false,
                behind: 2,
            }],
            digest: text("00"),
            regions: vec![RegionAge {
                region: text("pac"),
                as_of: Some(since()),
                age: Some(0.7),
                silent: vec![text("pac-3")],
            }],
            silent: vec![Silent { node: text("pac-3"), since: since(), age: 6.5 }],
            peers: vec![Peer {
                node: text("pac-2"),
                reachable: true,
                rtt_ms: Some(0.4),
                clock_offset_ms: None,
            }],
            pending: vec![Pending {
                origin: text("pac.7h2k4m9qzx"),
                changes: 1,
                oldest: since(),
                copies: 2,
                oldest_age: 1.5,
            }],
            conflicts: 0,
            held_back: vec![HeldBack {
                origin: text("eur.7h2k4m9qzx"),
                seq: 9,
                reason: text("format 2"),
            }],
            alarms: vec![Alarm { code: text("clock"), text: text("..."), since: since() }],
            store: StoreSize { resources: 1, versions: 2, bytes: 3 },
        }
    }

    #[test]
    fn the_shape_that_tools_read_does_not_change() {
        let json = serde_json::to_string(&sample()).unwrap();

        assert_eq!(
            json,
            concat!(
                r#"{"node":"pac-1","region":"pac","site":"yokota","role":"voter","#,
                r#""version":"0.1.0","state":"region","leader":"pac-2","term":3,"#,
                r#""horizon":[{"origin":"pac.7h2k4m9qzx","seq":7,"hash":"00ff","#,
                r#""as_of":"2026-11-21T20:00:01.204Z","age":0.7,"closed":false,"behind":2}],"#,
                r#""digest":"00","#,
                r#""regions":[{"region":"pac","as_of":"2026-11-21T20:00:01.204Z","age":0.7,"#,
                r#""silent":["pac-3"]}],"#,
                r#""silent":[{"node":"pac-3","since":"2026-11-21T20:00:01.204Z","age":6.5}],"#,
                r#""peers":[{"node":"pac-2","reachable":true,"rtt_ms":0.4,"clock_offset_ms":null}],"#,
                r#""pending":[{"origin":"pac.7h2k4m9qzx","changes":1,"#,
                r#""oldest":"2026-11-21T20:00:01.204Z","copies":2,"oldest_age":1.5}],"conflicts":0,"#,
                r#""held_back":[{"origin":"eur.7h2k4m9qzx","seq":9,"reason":"format 2"}],"#,
                r#""alarms":[{"code":"clock","text":"...","since":"2026-11-21T20:00:01.204Z"}],"#,
                r#""store":{"resources":1,"versions":2,"bytes":3}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), sample());
    }
}
