//! Measures reads: a duplicate, which is a create of an existing event, a page, and a pull from the change
//! feed.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Case, compare, user_per_connection};
use crate::content::{Content, Random, Template};
use crate::http::{Connection, graphql, position};
use crate::load::{Expected, Source};
use crate::report::Row;
use crate::stage::Stage;
use crate::{Bench, USERS};

const FIND: &str = include_str!("../../sql/find.sql");
const PAGE: &str = include_str!("../../sql/page.sql");
const PULL: &str = include_str!("../../sql/pull.sql");
const READERS: usize = 16;
const ROWS: u64 = 100_000;
const PULL_ENTRIES: u64 = 500;
/// Feed entries between two cursors that a pull can start at.
const CURSOR_INTERVAL: u64 = 100;
/// Events per user that SQL inserts, and as many that are created and sent again.
const EVENTS_PER_USER: u64 = 100;

/// All scalar fields of an event.
pub(super) const FIELDS: &str = "id eventTypeId timestamp endDate isAllDay timeZone notes sourceType externalId \
    location { latitude longitude name } properties version importJobId createdAt updatedAt";

/// `duplicates`: sends events again that the same requests created before.
pub(super) async fn duplicates(bench: &Bench) -> anyhow::Result<Row> {
    let rows = USERS as u64 * EVENTS_PER_USER;
    let stage = Stage::on_postgres(bench, "duplicates", USERS, rows).await?;
    // Rows that SQL inserts have another content hash, so they would not count as duplicates. The events that
    // are sent have the numbers after them.
    let requests = |user: usize| -> Vec<Vec<u8>> {
        let mut template = Template::single(stage.token(user), Content::Plain);
        let numbers = 1 + EVENTS_PER_USER..=2 * EVENTS_PER_USER;
        numbers.map(|number| template.render(|| number).to_vec()).collect()
    };
    let mut connection = Connection::open(stage.server.address).await?;
    for user in 0..USERS {
        for request in requests(user) {
            let response = connection.exchange(&request).await?;
            let is_created = position(response.body, b"\"outcome\":\"CREATED\"").is_some();
            ensure!(is_created, "an event was not created");
        }
    }
    let source = |user: usize| Source::Among(requests(user), Random::new(user as u64));
    let case = Case {
        stage: &stage,
        scenario: "duplicates",
        variant: format!("{USERS} connections"),
        item: "event",
        sources: Box::new(|| (0..USERS).map(source).collect()),
        expected: Expected { text: "\"outcome\":\"DUPLICATE\"", items: 1 },
        script: Some((FIND, vec![user_per_connection(), ("events_per_user", EVENTS_PER_USER.to_string())])),
        peer: None,
    };
    let row = compare(bench, case).await?;
    stage.end()?;
    Ok(row)
}

/// `page`: the newest fifty events.
pub(super) async fn page(bench: &Bench) -> anyhow::Result<Row> {
    let stage = Stage::on_postgres(bench, "page", READERS, ROWS).await?;
    let variant = format!("of 50, {READERS} connections");
    let row = compare(bench, page_case(&stage, "page", variant)).await?;
    stage.end()?;
    Ok(row)
}

/// Pages on any stage with at least [`READERS`] users.
pub(super) fn page_case<'a>(stage: &'a Stage<'a>, scenario: &'static str, variant: String) -> Case<'a> {
    let query = format!(
        "query Newest($first: Int) {{ events(first: $first) {{ nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    );
    let body = json!({ "query": query, "variables": { "first": 50 } }).to_string();
    let source = move |user| Source::Among(vec![graphql(stage.token(user), &body)], Random::new(user as u64));
    Case {
        stage,
        scenario,
        variant,
        item: "page",
        sources: Box::new(move || (0..READERS).map(&source).collect()),
        expected: Expected { text: "\"nodes\":[{", items: 1 },
        script: Some((PAGE, vec![user_per_connection()])),
        peer: None,
    }
}

/// `pull`: five hundred entries of the change feed.
pub(super) async fn pull(bench: &Bench) -> anyhow::Result<Row> {
    let stage = Stage::on_postgres(bench, "pull", READERS, ROWS).await?;
    let query = format!(
        "query Pull($after: Cursor, $first: Int!) {{ changes(after: $after, first: $first) {{ changes {{ \
         entity entityId version deleted originClientId event {{ {FIELDS} }} eventType {{ id name version }} }} \
         cursor hasMore reset }} }}"
    );
    let mut cursors = Vec::new();
    for user in 0..READERS {
        cursors.push(read_cursors(&stage, user).await?);
    }
    let request = |user: usize, cursor: &String| {
        let variables = json!({ "after": cursor, "first": PULL_ENTRIES });
        let body = json!({ "query": query, "variables": variables }).to_string();
        graphql(stage.token(user), &body)
    };
    let source = |user: usize| {
        let requests = cursors[user].iter().map(|cursor| request(user, cursor)).collect();
        Source::Among(requests, Random::new(user as u64))
    };
    let after_max = ROWS / READERS as u64 - PULL_ENTRIES;
    let case = Case {
        stage: &stage,
        scenario: "pull",
        variant: format!("of {PULL_ENTRIES}, {READERS} connections"),
        item: "pull",
        sources: Box::new(|| (0..READERS).map(source).collect()),
        expected: Expected { text: "\"changes\":[{", items: 1 },
        script: Some((PULL, vec![user_per_connection(), ("after_max", after_max.to_string())])),
        peer: None,
    };
    let row = compare(bench, case).await?;
    stage.end()?;
    Ok(row)
}

/// Cursors of a user at even intervals. At least [`PULL_ENTRIES`] entries follow each of them.
async fn read_cursors(stage: &Stage<'_>, user: usize) -> anyhow::Result<Vec<String>> {
    let query =
        "query($after: Cursor, $first: Int!) { changes(after: $after, first: $first) { cursor hasMore } }";
    let mut connection = Connection::open(stage.server.address).await?;
    let mut cursors: Vec<String> = Vec::new();
    loop {
        let variables = json!({ "after": cursors.last(), "first": CURSOR_INTERVAL });
        let mut data = connection.graphql(stage.token(user), query, variables).await?;
        let page = data["changes"].take();
        if page["hasMore"] != Value::Bool(true) {
            break;
        }
        cursors.push(page["cursor"].as_str().context("a page has no cursor")?.to_owned());
    }
    let usable = cursors.len().saturating_sub(usize::try_from(PULL_ENTRIES / CURSOR_INTERVAL)?);
    ensure!(usable > 0, "the feed is too short");
    cursors.truncate(usable);
    Ok(cursors)
}
