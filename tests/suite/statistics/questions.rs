//! Asks random questions about random events, and compares the answers with those of the oracle.
//!
//! `TESTS_STATS` is the number of data sets, with four questions each; `TESTS_STATS_SEED` is the first seed.

use std::env;

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::generator::{self, Event, Question};
use super::oracle::{self, Answer, Totals};
use super::{ANSWER, ask};
use crate::harness::{Client, DatabaseKind, TestServer, new_id};
use crate::simulator::rng::Rng;

const QUESTIONS: usize = 4;

/// Compares numbers that were added up in another order. `size` is the sum of their absolute values.
fn is_close(one: f64, other: f64, size: f64) -> bool {
    (one - other).abs() <= 1e-12 * size || one == other
}

fn exact_sum(numbers: &[f64]) -> f64 {
    // Halves of the numbers, so that no partial sum overflows; largest first, with the rounding errors.
    let mut scaled: Vec<f64> = numbers.iter().map(|number| number / 1_024.0).collect();
    scaled.sort_by(|one, other| other.abs().total_cmp(&one.abs()));
    let (mut sum, mut rest) = (0.0_f64, 0.0_f64);
    for number in scaled {
        let next = sum + number;
        rest += if sum.abs() >= number.abs() { (sum - next) + number } else { (number - next) + sum };
        sum = next;
    }
    sum + rest
}

fn check_totals(question: &Question, expected: &Totals, actual: &Value) -> Result<(), String> {
    let count = json!(expected.count);
    let seconds = expected.duration_ms as f64 / 1000.0;
    if actual["count"] != count || actual["durationSeconds"].as_f64() != Some(seconds) {
        return Err(format!("count or duration: {} {seconds}", expected.count));
    }
    let measures = actual["measures"].as_array().unwrap();
    if measures.len() != expected.numbers.len() {
        return Err(format!("measures: {:?}", expected.numbers));
    }
    for (((index, unit), numbers), actual) in expected.numbers.iter().zip(measures) {
        let scaled = exact_sum(numbers);
        let sum = (scaled * 1_024.0).clamp(f64::MIN, f64::MAX);
        let average = scaled / numbers.len() as f64 * 1_024.0;
        let size: f64 = numbers.iter().map(|number| number.abs()).sum();
        let is_whole = numbers.iter().all(|number| number.fract() == 0.0) && size <= 9_007_199_254_740_992.0;
        let number = |name: &str| actual[name].as_f64().unwrap();
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let is_right = actual["property"] == json!(question.measures[*index].0)
            && actual["unit"] == json!(unit)
            && actual["count"] == json!(numbers.len())
            && (if is_whole { number("sum") == sum } else { is_close(number("sum"), sum, size) })
            && is_close(number("average"), average, size / numbers.len() as f64)
            && (number("minimum"), number("maximum")) == (least, most);
        if !is_right {
            return Err(format!("a measure: sum {sum}, average {average}, numbers {numbers:?}"));
        }
    }
    Ok(())
}

fn check(question: &Question, expected: &Answer, actual: &Value) -> Result<(), String> {
    let text = |ms: Option<i64>| ms.map(domain::instant::format);
    let buckets = actual["buckets"].as_array().unwrap();
    if buckets.len() != expected.rows.len() {
        return Err(format!("{} buckets instead of {}", buckets.len(), expected.rows.len()));
    }
    for (at, (row, bucket)) in expected.rows.iter().zip(buckets).enumerate() {
        let ends = (&bucket["start"], &bucket["end"], &bucket["localDate"]);
        let wanted = (json!(text(row.start)), json!(text(row.end)), json!(row.date));
        if ends != (&wanted.0, &wanted.1, &wanted.2) {
            return Err(format!("bucket {at}: {wanted:?} instead of {ends:?}"));
        }
        for name in ["eventTypeId", "sourceType", "weekday", "hourOfDay"] {
            let group = row.groups.iter().find(|(group, _)| group == name).map(|(_, value)| value);
            if bucket[name] != *group.unwrap_or(&Value::Null) {
                return Err(format!("bucket {at}: {name} is not {group:?}"));
            }
        }
        check_totals(question, &row.totals, bucket).map_err(|error| format!("bucket {at}: {error}"))?;
    }
    let ends = (&actual["total"]["start"], &actual["total"]["end"]);
    if ends != (&json!(text(question.from)), &json!(text(question.to))) {
        return Err(format!("the ends of the total: {ends:?}"));
    }
    check_totals(question, &expected.total, &actual["total"]).map_err(|error| format!("total: {error}"))
}

