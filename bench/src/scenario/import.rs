//! A file of many records, and the same file again; beside it what one would type into psql.

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
const NUMBER: &str = include_str!("../../sql/number.sql");
/// The first user of `sql/accounts.sql`.
const USER_ID: &str = "00000000-0000-5000-8000-000000000001";
const IMPORT_IDS: [&str; 2] =
    ["019b7000-0000-7000-8000-00000000000a", "019b7000-0000-7000-8000-00000000000b"];
const POLL: Duration = Duration::from_millis(100);
const PART_BYTES: usize = 256 * 1024;

/// How the rows get their places in the feed by hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    /// Without gaps, as ours: by an UPDATE behind the INSERT, which alone knows what was new.
    Whole,
    /// Within the INSERT, which leaves a gap where a record was there already.
    WithGaps,
}

/// `import`
pub(super) async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (records, payload) = (bench.options.records, bench.options.payload);
    let files = records::write(bench.folder.path(), records, payload)?;
    prepare(bench)?;
    // Of each side: the first time, and again.
    let mut sides = [const { [const { Vec::new() }; 2] }; 3];
    for round in 1..=bench.options.rounds {
        let measured = [
            ("idem", by_us(bench, &files).await?),
            ("psql", by_hand(bench, &files, Places::Whole)?),
            ("psql, gaps left", by_hand(bench, &files, Places::WithGaps)?),
        ];
        for (side, (name, samples)) in sides.iter_mut().zip(measured) {
            for (times, sample) in side.iter_mut().zip(samples) {
                eprintln!("  {round}: {name} {:.0}/s", sample.rate);
                times.push(sample);
            }
        }
    }
    let form = if payload == Payload::Gzip { "gzip" } else { "plain" };
    let count = show(records as f64);
    let [ours, whole, with_gaps] = sides;
    for (theirs, beside) in [(whole, ""), (with_gaps, ", beside places with gaps")] {
        let variants = [format!("of {count}, {form}{beside}"), format!("of the same {count} again{beside}")];
        for (variant, (ours, theirs)) in variants.into_iter().zip(ours.iter().zip(theirs)) {
            let ours = Side::new(ours.clone()).context("it was measured")?;
            report.rows.push(Row::new("import", variant, "record", ours, Side::new(theirs)));
        }
    }
    Ok(())
}

/// An empty database with one user, to be copied for each round of each side.
fn prepare(bench: &Bench) -> anyhow::Result<()> {
    let postgres = bench.postgres()?;
    postgres.create("import_template")?;
    bench.program.migrate(&postgres.url("import_template"))?;
    let values = [("users", "1".to_owned()), ("issuer", ISSUER.to_owned())];
    let accounts =
        script(bench.folder.path(), "accounts.sql", include_str!("../../sql/accounts.sql"), &values)?;
    postgres.run("import_template", &accounts).map(drop)
}

async fn by_us(bench: &Bench, files: &Files) -> anyhow::Result<Vec<Sample>> {
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
            "the import came out otherwise: {counts}"
        );
        samples.push(sample(files, elapsed, after.since(before)));
        postgres.checkpoint()?;
    }
    server.stop()?;
    postgres.drop("import_ours")?;
    Ok(samples)
}

/// From the first byte sent until it is completed; the counts.
async fn import(bench: &Bench, server: &Server, file: &Path, id: &str) -> anyhow::Result<(Duration, Value)> {
    let token = bench.tokens.first().context("there are users")?;
    let mut connection = Connection::open(server.address).await?;
    let bytes = std::fs::read(file)?;
    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) { \
        importJob { state } problem { code detail } } }";
    let input = json!({ "id": id, "format": "NDJSON", "sizeBytes": bytes.len() });
    let data = connection.ask(token, query, json!({ "input": input })).await?;
    ensure!(data["createImport"]["importJob"]["state"] == "AWAITING_UPLOAD", "{data}");

    let begun = Instant::now();
    connection.send(&http::put(token, id, bytes.len() as u64)).await?;
    for part in bytes.chunks(PART_BYTES) {
        connection.send(part).await?;
    }
    let answer = connection.answer().await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
    let query = "query($id: ID!) { importJob(id: $id) { state problem { code detail } \
        counts { inserted duplicates differing deleted rejected } } }";
    loop {
        let mut data = connection.ask(token, query, json!({ "id": id })).await?;
        let job = data["importJob"].take();
        match job["state"].as_str() {
            Some("COMPLETED") => return Ok((begun.elapsed(), job["counts"].clone())),
            Some("QUEUED" | "RUNNING") => tokio::time::sleep(POLL).await,
            _ => anyhow::bail!("the import ends otherwise: {job}"),
        }
    }
}

fn by_hand(bench: &Bench, files: &Files, places: Places) -> anyhow::Result<Vec<Sample>> {
    let postgres = bench.postgres()?;
    postgres.copy("import_template", "import_copy")?;
    let (place, numbering) = match places {
        Places::Whole => ("-n", NUMBER.replace("{user_id}", USER_ID)),
        Places::WithGaps => (":head + n", String::new()),
    };
    let values = IMPORT_IDS.map(|id| {
        [
            ("place", place.to_owned()),
            ("numbering", numbering.clone()),
            ("file", files.rows.to_string_lossy().into_owned()),
            ("user_id", USER_ID.to_owned()),
            ("import_id", id.to_owned()),
            ("first_ms", FIRST_MS.to_string()),
        ]
    });
    let mut samples = Vec::new();
    for (values, found) in values.iter().zip(["0", &files.records.to_string()]) {
        let work = script(bench.folder.path(), "load.sql", LOAD, values)?;
        ensure!(postgres.query("import_copy", "SELECT count(*) FROM event")? == found, "what was found");
        postgres.checkpoint()?;
        let (begun, before) = (Instant::now(), spent(postgres, None)?);
        postgres.run("import_copy", &work)?;
        let (elapsed, after) = (begun.elapsed(), spent(postgres, None)?);
        samples.push(sample(files, elapsed, after.since(before)));
    }
    let head = postgres.query("import_copy", "SELECT feed_head FROM account")?;
    ensure!(head == files.records.to_string(), "each record has one place: {head}");
    postgres.drop("import_copy")?;
    Ok(samples)
}

fn spent(postgres: &Postgres, server: Option<&Server>) -> anyhow::Result<Spent> {
    Ok(Spent {
        server: server.map(Server::cpu).transpose()?,
        postgres: postgres.cpu()?,
        client: process::cpu_of_clients()?,
    })
}

fn sample(files: &Files, elapsed: Duration, spent: Spent) -> Sample {
    Sample::new(usize::try_from(files.records).unwrap_or(usize::MAX), elapsed, Vec::new(), spent)
}
