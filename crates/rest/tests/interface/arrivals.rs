//! Histories of a type and of everything, and what of them was there when.

use serde_json::Value;

use crate::client::Reply;
use crate::node::{Node, wall};

async fn filled() -> Node {
    let node = Node::start().await;
    for (path, body) in [
        ("Patient/p1", r#"{"resourceType":"Patient","id":"p1","active":true}"#),
        ("Basic/b1", r#"{"resourceType":"Basic","id":"b1","code":{"text":"x"}}"#),
        ("Patient/p1", r#"{"resourceType":"Patient","id":"p1","active":false}"#),
        ("Patient/p2", r#"{"resourceType":"Patient","id":"p2"}"#),
    ] {
        node.put(path, body, &[]).await;
    }
    node.delete("Patient/p2").await;
    node
}

/// What the entries of a history are about.
fn entries(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let entries = reply.json()["entry"].as_array().cloned().unwrap_or_default();
    let shown = entries.iter().map(|entry| {
        let (request, response) = (&entry["request"], &entry["response"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        format!(
            "{} {} {}",
            text(&request["method"]),
            text(&request["url"]),
            &text(&response["status"])[..3]
        )
    });
    shown.collect()
}

fn link(reply: &Reply, relation: &str) -> Option<String> {
    let bundle = reply.json();
    let link =
        bundle["link"].as_array().unwrap().iter().find(|it| it["relation"] == relation)?.clone();
    Some(link["url"].as_str().unwrap().strip_prefix("http://a:1/fhir/").unwrap().to_owned())
}

const ALL: [&str; 5] = [
    "DELETE Patient/p2 204",
    "PUT Patient/p2 201",
    "PUT Patient/p1 200",
    "PUT Basic/b1 201",
    "PUT Patient/p1 201",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_type_or_of_everything_shows_what_arrived_the_newest_first() {
    let node = filled().await;

    let all = node.get("_history").await;
    assert_eq!(entries(&all), ALL);
    assert_eq!(all.json()["total"], 5);
    assert_eq!(all.json()["type"], "history");
    let patients: Vec<_> = ALL.into_iter().filter(|it| it.contains("Patient")).collect();
    assert_eq!(entries(&node.get("Patient/_history").await), patients);
    assert_eq!(entries(&node.get("Observation/_history").await), [""; 0]);

    for (url, expected) in [("_history", &ALL[..]), ("Patient/_history", &patients)] {
        let (mut seen, mut next) = (Vec::new(), Some(format!("{url}?_count=2")));
        while let Some(page) = next {
            let reply = node.get(&page).await;
            seen.extend(entries(&reply));
            assert_eq!(entries(&node.get(&link(&reply, "self").unwrap()).await), entries(&reply));
            next = link(&reply, "next");
            node.put("Basic/b2", r#"{"resourceType":"Basic","id":"b2","code":{"text":"y"}}"#, &[])
                .await;
        }
        assert_eq!(seen, expected, "{url}: what arrives meanwhile is newer than what follows");
        node.delete("Basic/b2").await;
        break_off(&node).await;
    }
}

/// A page that is not this node's is refused, and so is one that is none.
async fn break_off(node: &Node) {
    let foreign = node.get("_history?page=eur-1~5~6~7.1").await;
    assert_eq!(foreign.status, 410, "{}", foreign.text);
    assert!(foreign.text.contains("_since"), "{}", foreign.text);
    assert_eq!(node.get("_history?page=x").await.status, 400);
    assert_eq!(node.get("_history?_since=x").await.status, 400);
    assert_eq!(node.get("_history?_sort=x").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_polls_with_the_time_that_each_answer_names_misses_nothing_and_sees_nothing_twice() {
    let node = filled().await;
    let named = |reply: &Reply| reply.json()["meta"]["lastUpdated"].as_str().unwrap().to_owned();
    let mut since = named(&node.get("_history").await);
    for round in 0..5 {
        let quiet = node.get(&format!("_history?_since={since}")).await;
        assert_eq!(entries(&quiet), [""; 0]);
        let body = format!(r#"{{"resourceType":"Basic","id":"r{round}","code":{{"text":"x"}}}}"#);
        node.put(&format!("Basic/r{round}"), &body, &[]).await;

        let reply = node.get(&format!("_history?_since={since}&_count=10")).await;

        assert_eq!(entries(&reply), [format!("PUT Basic/r{round} 201")]);
        since = named(&reply);
    }
    // A page says the same time as the first one: what arrived between them is not passed over.
    let first = node.get("_history?_count=1").await;
    node.put("Basic/late", r#"{"resourceType":"Basic","id":"late","code":{"text":"x"}}"#, &[])
        .await;
    let second = node.get(&link(&first, "next").unwrap()).await;
    assert_eq!(named(&second), named(&first));
    let later = node.get(&format!("_history?_since={}", named(&second))).await;
    assert_eq!(entries(&later), ["PUT Basic/late 201"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_show_what_was_there_at_a_time() {
    let node = filled().await;
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(5));
    pause().await;
    let then = wall().to_string();
    pause().await;
    node.put("Patient/p1", r#"{"resourceType":"Patient","id":"p1","gender":"male"}"#, &[]).await;
    pause().await;
    let later = wall().to_string();

    let at = |path: &str, time: &str| format!("{path}?_at={time}");
    assert_eq!(
        entries(&node.get(&at("_history", &then)).await),
        ["PUT Patient/p1 200", "PUT Basic/b1 201"]
    );
    assert_eq!(entries(&node.get(&at("Patient/_history", &then)).await), ["PUT Patient/p1 200"]);
    let resource = node.get(&at("Patient/p1/_history", &then)).await;
    assert_eq!(resource.json()["entry"][0]["resource"]["active"], false);
    assert_eq!(entries(&resource).len(), 1);
    let resource = node.get(&at("Patient/p1/_history", &later)).await;
    assert_eq!(resource.json()["entry"][0]["resource"]["gender"], "male");
    assert_eq!(entries(&resource).len(), 1);
    let newest = resource.json()["entry"][0]["resource"]["meta"]["versionId"].clone();
    let page = format!("Patient/p1/_history?_at={later}&page={}", newest.as_str().unwrap());
    assert_eq!(entries(&node.get(&page).await), [""; 0], "what follows was replaced before");
    assert_eq!(entries(&node.get(&at("Patient/p2/_history", &then)).await), [""; 0]);
    let since = node.get(&format!("Patient/p1/_history?_since={then}")).await;
    assert_eq!(entries(&since), ["PUT Patient/p1 200"]);
    assert_eq!(entries(&node.get("_history?_at=2020").await), [""; 0]);
}