async fn ask_and_compare(client: &Client, question: &Question, events: &[Event]) -> Result<(), String> {
    let input = question.input();
    let expected = match oracle::answer(question, events) {
        Ok(expected) => expected,
        Err(limit) => {
            let response = client.send(ANSWER, json!({ "input": input })).await;
            let name = &response["errors"][0]["extensions"]["limit"]["name"];
            return if *name == json!(limit) {
                Ok(())
            } else {
                Err(format!("{limit} is not refused: {response}"))
            };
        }
    };
    let response = client.send(ANSWER, json!({ "input": input })).await;
    if !response["errors"].is_null() {
        return Err(format!("refused: {}", response["errors"]));
    }
    let actual = &response["data"]["eventStats"];
    check(question, &expected, actual).map_err(|error| format!("{error}\nactual: {actual:#}"))
}

/// Stores the events of a seed, and asks questions about them.
async fn run(server: &TestServer, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let client = server.client(&format!("seed-{seed}"));
    let mut kinds = Vec::new();
    for name in ["run", "walk", "swim"].iter().take(1 + rng.below(3)) {
        kinds.push(client.event_type(name).await);
    }
    kinds.sort();
    let (zone, granularity, anchor, events) = generator::events(&mut rng, &kinds, new_id);
    if !events.is_empty() {
        let inputs: Vec<Value> = events.iter().map(Event::input).collect();
        let created = client.create(&inputs).await;
        assert_eq!(created["created"], json!(events.len()), "{created}");
    }
    for event in events.iter().filter(|event| event.is_deleted) {
        let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
        client.ask(delete, json!({ "id": event.id })).await;
    }
    for _ in 0..QUESTIONS {
        let question = generator::question(&mut rng, zone, granularity, anchor, &kinds);
        ask_and_compare(&client, &question, &events).await.map_err(|error| {
            format!(
                "TESTS_STATS=1 TESTS_STATS_SEED={seed} fails: {error}\n{:#}\n{events:#?}",
                question.input()
            )
        })?;
    }
    Ok(())
}

async fn answers_equal_the_oracle(database_kind: DatabaseKind) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let usual = if env::var("TESTS_FULL").is_ok() { 2_500 } else { 60 };
    let first = number("TESTS_STATS_SEED").unwrap_or(1);
    let server = TestServer::open_for(database_kind, None).await;
    let seeds = first..first + number("TESTS_STATS").unwrap_or(usual);
    let mut runs = stream::iter(seeds).map(|seed| run(&server, seed)).buffer_unordered(4);
    while let Some(result) = runs.next().await {
        result.unwrap_or_else(|failure| panic!("{failure}"));
    }
    drop(runs);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_on_sqlite_equal_the_oracle() {
    answers_equal_the_oracle(DatabaseKind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_on_postgres_equal_the_oracle() {
    answers_equal_the_oracle(DatabaseKind::Postgres).await;
}

/// A question about no events is answered too.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_events_gets_empty_statistics() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let answer = ask(&server.client("ann"), json!({ "timeZone": "UTC", "granularity": "DAY" })).await;
    assert_eq!((&answer["buckets"], &answer["total"]["count"]), (&json!([]), &json!(0)));
    server.end().await;
}
