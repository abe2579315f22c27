//! The shape of the house: which crate may know which, and what every file looks like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chartmesh_tests::workspace;
use toml::{Table, Value};

/// What only these crates may depend on.
const SOLE_KNOWERS: &[(&str, &[&str])] = &[
    ("fhir-sdk", &["structure", "record", "rest"]),
    ("prost", &["wire"]),
    ("octofhir-ucum", &["search"]),
    ("rocksdb", &["store"]),
    ("openraft", &["region"]),
    ("axum", &["rest", "ops", "node"]),
    ("metrics-exporter-prometheus", &["ops"]),
    ("clap", &["cli"]),
];

/// Who may depend on a crate of its own layer: the binary on what it starts, `record` on its leaf.
const BESIDE: &[(&str, &str)] = &[("cli", "node"), ("record", "structure")];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// The longest file, in lines; what a generator writes may be longer.
const LINES_MAX: usize = 1_000;

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// The layers, by crate, as `docs/architecture.md` has them.
fn layers() -> BTreeMap<String, u32> {
    let rows = workspace::text("docs/architecture.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let layer = cells.next()?.parse().ok()?;
        Some((cells.next()?.trim_matches('`').to_owned(), layer))
    };
    rows.lines().filter_map(row).collect()
}

fn dependencies<'t>(
    manifest: &'t Table,
    section: &str,
) -> impl Iterator<Item = (&'t String, &'t Value)> {
    manifest.get(section).and_then(Value::as_table).into_iter().flatten()
}

fn all_dependencies(manifest: &Table) -> impl Iterator<Item = (&String, &Value)> {
    SECTIONS.into_iter().flat_map(|section| dependencies(manifest, section))
}

fn sources() -> impl Iterator<Item = (String, String)> {
    workspace::rust_files().into_iter().map(|path| {
        let text = workspace::text(&path);
        (path.to_string_lossy().into_owned(), text)
    })
}

fn refuse(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn every_crate_has_a_row_in_the_architecture_and_every_row_a_crate() {
    let rows: BTreeSet<String> = layers().into_keys().collect();
    let crates: BTreeSet<String> = workspace::manifests().into_keys().collect();

    assert_eq!(rows, crates);
}

#[test]
fn dependencies_point_downwards_only() {
    let layers = layers();
    let mut violations = Vec::new();

    for (name, manifest) in workspace::manifests() {
        let inner = dependencies(&manifest, "dependencies")
            .chain(dependencies(&manifest, "build-dependencies"))
            .filter_map(|(dependency, _)| dependency.strip_prefix("chartmesh-"));
        for dependency in inner {
            let below = layers.get(dependency) < layers.get(&name);
            if !below && !BESIDE.contains(&(name.as_str(), dependency)) {
                violations.push(format!("{name} depends on {dependency}, which is not below it"));
            }
        }
    }

    refuse(violations);
}

#[test]
fn one_crate_only_knows_each_great_dependency() {
    let manifests = workspace::manifests();
    let mut violations = Vec::new();

    for (dependency, knowers) in SOLE_KNOWERS {
        for (name, manifest) in &manifests {
            // What a crate's tests use is not what the crate knows.
            let knows = dependencies(manifest, "dependencies")
                .chain(dependencies(manifest, "build-dependencies"))
                .any(|(known, _)| known == dependency);
            if knows && !knowers.contains(&name.as_str()) {
                violations.push(format!("{name} depends on {dependency}: only {knowers:?} may"));
            }
        }
        let passed_on = format!("pub use {}", dependency.replace('-', "_"));
        let leaks = sources()
            .filter(|(path, text)| path.starts_with("crates/") && text.contains(&passed_on));
        violations.extend(leaks.map(|(path, _)| format!("{path} passes {dependency} on")));
    }

    refuse(violations);
}

#[test]
fn versions_of_dependencies_stand_in_one_place() {
    let violations = workspace::manifests().into_iter().flat_map(|(name, manifest)| {
        let own_version = |value: &Value| value.get("workspace") != Some(&Value::Boolean(true));
        all_dependencies(&manifest)
            .filter(|(_, value)| own_version(value))
            .map(|(dependency, _)| format!("{name} gives {dependency} a version of its own"))
            .collect::<Vec<_>>()
    });

    refuse(violations);
}

#[test]
fn every_dependency_has_its_reason_in_a_decision_and_a_user() {
    let decisions: String = fs::read_dir(workspace::root().join("docs/decisions"))
        .expect("there are decisions")
        .map(|file| fs::read_to_string(file.expect("readable").path()).expect("text"))
        .collect();
    let words: BTreeSet<&str> = decisions
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split([' ', ',', '`', '(', ')']))
        .collect();
    let mut manifests = workspace::manifests();
    manifests.insert("tests".to_owned(), workspace::toml("tests/Cargo.toml"));
    let used: BTreeSet<&String> =
        manifests.values().flat_map(all_dependencies).map(|(name, _)| name).collect();
    let root = workspace::toml("Cargo.toml");
    let listed = root["workspace"]["dependencies"].as_table().expect("a table");

    let unexplained = used
        .iter()
        .filter(|name| !name.starts_with("chartmesh-") && !words.contains(name.as_str()))
        .map(|name| format!("{name} stands in no decision's table"));
    let unused = listed
        .keys()
        .filter(|name| !used.contains(name) && name.as_str() != "chartmesh-cli")
        .map(|name| format!("{name} is used by no crate"));

    refuse(unexplained.chain(unused));
}

