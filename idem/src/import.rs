//! `idem import`: sends a file to a server and waits until it is stored. Everything can be done again: the
//! same id with the same file goes on where it was.

mod args;
mod bar;
mod follow;
mod preview;
mod remote;
mod sniff;
mod upload;
mod watch;

pub use self::args::ImportArgs;

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use service::Clock;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::args::ImportFormat;
use self::remote::{Failure, Problem, Remote};
use self::watch::{Job, Rejection};

/// Some records were rejected, or are stored with other content; the others are in.
const EXIT_REJECTED: u8 = 2;

/// Of the reasons why records were rejected, so many are told.
const REASONS_TOLD_MAX: usize = 5;

/// How often an import is announced before the server counts as away.
const CREATE_TRIES_MAX: u32 = 4;
/// Ended by Ctrl-C, as shells count it.
const EXIT_INTERRUPTED: u8 = 130;

/// Sends the file and, unless told otherwise, waits for its end. The result goes to stdout, all else to
/// stderr.
/// Exit code 0: all in; 2: some records rejected or differing; 1: the import failed; 130: interrupted.
///
/// # Errors
/// When the file cannot be read, the server refuses the import, or it cannot be reached for long.
pub async fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    if args.preview {
        return preview::run(args).await;
    }
    let id = args.id.unwrap_or_else(|| Clock::System.new_id());
    let has_arrived = Cell::new(false);
    tokio::select! {
        done = send(args, id, &has_arrived) => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("signals cannot be heard")?;
            let left = if has_arrived.get() {
                "the file is there and the import goes on by itself; to see its end"
            } else {
                "what has arrived stays there; to go on"
            };
            eprintln!("interrupted: {left}, run the same command with --id {id}");
            Ok(ExitCode::from(EXIT_INTERRUPTED))
        }
    }
}

async fn send(args: &ImportArgs, id: Uuid, has_arrived: &Cell<bool>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let remote = Remote::new(&args.url, &args.token)?;
    let said = args.format;
    let path = args.file.clone();
    let columns_are_named = args.csv.timestamp_column.is_some();
    let format =
        blocking(args, move || said.map_or_else(|| sniff::format(&path, columns_are_named), Ok)).await?;
    let csv = args.csv.mapping(format).with_context(|| args.file.display().to_string())?;
    eprintln!("import {id}, {}: to go on after a cut, run the same command with --id {id}", format.noun());
    let path = args.file.clone();
    let (size, sha256) = blocking(args, move || measure(&path)).await?;

    let created = create(&remote, &announcement(args, id, format, csv, size, &sha256)).await?;
    if created.state == "AWAITING_UPLOAD" {
        let target = created.upload.context("the server does not say where to send the file")?;
        upload::send(&remote, &args.file, &target.url, size).await?;
    }
    has_arrived.set(true);
    let job = if args.no_wait {
        watch::ask_once(&remote, id).await?
    } else {
        watch::until_done(&remote, id).await?
    };
    let has_rejections = job.counts.rejected + job.counts.differing > 0;
    let rejections = if has_rejections { watch::rejections(&remote, id).await } else { Vec::new() };
    report(&job, &rejections, args, started.elapsed().as_secs_f64())?;
    Ok(exit_code(&job, args.no_wait))
}

/// Reads the file in a thread where that holds nobody up.
async fn blocking<T: Send + 'static>(
    args: &ImportArgs,
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(read).await.context("reading the file was cut short")?;
    done.with_context(|| format!("cannot read {}", args.file.display()))
}

