//! What is measured.

mod create;
mod flood;
mod growth;
mod idle;
mod import;
mod phones;
mod read;
mod sqlite;

use anyhow::Context;

use crate::Bench;
use crate::load::{self, Expected, Source};
use crate::measure::Sample;
use crate::options::Scenario;
use crate::pgbench::{self, Work};
use crate::postgres::script;
use crate::report::{Report, Row, Side};
use crate::stage::Stage;

/// Runs one of them and adds what came out.
pub async fn run(bench: &Bench, scenario: Scenario, report: &mut Report) -> anyhow::Result<()> {
    match scenario {
        Scenario::Create => report.rows.extend(create::single(bench).await?),
        Scenario::Batch => report.rows.push(create::batch(bench).await?),
        Scenario::Duplicates => report.rows.push(read::duplicates(bench).await?),
        Scenario::Page => report.rows.push(read::page(bench).await?),
        Scenario::Pull => report.rows.push(read::pull(bench).await?),
        Scenario::Import => import::run(bench, report).await?,
        Scenario::Idle => report.facts.extend(idle::run(bench).await?),
        Scenario::Growth => growth::run(bench, report).await?,
        Scenario::Sqlite => report.rows.extend(sqlite::run(bench).await?),
        Scenario::Phones => report.rows.extend(phones::run(bench).await?),
        Scenario::Flood => report.facts.extend(flood::run(bench).await?),
    }
    Ok(())
}

/// Work of both sides by many connections on one stage.
struct Case<'a> {
    stage: &'a Stage<'a>,
    scenario: &'static str,
    variant: String,
    item: &'static str,
    /// What each connection of ours sends.
    sources: Box<dyn Fn() -> Vec<Source> + 'a>,
    expected: Expected,
    /// What each connection of pgbench runs, and what is filled in.
    script: Option<(&'static str, Vec<(&'static str, String)>)>,
}

/// Each connection of pgbench works for a user of its own.
fn user_of_each() -> (&'static str, String) {
    ("user", ":client_id + 1".to_owned())
}

fn without_external_id() -> (&'static str, String) {
    ("external_id", "NULL".to_owned())
}

/// Measures both sides of one case in turn.
async fn compare(bench: &Bench, case: Case<'_>) -> anyhow::Result<Row> {
    let rows = compare_all(bench, &[case]).await?;
    rows.into_iter().next().context("one case is one row")
}

/// Measures both sides of each case, one case after the other in each round, so that what else the
/// machine does meets all of them.
async fn compare_all(bench: &Bench, cases: &[Case<'_>]) -> anyhow::Result<Vec<Row>> {
    let mut sides: Vec<_> = cases.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for round in 1..=bench.options.rounds {
        for (case, (ours, theirs)) in cases.iter().zip(&mut sides) {
            let sample = by_us(bench, case).await?;
            eprintln!("  {round}, {}: idem {:.0}/s", case.variant, sample.rate);
            ours.push(sample);
            if let Some(sample) = by_hand(bench, case)? {
                eprintln!("  {round}, {}: pgbench {:.0}/s", case.variant, sample.rate);
                theirs.push(sample);
            }
        }
    }
    let row = |(case, (ours, theirs)): (&Case<'_>, (Vec<Sample>, Vec<Sample>))| {
        let ours = Side::new(ours).context("something was measured")?;
        Ok(Row::new(case.scenario, case.variant.clone(), case.item, ours, Side::new(theirs)))
    };
    cases.iter().zip(sides).map(row).collect()
}

async fn by_us(bench: &Bench, case: &Case<'_>) -> anyhow::Result<Sample> {
    case.stage.settle()?;
    load::run(case.stage, (case.sources)(), case.expected, bench.options.seconds).await
}

fn by_hand(bench: &Bench, case: &Case<'_>) -> anyhow::Result<Option<Sample>> {
    let Some((text, values)) = &case.script else { return Ok(None) };
    let folder = tempfile::tempdir_in(bench.folder.path())?;
    let file = script(folder.path(), "work.sql", text, values)?;
    case.stage.settle()?;
    let connections = (case.sources)().len();
    let work = Work { script: &file, connections, items: case.expected.items };
    pgbench::run(case.stage, &work, bench.options.seconds).map(Some)
}
