//! What phones send: a thousand users at random, each event with an external id, over a million events that are there,
//! and the worker in the server.

use anyhow::ensure;
use serde_json::json;

use super::create::{BATCH, CREATE, CREATED};
use super::read::FIELDS;
use super::{Case, compare, compare_all};
use crate::content::{Content, EXTERNAL_ID_PREFIX, Random, TYPE_ID, Template};
use crate::http::{Connection, graphql, position};
use crate::load::{Expected, Source};
use crate::report::Row;
use crate::stage::Stage;
use crate::{Bench, TOKENS as USERS};

const FIND: &str = include_str!("../../sql/find.sql");
const ROWS: u64 = 1_000_000;
const BATCH_EVENTS: usize = 100;
/// Connections of everything but single creates.
const CONNECTIONS: usize = 16;
/// Events that were created by the requests that send them again, of so many users.
const KNOWN: usize = 20_000;

/// `phones`
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let external_id = format!("'{EXTERNAL_ID_PREFIX}' || lpad((1 + m / {USERS})::text, 12, '0')");
    let stage = Stage::with_external_ids(bench, "phones", USERS, ROWS, &external_id).await?;
    let mut rows = Vec::new();
    for connections in [1, 16, 64] {
        rows.push(compare(bench, create(bench, &stage, connections)).await?);
    }
    rows.push(compare(bench, batch(bench, &stage)).await?);
    let numbers = send_first(bench, &stage).await?;
    let known = [("equal", Content::Keyed), ("other content", Content::Changed)];
    let cases = known.map(|(what, content)| again(&stage, what, &numbers, content));
    rows.extend(compare_all(bench, &cases).await?);
    drop(cases);
    let by_type = json!({ "eventTypeIds": [TYPE_ID] });
    let cases =
        [("of a type", by_type), ("by time", json!(null))].map(|(what, filter)| page(&stage, what, &filter));
    rows.extend(compare_all(bench, &cases).await?);
    drop(cases);
    stage.end()?;
    Ok(rows)
}

/// Each transaction of pgbench is for a user at random.
fn any_user() -> (&'static str, String) {
    ("user", format!("random(1, {USERS})"))
}

fn external_id(number: &str) -> (&'static str, String) {
    ("external_id", format!("'{EXTERNAL_ID_PREFIX}' || lpad({number}::text, 12, '0')"))
}

fn create<'a>(bench: &'a Bench, stage: &'a Stage<'a>, connections: usize) -> Case<'a> {
    let templates = || (0..USERS).map(|user| Template::single(stage.token(user), Content::Keyed)).collect();
    let spread =
        move |seed: usize| Source::Spread(templates(), bench.numbers.clone(), Random::new(seed as u64 + 1));
    Case {
        stage,
        scenario: "phones",
        variant: format!("create, {connections} connection{}", if connections == 1 { "" } else { "s" }),
        item: "event",
        sources: Box::new(move || (0..connections).map(&spread).collect()),
        expected: CREATED,
        script: Some((CREATE, vec![any_user(), external_id(":feed_head")])),
    }
}

/// Each connection has users of its own: the requests are large.
fn batch<'a>(bench: &'a Bench, stage: &'a Stage<'a>) -> Case<'a> {
    let spread = move |connection: usize| {
        let users = (connection..USERS).step_by(CONNECTIONS);
        let template = |user| Template::batch(stage.token(user), BATCH_EVENTS, Content::Keyed);
        Source::Spread(
            users.map(template).collect(),
            bench.numbers.clone(),
            Random::new(connection as u64 + 1),
        )
    };
    Case {
        stage,
        scenario: "phones",
        variant: format!("batch of {BATCH_EVENTS}, {CONNECTIONS} connections"),
        item: "event",
        sources: Box::new(move || (0..CONNECTIONS).map(spread).collect()),
        expected: Expected { text: "\"created\":100,", items: BATCH_EVENTS },
        script: Some((BATCH, vec![any_user(), external_id("(:head::bigint + n)")])),
    }
}

/// Creates the events that are sent again; their users and numbers. Rows that SQL makes would all differ.
async fn send_first(bench: &Bench, stage: &Stage<'_>) -> anyhow::Result<Vec<(usize, u64)>> {
    let mut connection = Connection::open(stage.server.address).await?;
    let mut known = Vec::with_capacity(KNOWN);
    for at in 0..KNOWN {
        let (user, number) = (at % USERS, bench.numbers.take());
        let mut template = Template::single(stage.token(user), Content::Keyed);
        let answer = connection.exchange(template.render(|| number)).await?;
        ensure!(position(answer.body, CREATED.text.as_bytes()).is_some(), "each is created first");
        known.push((user, number));
    }
    Ok(known)
}

fn again<'a>(stage: &'a Stage<'a>, what: &str, known: &[(usize, u64)], content: Content) -> Case<'a> {
    let request = |connection: usize| -> Vec<Vec<u8>> {
        let own = known.iter().skip(connection).step_by(CONNECTIONS);
        own.map(|(user, number)| Template::single(stage.token(*user), content).render(|| *number).to_vec())
            .collect()
    };
    let requests: Vec<_> = (0..CONNECTIONS).map(request).collect();
    Case {
        stage,
        scenario: "phones",
        variant: format!("sent again, {what}, {CONNECTIONS} connections"),
        item: "event",
        sources: Box::new(move || {
            let seeded = requests.iter().zip(1..);
            seeded.map(|(requests, seed)| Source::Among(requests.clone(), Random::new(seed))).collect()
        }),
        expected: Expected { text: "\"outcome\":\"DUPLICATE\"", items: 1 },
        script: Some((FIND, vec![any_user(), ("of_user", (ROWS / USERS as u64).to_string())])),
    }
}

fn page<'a>(stage: &'a Stage<'a>, what: &str, filter: &serde_json::Value) -> Case<'a> {
    let query = format!(
        "query Newest($first: Int, $filter: EventFilter) {{ events(first: $first, filter: $filter) {{ \
         nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    );
    let body = json!({ "query": query, "variables": { "first": 50, "filter": filter } }).to_string();
    let source = move |seed: u64| {
        let requests = (0..USERS).map(|user| graphql(stage.token(user), &body)).collect();
        Source::Among(requests, Random::new(seed))
    };
    Case {
        stage,
        scenario: "phones",
        variant: format!("page of 50 {what}, {CONNECTIONS} connections"),
        item: "page",
        sources: Box::new(move || (1..=CONNECTIONS as u64).map(&source).collect()),
        expected: Expected { text: "\"nodes\":[{", items: 1 },
        script: None,
    }
}
