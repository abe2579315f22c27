//! The official validator cases: what is malformed is refused, what is valid is accepted.

use std::collections::BTreeMap;
use std::fs;

use chartmesh_tests::cluster::Cluster;
use chartmesh_tests::http::Ask;
use chartmesh_tests::{records, workspace};
use serde_json::Value;

use crate::ask;

const CASES: &str = "data/12-validator-cases/r4-cases.tsv";
const FILES: &str = "data/12-validator-cases/fhir-test-cases-validator+r4.tar.zst";

/// The cases of the table that need nothing but the specification: file and kind. What is listed as
/// valid too, for a validator that looks away, is malformed.
fn cases(table: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [kind, file, _, _, _, needs_profile, needs_supporting, ..] = cells[..] else {
            return None;
        };
        let alone = needs_profile == "0" && needs_supporting == "0" && file.ends_with(".json");
        alone.then(|| (file.to_owned(), kind.to_owned()))
    };
    let mut cases: Vec<_> = table.lines().filter_map(row).collect();
    cases.sort_by_key(|(_, kind)| kind != "valid");
    cases.into_iter().collect()
}

#[tokio::test]
async fn malformed_cases_are_refused_and_valid_ones_accepted() {
    let (Some(table), Some(archive)) = (workspace::shared(CASES), workspace::shared(FILES)) else {
        return;
    };
    let files: BTreeMap<_, _> =
        records::documents(&archive, ".json").unwrap().into_iter().collect();
    let cluster = Cluster::start().await.unwrap();
    let mut client = cluster.client(0);
    let mut violations = Vec::new();
    let mut counts = BTreeMap::new();

    for (file, kind) in cases(&fs::read_to_string(table).unwrap()) {
        let bytes = files[&file].clone();
        let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let named = document["resourceType"].as_str().unwrap_or("Patient");
        let known = named.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let resource_type = if known { named } else { "Patient" };
        let answer = ask(&mut client, Ask::post(format!("/fhir/{resource_type}"), bytes)).await;
        let status = answer.status.as_u16();
        let as_expected = match kind.as_str() {
            "syntax" | "structure" => matches!(status, 400 | 404),
            "valid" => status == 201,
            _ => continue,
        };
        *counts.entry(kind.clone()).or_insert(0) += 1;
        if !as_expected {
            violations.push(format!("{kind} {file}: {status} {:.300}", answer.text()));
        } else if status != 201 && answer.json()["resourceType"] != "OperationOutcome" {
            violations.push(format!("{kind} {file}: no OperationOutcome: {:.300}", answer.text()));
        }
    }

    assert!(violations.is_empty(), "{} of them:\n{}", violations.len(), violations.join("\n"));
    // The table names some files several times: 43 refused and 97 valid cases are 126 files.
    let expected = [("structure", 30), ("syntax", 10), ("valid", 86)];
    assert_eq!(counts, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
}
