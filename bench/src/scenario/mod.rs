//! Runs the scenarios. A scenario is a list of cases, and each case is the same work for idem and for
//! pgbench.

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
use crate::peer::Peer;
use crate::pgbench::{self, Work};
use crate::postgres::script;
use crate::report::{Report, Row, Side};
use crate::stage::Stage;

/// Runs one scenario and adds its results to the report.
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

/// The same work for idem and for pgbench, by many connections on one stage.
struct Case<'a> {
    stage: &'a Stage<'a>,
    scenario: &'static str,
    variant: String,
    item: &'static str,
    /// What each connection to idem sends.
    sources: Sources<'a>,
    expected: Expected,
    /// The script that each connection of pgbench runs, with the values of its placeholders. `None` if there
    /// is no counterpart.
    script: Option<(&'static str, Vec<(&'static str, String)>)>,
    /// The same work for the peer, if it does it.
    peer: Option<PeerWork<'a>>,
}

/// Makes what each connection sends.
type Sources<'a> = Box<dyn Fn() -> Vec<Source> + 'a>;

/// What a running peer is sent, and what its responses must contain.
struct PeerWork<'a> {
    peer: &'a Peer,
    sources: Sources<'a>,
    expected: Expected,
}

/// Each connection of pgbench has its own user.
fn user_per_connection() -> (&'static str, String) {
    ("user", ":client_id + 1".to_owned())
}

fn without_external_id() -> (&'static str, String) {
    ("external_id", "NULL".to_owned())
}

/// Measures idem and pgbench on one case, in turn.
async fn compare(bench: &Bench, case: Case<'_>) -> anyhow::Result<Row> {
    let rows = compare_all(bench, &[case]).await?;
    rows.into_iter().next().context("one case must give one row")
}

/// The measurements of one case.
#[derive(Default)]
struct Measured {
    ours: Vec<Sample>,
    theirs: Vec<Sample>,
    peer: Vec<Sample>,
}

/// Measures idem, pgbench and the peer on each case. Each round measures all cases, so that other load on the machine
/// affects all of them alike.
async fn compare_all(bench: &Bench, cases: &[Case<'_>]) -> anyhow::Result<Vec<Row>> {
    let mut measured: Vec<Measured> = cases.iter().map(|_| Measured::default()).collect();
    for round in 1..=bench.options.rounds {
        for (case, measured) in cases.iter().zip(&mut measured) {
            let sample = measure_idem(bench, case).await?;
            eprintln!("  {round}, {}: idem {:.0}/s", case.variant, sample.rate);
            measured.ours.push(sample);
            if let Some(sample) = measure_pgbench(bench, case)? {
                eprintln!("  {round}, {}: pgbench {:.0}/s", case.variant, sample.rate);
                measured.theirs.push(sample);
            }
            if let Some(work) = &case.peer {
                case.stage.settle()?;
                let (target, sources) = (work.peer.target(), (work.sources)());
                let sample =
                    load::run(case.stage, target, sources, work.expected, bench.options.seconds).await?;
                eprintln!("  {round}, {}: Go service {:.0}/s", case.variant, sample.rate);
                measured.peer.push(sample);
            }
        }
    }
    let row = |(case, measured): (&Case<'_>, Measured)| {
        let ours = Side::new(measured.ours).context("idem was not measured")?;
        let theirs = Side::new(measured.theirs);
        let row = Row::new(case.scenario, case.variant.clone(), case.item, ours, theirs);
        Ok(row.with_peer(Side::new(measured.peer)))
    };
    cases.iter().zip(measured).map(row).collect()
}

async fn measure_idem(bench: &Bench, case: &Case<'_>) -> anyhow::Result<Sample> {
    case.stage.settle()?;
    load::run(case.stage, case.stage.server.target(), (case.sources)(), case.expected, bench.options.seconds)
        .await
}

fn measure_pgbench(bench: &Bench, case: &Case<'_>) -> anyhow::Result<Option<Sample>> {
    let Some((text, values)) = &case.script else { return Ok(None) };
    let folder = tempfile::tempdir_in(bench.folder.path())?;
    let file = script(folder.path(), "work.sql", text, values)?;
    case.stage.settle()?;
    let connections = (case.sources)().len();
    let work = Work { script: &file, connections, items: case.expected.items };
    pgbench::run(case.stage, &work, bench.options.seconds).map(Some)
}
