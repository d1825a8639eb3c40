//! Measures the import of a file and of the same file again, in comparison with COPY and SQL in psql.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Bench;
use crate::content::FIRST_MS;
use crate::http::{self, Connection};
use crate::measure::{Sample, Spent};
use crate::options::Payload;
use crate::postgres::{Postgres, script};
use crate::process;
use crate::records::{self, Files};
use crate::report::{Report, Row, Side, show};
use crate::server::{ISSUER, Server};

const LOAD: &str = include_str!("../../sql/load.sql");
/// The id of the first user of `sql/accounts.sql`.
const USER_ID: &str = "00000000-0000-5000-8000-000000000001";
pub(super) const IMPORT_IDS: [&str; 2] =
    ["019b7000-0000-7000-8000-00000000000a", "019b7000-0000-7000-8000-00000000000b"];
const POLL: Duration = Duration::from_millis(100);
/// How much of the payload is sent at a time.
const PART_BYTES: usize = 256 * 1024;

/// `import`: the first import of a file and the second one of the same file.
pub(super) async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (records, payload) = (bench.options.records, bench.options.payload);
    let files = records::write(bench.folder.path(), records, payload)?;
    prepare(bench)?;
    // For idem and for psql: the samples of the first import and of the second one.
    let mut sides = [const { [const { Vec::new() }; 2] }; 2];
    for round in 1..=bench.options.rounds {
        let measured = [("idem", measure_idem(bench, &files).await?), ("psql", measure_psql(bench, &files)?)];
        for (side, (name, samples)) in sides.iter_mut().zip(measured) {
            for (series, sample) in side.iter_mut().zip(samples) {
                eprintln!("  {round}: {name} {:.0}/s", sample.rate);
                series.push(sample);
            }
        }
    }
    let form = if payload == Payload::Gzip { "gzip" } else { "plain" };
    let count = show(records as f64);
    let [ours, theirs] = sides;
    let variants = [format!("of {count}, {form}"), format!("of the same {count} again")];
    for (variant, (ours, theirs)) in variants.into_iter().zip(ours.into_iter().zip(theirs)) {
        let ours = Side::new(ours).context("idem was not measured")?;
        report.rows.push(Row::new("import", variant, "record", ours, Side::new(theirs)));
    }
    Ok(())
}

/// Creates a database with one user and no events. It is copied for each measurement.
fn prepare(bench: &Bench) -> anyhow::Result<()> {
    let postgres = bench.postgres()?;
    postgres.create("import_template")?;
    bench.program.migrate(&postgres.url("import_template"))?;
    let values = [("users", "1".to_owned()), ("issuer", ISSUER.to_owned())];
    let accounts =
        script(bench.folder.path(), "accounts.sql", include_str!("../../sql/accounts.sql"), &values)?;
    postgres.run("import_template", &accounts).map(drop)
}

/// Measures both imports by idem.
async fn measure_idem(bench: &Bench, files: &Files) -> anyhow::Result<Vec<Sample>> {
    let postgres = bench.postgres()?;
    postgres.copy("import_template", "import_ours")?;
    postgres.checkpoint()?;
    let folder = tempfile::tempdir_in(bench.folder.path())?;
    let server = bench.program.serve(folder.path(), Some(&postgres.url("import_ours"))).await?;
    let mut samples = Vec::new();
    for (id, inserted) in IMPORT_IDS.into_iter().zip([files.records, 0]) {
        let before = spent(postgres, Some(&server))?;
        let (elapsed, counts) = import(bench, &server, &files.payload, id).await?;
        let after = spent(postgres, Some(&server))?;
        ensure!(
            counts["inserted"] == inserted && counts["duplicates"] == files.records - inserted,
            "the import has other counts than expected: {counts}"
        );
        samples.push(sample(files, elapsed, after.since(before)));
        postgres.checkpoint()?;
    }
    server.stop()?;
    postgres.drop("import_ours")?;
    Ok(samples)
}

/// Imports a file. Returns the time from the first byte sent until the import is completed, and the counts.
pub(super) async fn import(
    bench: &Bench,
    server: &Server,
    file: &Path,
    id: &str,
) -> anyhow::Result<(Duration, Value)> {
    let token = bench.tokens.first().context("there are users")?;
    let mut connection = Connection::open(server.address).await?;
    let bytes = std::fs::read(file)?;
    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) { \
        importJob { state } problem { code detail } } }";
    let input = json!({ "id": id, "format": "NDJSON", "sizeBytes": bytes.len() });
    let data = connection.graphql(token, query, json!({ "input": input })).await?;
    ensure!(data["createImport"]["importJob"]["state"] == "AWAITING_UPLOAD", "{data}");

    let started = Instant::now();
    connection.send(&http::put(token, id, bytes.len() as u64)).await?;
    for part in bytes.chunks(PART_BYTES) {
        connection.send(part).await?;
    }
    let response = connection.response().await?;
    ensure!(response.status == 200, "{}: {}", response.status, String::from_utf8_lossy(response.body));
    let query = "query($id: ID!) { importJob(id: $id) { state problem { code detail } \
        counts { inserted duplicates differing deleted rejected } } }";
    loop {
        let mut data = connection.graphql(token, query, json!({ "id": id })).await?;
        let job = data["importJob"].take();
        match job["state"].as_str() {
            Some("COMPLETED") => return Ok((started.elapsed(), job["counts"].clone())),
            Some("QUEUED" | "RUNNING") => tokio::time::sleep(POLL).await,
            _ => anyhow::bail!("the import is not completed: {job}"),
        }
    }
}

/// Measures both imports by psql.
fn measure_psql(bench: &Bench, files: &Files) -> anyhow::Result<Vec<Sample>> {
    let postgres = bench.postgres()?;
    postgres.copy("import_template", "import_copy")?;
    let values = IMPORT_IDS.map(|id| {
        [
            ("file", files.rows.to_string_lossy().into_owned()),
            ("user_id", USER_ID.to_owned()),
            ("import_id", id.to_owned()),
            ("first_ms", FIRST_MS.to_string()),
        ]
    });
    let mut samples = Vec::new();
    for (values, existing) in values.iter().zip(["0", &files.records.to_string()]) {
        let work = script(bench.folder.path(), "load.sql", LOAD, values)?;
        ensure!(
            postgres.query("import_copy", "SELECT count(*) FROM event")? == existing,
            "psql stored another number of rows than expected"
        );
        postgres.checkpoint()?;
        let (started, before) = (Instant::now(), spent(postgres, None)?);
        postgres.run("import_copy", &work)?;
        let (elapsed, after) = (started.elapsed(), spent(postgres, None)?);
        samples.push(sample(files, elapsed, after.since(before)));
    }
    let head = postgres.query("import_copy", "SELECT feed_head FROM account")?;
    ensure!(head == files.records.to_string(), "each record must have one position: {head}");
    postgres.drop("import_copy")?;
    Ok(samples)
}

/// The CPU time that server, PostgreSQL and clients have used so far.
fn spent(postgres: &Postgres, server: Option<&Server>) -> anyhow::Result<Spent> {
    Ok(Spent {
        server: server.map(Server::cpu).transpose()?,
        postgres: postgres.cpu()?,
        client: process::cpu_of_clients()?,
    })
}

pub(super) fn sample(files: &Files, elapsed: Duration, spent: Spent) -> Sample {
    Sample::new(usize::try_from(files.records).unwrap_or(usize::MAX), elapsed, Vec::new(), spent)
}
