//! Measures creates: one event per call, and a hundred events per call.

use super::{Case, compare, user_per_connection, without_external_id};
use crate::Bench;
use crate::content::{Content, Template};
use crate::load::{Expected, Source};
use crate::report::Row;
use crate::stage::Stage;

pub(super) const CREATE: &str = include_str!("../../sql/create.sql");
pub(super) const BATCH: &str = include_str!("../../sql/batch.sql");
/// Rows before the measurement. Over an empty table, PostgreSQL's planner has no statistics yet.
const ROWS: u64 = 100_000;
const BATCH_EVENTS: usize = 100;
const BATCH_CONNECTIONS: usize = 8;
/// What every response contains for its one event.
pub(super) const CREATED: Expected = Expected { text: "\"outcome\":\"CREATED\"", items: 1 };

/// `create`: each connection has its own user, and in the last row all connections have the same user.
pub(super) async fn single(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (connections, users) in [(1, 1), (16, 16), (64, 64), (64, 1)] {
        let stage = Stage::on_postgres(bench, "create", users, ROWS).await?;
        let variant = match (connections, users) {
            (1, _) => "1 connection".to_owned(),
            (_, 1) => format!("{connections} connections, one user"),
            _ => format!("{connections} connections, {users} users"),
        };
        rows.push(compare(bench, case(bench, &stage, "create", variant, (connections, users))).await?);
        stage.end()?;
    }
    Ok(rows)
}

/// Creates on any stage, by this many connections for this many users.
pub(super) fn case<'a>(
    bench: &'a Bench,
    stage: &'a Stage<'a>,
    scenario: &'static str,
    variant: String,
    (connections, users): (usize, usize),
) -> Case<'a> {
    let user = if users == 1 { ("user", "1".to_owned()) } else { user_per_connection() };
    Case {
        stage,
        scenario,
        variant,
        item: "event",
        sources: Box::new(move || fresh(bench, stage, connections, users)),
        expected: CREATED,
        script: Some((CREATE, vec![user, without_external_id()])),
        peer: None,
    }
}

/// New events on this many connections, which are spread over this many users.
pub(super) fn fresh(bench: &Bench, stage: &Stage<'_>, connections: usize, users: usize) -> Vec<Source> {
    let template = |connection: usize| Template::single(stage.token(connection % users), Content::Plain);
    (0..connections).map(|connection| Source::Fresh(template(connection), bench.numbers.clone())).collect()
}

/// `batch`: a hundred events per call.
pub(super) async fn batch(bench: &Bench) -> anyhow::Result<Row> {
    let stage = Stage::on_postgres(bench, "batch", BATCH_CONNECTIONS, ROWS).await?;
    let template = |user: usize| Template::batch(stage.token(user), BATCH_EVENTS, Content::Plain);
    let case = Case {
        stage: &stage,
        scenario: "batch",
        variant: format!("of {BATCH_EVENTS}, {BATCH_CONNECTIONS} connections"),
        item: "event",
        sources: Box::new(|| {
            (0..BATCH_CONNECTIONS).map(|user| Source::Fresh(template(user), bench.numbers.clone())).collect()
        }),
        expected: Expected { text: "\"created\":100,", items: BATCH_EVENTS },
        script: Some((BATCH, vec![user_per_connection(), without_external_id()])),
        peer: None,
    };
    let row = compare(bench, case).await?;
    stage.end()?;
    Ok(row)
}
