//! What a client that repeats a request gets: the same answer, and one write.

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::http::{Answer, Ask, Client};

const RECORD: &str = r#"{"resourceType":"Patient","active":true}"#;
const OTHER: &str = r#"{"resourceType":"Patient","active":false}"#;

async fn ask_until_decided(client: &mut Client, ask: &Ask) -> Answer {
    loop {
        match client.ask(ask.clone()).await {
            Ok(answer) if answer.status != 503 => return answer,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_request_repeated_after_a_leader_change_gets_the_recorded_answer() {
    let mut cluster = Cluster::start().await.unwrap();
    let leader = cluster.leader().await.expect("there is a leader");
    let other = (leader + 1) % cluster.size();
    let create = Ask::post("/fhir/Patient", RECORD).with("idempotency-key", "admission-1");
    let update = Ask::put("/fhir/Patient/bed-1", r#"{"resourceType":"Patient","id":"bed-1"}"#)
        .with("idempotency-key", "move-1");
    let mut at_leader = cluster.client(leader);
    let created = at_leader.ask(create.clone()).await.unwrap();
    let updated = at_leader.ask(update.clone()).await.unwrap();

    cluster.signal(leader, Signal::Kill).unwrap();

    let mut client = cluster.client(other);
    let created_again = ask_until_decided(&mut client, &create).await;
    let updated_again = ask_until_decided(&mut client, &update).await;
    assert_eq!(created.status, 201);
    assert_eq!(created_again.status, 201);
    assert_eq!(
        created_again.header("location"),
        created.header("location").replace(&cluster.url(leader), &cluster.url(other))
    );
    assert_eq!(updated_again.version(), updated.version());
    let history = client.ask(Ask::get("/fhir/Patient/bed-1/_history")).await.unwrap();
    assert_eq!(history.json()["entry"].as_array().map(Vec::len), Some(1), "{}", history.text());
}

#[tokio::test]
async fn a_key_that_comes_back_with_other_content_is_refused() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = cluster.client(0);
    let keyed = |content| Ask::post("/fhir/Patient", content).with("idempotency-key", "key-1");

    assert_eq!(client.ask(keyed(RECORD)).await.unwrap().status, 201);
    let refused = client.ask(keyed(OTHER)).await.unwrap();

    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["resourceType"], "OperationOutcome");
}
