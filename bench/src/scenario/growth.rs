//! Measures whether a large table is slower: the same work on a small table and on a large one.

use super::{compare_all, create, read};
use crate::Bench;
use crate::report::{Fact, Report, Row, show};
use crate::stage::Stage;

const USERS: usize = 16;
const SMALL_ROWS: u64 = 100_000;

/// `growth`: pages and creates.
pub(super) async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let large_rows = bench.options.rows;
    let small = Stage::on_postgres(bench, "small", USERS, SMALL_ROWS).await?;
    let large = Stage::on_postgres(bench, "large", USERS, large_rows).await?;
    let stages = [(&small, SMALL_ROWS), (&large, large_rows)];
    let reads = stages.map(|(stage, rows)| {
        read::page_case(stage, "growth", format!("page of 50 over {} rows", show(rows as f64)))
    });
    let writes = stages.map(|(stage, rows)| {
        create::case(
            bench,
            stage,
            "growth",
            format!("create over {} rows", show(rows as f64)),
            (USERS, USERS),
        )
    });
    for (what, cases) in [("page", reads), ("create", writes)] {
        let rows = compare_all(bench, &cases).await?;
        if let [small, large] = rows.as_slice() {
            report.facts.extend(ratios(what, small, large));
        }
        report.rows.extend(rows);
    }
    small.end()?;
    large.end()
}

fn ratios(what: &str, small: &Row, large: &Row) -> Vec<Fact> {
    let fact = |program: &str, value: f64| Fact {
        scenario: "growth",
        name: format!("{what}: rate over the large table divided by the rate over the small one, {program}"),
        value,
        unit: "",
    };
    let mut facts = vec![fact("idem", large.ours.median.rate / small.ours.median.rate)];
    if let (Some(small), Some(large)) = (&small.theirs, &large.theirs) {
        facts.push(fact("pgbench", large.median.rate / small.median.rate));
    }
    facts
}
