//! Measures creates on SQLite, one event per call.

use super::{Case, compare, create};
use crate::Bench;
use crate::report::Row;
use crate::stage::Stage;

/// `sqlite`: one connection, and many.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (connections, variant) in [(1, "1 connection"), (64, "64 connections, 64 users")] {
        let stage = Stage::on_sqlite(bench, connections).await?;
        let case = Case {
            stage: &stage,
            scenario: "sqlite",
            variant: variant.to_owned(),
            item: "event",
            sources: Box::new(|| create::fresh(bench, &stage, connections, connections)),
            expected: create::CREATED,
            script: None,
            peer: None,
        };
        rows.push(compare(bench, case).await?);
        stage.end()?;
    }
    Ok(rows)
}
