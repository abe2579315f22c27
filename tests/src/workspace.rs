//! This module finds the workspace: its root, its crates, its sources, and the records beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::Table;

/// The root of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate stands in the workspace")
}

/// The text of a file of the workspace.
#[must_use]
pub fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A TOML file of the workspace.
#[must_use]
pub fn toml(path: impl AsRef<Path>) -> Table {
    let path = path.as_ref();
    text(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The manifests of the crates that the binary is made of, by their names without `chartmesh-`: those in
/// `crates/`, and the link proxy, which the demo runs.
#[must_use]
pub fn manifests() -> BTreeMap<String, Table> {
    let folders = fs::read_dir(root().join("crates")).expect("the workspace has crates");
    let crates = folders.map(|folder| {
        let path = folder.expect("readable").path();
        let name = path.file_name().expect("named").to_string_lossy().into_owned();
        (name, toml(path.join("Cargo.toml")))
    });
    crates.chain([("link-proxy".to_owned(), toml("tests/proxy/Cargo.toml"))]).collect()
}

/// The Rust files of the workspace, build output aside, relative to its root and in order.
#[must_use]
pub fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("crates"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    files.sort();
    files
}

/// A file of the records that the suites load, or `None`, said aloud, where there are none.
///
/// They are looked for in `CHARTMESH_SHARED`, or in `shared` beside the workspace.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = || root().with_file_name("shared");
    let folder = env::var_os("CHARTMESH_SHARED").map_or_else(beside, PathBuf::from);
    let file = folder.join(path);
    if file.exists() {
        return Some(file);
    }
    println!("left out: {} is not there", file.display());
    None
}