/// Size and SHA-256 of the file, read once in pieces.
fn measure(path: &Path) -> anyhow::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "it is not a regular file");
    let bar = bar::bytes("reading", metadata.len());
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        size += read as u64;
        bar.set_position(size);
    }
    bar.finish_and_clear();
    Ok((size, hex::encode(hash.finalize())))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateImport {
    create_import: CreatePayload,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatePayload {
    import_job: Option<CreatedJob>,
    problem: Option<Problem>,
}

#[derive(serde::Deserialize)]
struct CreatedJob {
    state: String,
    upload: Option<UploadTarget>,
}

#[derive(serde::Deserialize)]
struct UploadTarget {
    url: String,
}

const CREATE: &str = "mutation Create($input: CreateImportInput!) { createImport(input: $input) { \
    importJob { id state upload { url offset } } problem { code detail errors { pointer code detail } } } }";

/// What the server is told of the import; the same each time for the same command.
fn announcement(
    args: &ImportArgs,
    id: Uuid,
    format: ImportFormat,
    csv: Option<Value>,
    size: u64,
    sha256: &str,
) -> Value {
    let file_name = args.file.file_name().map(|name| name.to_string_lossy().into_owned());
    json!({
        "id": id.to_string(),
        "format": format.graphql_name(),
        "name": args.name.clone().or(file_name),
        "sizeBytes": size,
        "sha256": sha256,
        "csv": csv,
        "dryRun": args.dry_run,
    })
}

async fn create(remote: &Remote, input: &Value) -> anyhow::Result<CreatedJob> {
    let payload = ask_to_create(remote, input).await?.create_import;
    if let Some(problem) = payload.problem {
        bail!("the server refuses the import: {problem}");
    }
    payload.import_job.context("the server answers neither an import nor a problem")
}

/// The same id makes the same import: a call that was cut is made again.
async fn ask_to_create(remote: &Remote, input: &Value) -> anyhow::Result<CreateImport> {
    let mut tries = 1;
    loop {
        match remote.graphql(CREATE, json!({ "input": input })).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Passing { wait, .. }) if tries < CREATE_TRIES_MAX => {
                tokio::time::sleep(wait.max(upload::backoff(tries))).await;
                tries += 1;
            }
            Err(failure) => return Err(failure.into_error()),
        }
    }
}

fn report(job: &Job, rejections: &[Rejection], args: &ImportArgs, seconds: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let problem = job.problem.as_ref().map(|it| json!({ "code": it.code, "detail": it.detail }));
        let line = json!({
            "id": job.id, "state": job.state, "format": job.format, "dryRun": job.dry_run,
            "counts": job.counts, "problem": problem, "seconds": seconds, "rejections": rejections,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{}", sentence(job, seconds))?;
    }
    out.flush()?;
    if job.counts.rejected + job.counts.differing > 0 {
        explain(rejections);
        let base = args.url.trim_end_matches('/');
        eprintln!(
            "all of them, one a line: curl -H \"Authorization: Bearer $IDEM_TOKEN\" {base}/imports/{}/report",
            job.id
        );
    }
    Ok(())
}

/// Says of each reason once which record had it first.
fn explain(rejections: &[Rejection]) {
    let mut told = Vec::new();
    for Rejection { record, line, code, detail } in rejections {
        let reason = (code, detail);
        if told.contains(&reason) {
            continue;
        }
        if told.len() == REASONS_TOLD_MAX {
            eprintln!("  and other reasons");
            return;
        }
        told.push(reason);
        let line = line.map_or(String::new(), |line| format!(", line {line}"));
        eprintln!("  record {record}{line}: {code}: {}", detail.trim_start_matches(": "));
    }
}

fn sentence(job: &Job, seconds: f64) -> String {
    let counts = &job.counts;
    let kind = if job.dry_run { "dry run, nothing is stored, " } else { "" };
    let why = job.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
    format!(
        "{kind}{}{why}: {} records, {} inserted, {} duplicates, {} differing, {} deleted, \
         {} rejected, {seconds:.1} s",
        job.state.to_lowercase().replace('_', " "),
        counts.records,
        counts.inserted,
        counts.duplicates,
        counts.differing,
        counts.deleted,
        counts.rejected,
    )
}

/// Before the end, with `--no-wait`, what has arrived is a success.
fn exit_code(job: &Job, no_wait: bool) -> ExitCode {
    match job.state.as_str() {
        "COMPLETED" if job.counts.rejected + job.counts.differing > 0 => ExitCode::from(EXIT_REJECTED),
        "COMPLETED" => ExitCode::SUCCESS,
        "QUEUED" | "RUNNING" | "PAUSED" if no_wait => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
