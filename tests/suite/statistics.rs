//! Tests statistics: random questions against an oracle, the rules one by one, and what is refused.

mod generator;
mod guide;
mod oracle;
mod questions;
mod refusals;
mod rules;
mod sums;

use serde_json::{Value, json};

use crate::harness::Client;

/// All fields of an answer.
const ANSWER: &str = "query($input: EventStatsInput!) { eventStats(input: $input) { asOf buckets { ...B } total { ...B } } } \
    fragment B on StatsBucket { start end localDate eventTypeId sourceType weekday hourOfDay count durationSeconds \
    measures { property unit count sum average minimum maximum } }";

/// Asks for statistics. Fails if the response has errors.
async fn ask(client: &Client, input: Value) -> Value {
    client.ask(ANSWER, json!({ "input": input })).await["eventStats"].take()
}

/// Asks for statistics that are refused. Returns the extensions of the error.
async fn refused(client: &Client, input: Value) -> Value {
    let mut response = client.send(ANSWER, json!({ "input": input })).await;
    assert!(response["data"].is_null(), "{response}");
    response["errors"][0]["extensions"].take()
}
