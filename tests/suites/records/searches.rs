//! Searches over 92,114 real resources, against totals that others have published.

use std::time::Duration;

use chartmesh_tests::cluster::{self, Cluster};
use chartmesh_tests::http::{Ask, Client};
use chartmesh_tests::{witness, workspace};
use serde_json::Value;

use crate::ask;
use crate::us_core::{self, Guide};

const SET: &str = "data/02-bulk-uscore";
const TOTALS: &str = "oracles/search-counts.tsv";
const PATIENCE: Duration = Duration::from_secs(120);
const FORM: &str = "application/x-www-form-urlencoded";
/// A query that is longer goes as a form alone.
const URL_BYTES: usize = 6_000;

/// A search, and how many it must find.
struct Known {
    kind: String,
    query: String,
    total: u64,
}

fn known() -> Option<Vec<Known>> {
    let text = std::fs::read_to_string(workspace::shared(TOTALS)?).unwrap();
    let lines = text.lines().skip(1).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let [kind, query, total] = columns[..] else { panic!("{line}") };
        let query = query.replace('|', "%7C");
        Known { kind: kind.to_owned(), query, total: total.parse().unwrap() }
    });
    Some(lines.collect())
}

/// A page of results.
pub(crate) async fn page(client: &mut Client, asked: Ask) -> Value {
    let answer = ask(client, asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

pub(crate) fn next(page: &Value) -> Option<String> {
    let links = page["link"].as_array()?;
    let url = links.iter().find(|link| link["relation"] == "next")?["url"].as_str()?;
    Some(url[url.find("/fhir/").unwrap()..].to_owned())
}

#[tokio::test]
async fn searches_find_what_is_known_at_every_node_and_page_by_page() {
    let Some((set, known)) = workspace::shared(SET).zip(known()) else { return };
    let guide = workspace::shared(us_core::GUIDE).map(|archive| Guide::read(&archive));
    let cluster = Cluster::start().await.unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&set).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".ndjson.zst"));
    let files: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let to = cluster.url(0);
    cluster::run(&[&["load"][..], &files, &["--to", &to]].concat()).unwrap();
    witness::agree(&mut cluster.clients(), PATIENCE).await.unwrap();

    totals_are_those_that_are_known(&cluster, &known).await;
    if let Some(guide) = guide {
        us_core::load(&cluster, &guide).await;
        us_core::an_index_made_again_is_the_same(&cluster);
        us_core::searches_find_what_the_elements_say(&cluster, &guide, &set).await;
    }
}

async fn totals_are_those_that_are_known(cluster: &Cluster, known: &[Known]) {
    for (number, Known { kind, query, total }) in known.iter().enumerate() {
        for node in 0..cluster.size() {
            let mut client = cluster.client(node).with_patience(PATIENCE);
            let counts = format!("{query}&_summary=count").into_bytes();
            let posted = Ask::post(format!("/fhir/{kind}/_search"), counts);
            let posted = Ask { headers: vec![("content-type", FORM.to_owned())], ..posted };
            assert_eq!(page(&mut client, posted).await["total"], *total, "{kind}?{query}");
            if query.len() < URL_BYTES {
                let got = Ask::get(format!("/fhir/{kind}?{query}&_total=accurate&_count=1"));
                assert_eq!(page(&mut client, got).await["total"], *total, "{kind}?{query}");
            }
        }
        if query.len() >= URL_BYTES {
            continue;
        }
        // Each page is asked of another node.
        let size = 150 + number * 137 % 800;
        let (mut url, mut seen) = (Some(format!("/fhir/{kind}?{query}&_count={size}")), Vec::new());
        let mut turn = number;
        while let Some(path) = url {
            let mut client = cluster.client(turn % cluster.size());
            turn += 1;
            let page = page(&mut client, Ask::get(path)).await;
            let entries = page["entry"].as_array().cloned().unwrap_or_default();
            let ids = entries.iter().map(|it| it["resource"]["id"].as_str().unwrap().to_owned());
            seen.extend(ids);
            url = next(&page);
        }
        let pages = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len() as u64, pages as u64), (*total, *total), "{kind}?{query}");
    }
}
