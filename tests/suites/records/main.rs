//! Real records through real processes. What is not there is left out, and said so.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

mod big_transaction;
mod examples;
mod patients;
mod searches;
mod us_core;
mod validator_cases;

use chartmesh_tests::http::{Answer, Ask, Client};
use chartmesh_tests::json::Json;

/// A document that is known to be JSON.
fn parse(bytes: &[u8]) -> Json {
    Json::parse(std::str::from_utf8(bytes).expect("text").trim_start_matches('\u{feff}'))
}

/// Asks again while the node asks to come back.
async fn ask(client: &mut Client, ask: Ask) -> Answer {
    loop {
        let answer = client.ask(ask.clone()).await.expect("an answer");
        if answer.status != 503 {
            return answer;
        }
    }
}
