//! Measures SQLite: creates, one event per call, and an import of a file and of the same file again. The
//! counterpart stores the same rows by SQLite's C interface, without a server.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::import::{IMPORT_IDS, import};
use super::{create, import};
use crate::content::{Content, Random, Template};
use crate::load::{self, Source};
use crate::measure::{Sample, Spent};
use crate::records::{self, Files};
use crate::report::{Row, Side};
use crate::rusqlite::Database;
use crate::stage::Stage;
use crate::{Bench, TOKENS as USERS};

/// Events of each user before the measurement.
const EVENTS_OF_USER: u64 = 200;
/// An import on SQLite has half as many records as in the scenario `import`.
const RECORDS_DIVISOR: u64 = 2;

/// The samples of idem and of the counterpart.
type Sides = (Vec<Sample>, Vec<Sample>);

/// `sqlite`: one connection and many, and both imports.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let template = bench.folder.path().join("template.db");
    bench.program.migrate(&format!("sqlite://{}", template.display()))?;
    Database::open(&template)?.fill(USERS, EVENTS_OF_USER)?;
    let mut rows = Vec::new();
    for (connections, group) in [(1, 1), (64, 32)] {
        let plural = if connections == 1 { "" } else { "s" };
        let (ours, theirs) = creates(bench, &template, connections, group).await?;
        rows.push(row(format!("create, {connections} connection{plural}"), "event", ours, theirs)?);
    }
    let records = bench.options.records / RECORDS_DIVISOR;
    let files = records::write(bench.folder.path(), records, bench.options.payload)?;
    let [first, again] = imports(bench, &template, &files).await?;
    rows.push(row(format!("import of {records}"), "record", first.0, first.1)?);
    rows.push(row(format!("import of the same {records} again"), "record", again.0, again.1)?);
    Ok(rows)
}

fn row(variant: String, item: &'static str, ours: Vec<Sample>, theirs: Vec<Sample>) -> anyhow::Result<Row> {
    let ours = Side::new(ours).context("idem was not measured")?;
    Ok(Row::new("sqlite", variant, item, ours, Side::new(theirs)))
}

/// Creates of random users. The counterpart stores `group` of them in each transaction.
async fn creates(bench: &Bench, template: &Path, connections: usize, group: usize) -> anyhow::Result<Sides> {
    let stage = Stage::on_sqlite(bench, template).await?;
    let (mut database, _folder) = open_copy(bench, template)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let spread = |seed: usize| {
        let templates = (0..USERS).map(|user| Template::single(stage.token(user), Content::WithExternalId));
        Source::Spread(templates.collect(), bench.numbers.clone(), Random::new(seed as u64 + 1))
    };
    for round in 1..=bench.options.rounds {
        let sources = (0..connections).map(spread).collect();
        ours.push(
            load::run(&stage, stage.server.target(), sources, create::CREATED, bench.options.seconds).await?,
        );
        theirs.push(database.create(USERS, group, &bench.numbers, bench.options.seconds)?);
        report(round, &ours, &theirs);
    }
    stage.end()?;
    Ok((ours, theirs))
}

/// Imports of a file and of the same file again. Each round begins with a new copy of the database.
async fn imports(bench: &Bench, template: &Path, files: &Files) -> anyhow::Result<[Sides; 2]> {
    let mut both = [const { (Vec::new(), Vec::new()) }; 2];
    for round in 1..=bench.options.rounds {
        let stage = Stage::on_sqlite(bench, template).await?;
        let (mut database, _folder) = open_copy(bench, template)?;
        let news = [files.records, 0];
        for ((sides, id), inserted) in both.iter_mut().zip(IMPORT_IDS).zip(news) {
            let before = stage.server.cpu()?;
            let (elapsed, counts) = import(bench, &stage.server, &files.payload, id).await?;
            let server = Some(stage.server.cpu()? - before);
            ensure!(counts["inserted"] == inserted, "the import has other counts than expected: {counts}");
            sides.0.push(import::sample(files, elapsed, Spent { server, postgres: 0.0, client: 0.0 }));
            sides.1.push(database.import(&files.rows, id, usize::try_from(inserted)?)?);
            report(round, &sides.0, &sides.1);
        }
        stage.end()?;
    }
    Ok(both)
}

/// Opens a copy of a database file, in a folder of its own.
fn open_copy(bench: &Bench, template: &Path) -> anyhow::Result<(Database, TempDir)> {
    let folder = tempfile::tempdir_in(bench.folder.path())?;
    let copy = folder.path().join("copy.db");
    fs::copy(template, &copy)?;
    Ok((Database::open(&copy)?, folder))
}

fn report(round: u32, ours: &[Sample], theirs: &[Sample]) {
    if let (Some(ours), Some(theirs)) = (ours.last(), theirs.last()) {
        eprintln!("  {round}: idem {:.0}/s, rusqlite {:.0}/s", ours.rate, theirs.rate);
    }
}
