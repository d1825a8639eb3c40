//! Reading: an event that is there already, a page, a part of the feed.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Case, compare, user_of_each};
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
const CURSORS_APART: u64 = 100;
const DUPLICATES_OF_USER: u64 = 100;

/// All scalar fields of an event.
pub(super) const FIELDS: &str = "id eventTypeId timestamp endDate isAllDay timeZone notes sourceType externalId \
    location { latitude longitude name } properties version importJobId createdAt updatedAt";

/// `duplicates`: sent again are events that were created by the same requests.
pub(super) async fn duplicates(bench: &Bench) -> anyhow::Result<Row> {
    let rows = USERS as u64 * DUPLICATES_OF_USER;
    let stage = Stage::on_postgres(bench, "duplicates", USERS, rows).await?;
    // Rows that SQL makes have no hash of ours, and would differ from what is sent: these come behind them.
    let requests = |user: usize| -> Vec<Vec<u8>> {
        let mut template = Template::single(stage.token(user), Content::Plain);
        let numbers = 1 + DUPLICATES_OF_USER..=2 * DUPLICATES_OF_USER;
        numbers.map(|number| template.render(|| number).to_vec()).collect()
    };
    let mut connection = Connection::open(stage.server.address).await?;
    for user in 0..USERS {
        for request in requests(user) {
            let answer = connection.exchange(&request).await?;
            ensure!(position(answer.body, b"\"outcome\":\"CREATED\"").is_some(), "each is created first");
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
        script: Some((FIND, vec![user_of_each(), ("of_user", DUPLICATES_OF_USER.to_string())])),
    };
    let row = compare(bench, case).await?;
    stage.end()?;
    Ok(row)
}

/// `page`
pub(super) async fn page(bench: &Bench) -> anyhow::Result<Row> {
    let stage = Stage::on_postgres(bench, "page", READERS, ROWS).await?;
    let variant = format!("of 50, {READERS} connections");
    let row = compare(bench, page_case(&stage, "page", variant)).await?;
    stage.end()?;
    Ok(row)
}

/// The same on any stage with as many users.
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
        script: Some((PAGE, vec![user_of_each()])),
    }
}

/// `pull`
pub(super) async fn pull(bench: &Bench) -> anyhow::Result<Row> {
    let stage = Stage::on_postgres(bench, "pull", READERS, ROWS).await?;
    let query = format!(
        "query Pull($after: Cursor, $first: Int!) {{ changes(after: $after, first: $first) {{ changes {{ \
         entity entityId version deleted originClientId event {{ {FIELDS} }} eventType {{ id name version }} }} \
         cursor hasMore reset }} }}"
    );
    let mut cursors = Vec::new();
    for user in 0..READERS {
        cursors.push(walk(&stage, user).await?);
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
        script: Some((PULL, vec![user_of_each(), ("after_max", after_max.to_string())])),
    };
    let row = compare(bench, case).await?;
    stage.end()?;
    Ok(row)
}

/// Cursors of a user, evenly apart, each with a whole pull behind it.
async fn walk(stage: &Stage<'_>, user: usize) -> anyhow::Result<Vec<String>> {
    let query =
        "query($after: Cursor, $first: Int!) { changes(after: $after, first: $first) { cursor hasMore } }";
    let mut connection = Connection::open(stage.server.address).await?;
    let mut cursors: Vec<String> = Vec::new();
    loop {
        let variables = json!({ "after": cursors.last(), "first": CURSORS_APART });
        let mut data = connection.ask(stage.token(user), query, variables).await?;
        let page = data["changes"].take();
        if page["hasMore"] != Value::Bool(true) {
            break;
        }
        cursors.push(page["cursor"].as_str().context("a page has a cursor")?.to_owned());
    }
    let whole = cursors.len().saturating_sub(usize::try_from(PULL_ENTRIES / CURSORS_APART)?);
    ensure!(whole > 0, "the feed is long enough");
    cursors.truncate(whole);
    Ok(cursors)
}
