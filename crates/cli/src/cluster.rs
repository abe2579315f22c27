//! This module describes the processes of a demo: `cluster.json`, which tools and tests read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Where a demo keeps its files, unless told otherwise.
pub(crate) const DEMO_DIR: &str = "demo-data";

const FILE: &str = "cluster.json";

/// The processes of a demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cluster {
    /// The topology file.
    pub(crate) topology: PathBuf,
    /// The directory of the certificates.
    pub(crate) tls: PathBuf,
    /// Where the links between the nodes are cut and slowed.
    #[serde(default)]
    pub(crate) links: Option<String>,
    /// The processes, in the topology's order.
    pub(crate) nodes: Vec<ClusterNode>,
}

/// One process of a demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterNode {
    /// The node that it runs.
    pub(crate) name: String,
    /// Its region.
    pub(crate) region: String,
    /// Its site.
    pub(crate) site: String,
    /// `voter` or `mirror`.
    pub(crate) role: String,
    /// Its FHIR endpoint.
    pub(crate) fhir: String,
    /// Its mesh address.
    pub(crate) mesh: String,
    /// Its process id; 0 while it does not run.
    pub(crate) pid: u32,
    /// The directory of its data.
    pub(crate) data: PathBuf,
    /// What starts it again.
    pub(crate) command: Vec<String>,
}

impl Cluster {
    /// Reads the description from a file, or from the directory that holds it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read {}: start `chartmesh demo`, or name a mesh with --cluster, --topology \
                 or --to",
                file.display()
            )
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not the description of a demo", file.display()))
    }

    /// Replaces the description in `dir`. A reader sees the old one or the new one.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let fresh = dir.join("cluster.json.new");
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, dir.join(FILE)))
            .with_context(|| format!("cannot write {}", dir.join(FILE).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_shape_that_tools_read() {
        let cluster = Cluster {
            topology: "/d/mesh.toml".into(),
            tls: "/d/tls".into(),
            links: Some("http://127.0.0.1:4242".to_owned()),
            nodes: vec![ClusterNode {
                name: "pac-1".to_owned(),
                region: "pac".to_owned(),
                site: "yokota".to_owned(),
                role: "voter".to_owned(),
                fhir: "http://127.0.0.1:8080/fhir".to_owned(),
                mesh: "127.0.0.1:9101".to_owned(),
                pid: 7,
                data: "/d/pac-1".into(),
                command: vec!["chartmesh".to_owned(), "serve".to_owned()],
            }],
        };
        let dir = tempfile::tempdir().unwrap();

        cluster.write(dir.path()).unwrap();

        assert_eq!(Cluster::read(dir.path()).unwrap(), cluster);
        let text = fs::read_to_string(dir.path().join("cluster.json")).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "topology": "/d/mesh.toml",
            "tls": "/d/tls",
            "links": "http://127.0.0.1:4242",
            "nodes": [{
                "name": "pac-1", "region": "pac", "site": "yokota", "role": "voter",
                "fhir": "http://127.0.0.1:8080/fhir", "mesh": "127.0.0.1:9101",
                "pid": 7, "data": "/d/pac-1", "command": ["chartmesh", "serve"],
            }],
        });
        assert_eq!(found, expected);
    }
}