#[test]
fn every_file_says_first_what_it_is() {
    let violations = sources().filter_map(|(path, text)| {
        let stem = Path::new(&path).file_stem()?.to_str()?;
        let is_root = matches!(stem, "lib" | "main" | "build") || !path.contains("/src/");
        let opening = if is_root { "//! " } else { "//! This module " };
        (!text.starts_with(opening)).then(|| format!("{path} does not begin with {opening:?}"))
    });

    refuse(violations);
}

#[test]
fn files_are_short_and_named_for_one_concept() {
    let violations = sources().filter_map(|(path, text)| {
        let generated = path.contains("generated");
        let stem = Path::new(&path).file_stem()?.to_str()?;
        let lines = text.lines().count();
        if path.ends_with("/mod.rs") {
            Some(format!("{path}: a module has the name of its file"))
        } else if EMPTY_NAMES.contains(&stem) {
            Some(format!("{path}: the name says nothing"))
        } else if lines > LINES_MAX && !generated {
            Some(format!("{path} has {lines} lines"))
        } else {
            None
        }
    });

    refuse(violations);
}

#[test]
fn nothing_is_left_for_later_and_no_lint_is_silenced_without_a_reason() {
    let marks = ["TO\u{44}O", "FIX\u{4d}E", "unimplemen\u{74}ed!", "to\u{64}o!", "#[allo\u{77}("];
    let violations = sources().flat_map(|(path, text)| {
        let found: Vec<String> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)))
            .map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim()))
            .collect();
        found
    });

    refuse(violations);
}

#[test]
fn what_a_crate_shows_is_named() {
    let violations = sources().filter(|(path, text)| {
        path.ends_with("/src/lib.rs")
            && text.lines().any(|line| line.starts_with("pub use") && line.contains('*'))
    });

    refuse(violations.map(|(path, _)| format!("{path} shows everything of a module")));
}

/// The codes of all alarms that the sources raise, tests aside.
fn alarm_codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (path, text) in sources().filter(|(path, _)| path.starts_with("crates/")) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let made = code.split("Alarm {").skip(1).filter_map(|rest| literal(rest, "code: "));
        let called = code.split("alarm(").skip(1).filter_map(|rest| literal(rest, ""));
        if path.contains("/src/") {
            codes.extend(made.chain(called));
        }
    }
    codes
}

/// The text between quotes with which something begins, after spaces and this.
fn literal(text: &str, before: &str) -> Option<String> {
    let text = text.trim_start().strip_prefix(before)?.strip_prefix('"')?;
    Some(text.split('"').next()?.to_owned())
}

#[test]
fn every_alarm_has_a_runbook_and_advice_and_each_of_these_an_alarm() {
    let runbooks = workspace::text("docs/operations.md");
    let headings = runbooks.lines().filter_map(|line| line.strip_prefix("### "));
    let headings: BTreeSet<String> = headings.map(str::to_owned).collect();
    let advice = workspace::text("crates/cli/src/status/advice.rs");
    let advice: BTreeSet<String> =
        advice.split("code: ").skip(1).filter_map(|rest| literal(rest, "")).collect();

    let codes = alarm_codes();

    assert!(codes.contains("isolated") && codes.contains("certificate-ends"), "{codes:?}");
    assert_eq!(headings, codes, "docs/operations.md has other headings than there are alarms");
    assert_eq!(advice, codes, "`chartmesh status` has advice on other codes than there are");
}

#[test]
fn every_test_that_a_document_leans_on_is_there() {
    let functions: String = sources().map(|(_, text)| text).collect();
    let mut violations = Vec::new();
    for document in ["docs/consistency.md", "docs/testing.md"] {
        let text = workspace::text(document);
        // Quoted, in lower case, with this many words: a test's name.
        let quoted = text.split('`').skip(1).step_by(2);
        let names = quoted.filter(|name| {
            name.matches('_').count() > 2
                && name.chars().all(|at| matches!(at, 'a'..='z' | '0'..='9' | '_'))
        });
        let missing = names.filter(|name| !functions.contains(&format!("fn {name}(")));
        violations.extend(missing.map(|name| format!("{document}: {name} is no test")));
    }

    refuse(violations);
}
