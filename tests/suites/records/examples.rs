//! The official examples of FHIR R4, written and read back to the letter.

use chartmesh_tests::cluster::Cluster;
use chartmesh_tests::http::Ask;
use chartmesh_tests::{records, workspace};

use crate::{ask, parse};

const SET: &str = "data/10-r4-examples/r4-examples-instances.tar.zst";
/// It lacks a required linkId.
const INVALID: &str = "Questionnaire-qs1.json";

#[tokio::test]
async fn every_official_example_is_read_back_to_the_letter() {
    let Some(archive) = workspace::shared(SET) else { return };
    let examples = records::documents(&archive, ".json").unwrap();
    let cluster = Cluster::start().await.unwrap();
    let (mut writer, mut reader) = (cluster.client(0), cluster.client(0));
    let mut violations = Vec::new();
    let mut written = 0;

    for (name, bytes) in examples {
        let sent = parse(&bytes);
        let kind = sent.text("resourceType").expect("a type").to_owned();
        let write = match sent.text("id") {
            Some(id) => Ask::put(format!("/fhir/{kind}/{id}"), bytes),
            None => Ask::post(format!("/fhir/{kind}"), bytes),
        };
        let answer = ask(&mut writer, write).await;
        if name.ends_with(INVALID) {
            assert_eq!(answer.status, 400, "{name} lacks a required element");
            continue;
        }
        if answer.status != 201 {
            violations.push(format!("{name}: {} {}", answer.status, answer.text()));
            continue;
        }
        written += 1;
        let location = answer.header("location").to_owned();
        let path = location[location.find("/fhir/").expect("the base")..].to_owned();
        let read = ask(&mut reader, Ask::get(path)).await;
        let difference = sent.as_sent().difference(&parse(&read.body).as_sent());
        violations.extend(difference.map(|difference| format!("{name} {difference}")));
    }

    assert!(violations.is_empty(), "{} of them:\n{}", violations.len(), violations.join("\n"));
    assert_eq!(written, 750);
}
