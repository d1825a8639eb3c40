//! `idem import`: uploads a file to a server and waits until it is stored. The command can be repeated: the
//! same id with the same file continues where it was interrupted.

mod args;
mod bar;
mod follow;
mod preview;
pub(crate) mod remote;
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

/// Exit code of `idem import` if some records were rejected, or are stored already with other content. All
/// others are stored.
const EXIT_REJECTED: u8 = 2;

/// The most different reasons for rejections that are printed.
const REASONS_SHOWN_MAX: usize = 5;

/// The most attempts to create the import on the server before the command fails.
const CREATE_ATTEMPTS_MAX: u32 = 4;
/// Exit code after Ctrl-C: 128 and the number of SIGINT, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;

/// `idem import`: uploads the file and, without `--no-wait`, waits until the import has ended. With
/// `--preview` it only shows how the file would be read. The result goes to stdout, everything else to
/// stderr.
///
/// Exit code 0: all records are stored; 2: some were rejected or differ; 1: the import failed; 130:
/// interrupted.
///
/// # Errors
/// If the file cannot be read, the server refuses the import, or the server cannot be reached for too long.
pub async fn run_import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    if args.preview {
        return preview::run_preview(args).await;
    }
    let id = args.id.unwrap_or_else(|| Clock::System.new_id());
    let is_uploaded = Cell::new(false);
    tokio::select! {
        done = import_file(args, id, &is_uploaded) => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot wait for Ctrl-C")?;
            let state = if is_uploaded.get() {
                "the file is uploaded and the server continues the import; to see how it ends"
            } else {
                "the server keeps what is uploaded; to continue"
            };
            eprintln!("interrupted: {state}, run the same command with --id {id}");
            Ok(ExitCode::from(EXIT_INTERRUPTED))
        }
    }
}

/// Creates the import, uploads the file, waits until it is stored unless `--no-wait` is given, and prints the
/// result. Sets `is_uploaded` once the server has the whole file.
async fn import_file(args: &ImportArgs, id: Uuid, is_uploaded: &Cell<bool>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let remote = Remote::new(&args.url, &args.token)?;
    let given_format = args.format;
    let path = args.file.clone();
    let has_columns = args.csv.timestamp_column.is_some();
    let format =
        run_blocking(args, move || given_format.map_or_else(|| sniff::detect_format(&path, has_columns), Ok))
            .await?;
    let csv = args.csv.mapping_to_send(format).with_context(|| args.file.display().to_string())?;
    eprintln!(
        "import {id} ({}): to continue it later, run the same command with --id {id}",
        format.display_name()
    );
    let path = args.file.clone();
    let (size, sha256) = run_blocking(args, move || measure_and_hash_file(&path)).await?;

    let created =
        create_or_find_import(&remote, &build_create_import_input(args, id, format, csv, size, &sha256))
            .await?;
    if created.state == "AWAITING_UPLOAD" {
        let target = created.upload.context("the server returned no upload URL")?;
        upload::upload_file(&remote, &args.file, &target.url, size).await?;
    }
    is_uploaded.set(true);
    let job = if args.no_wait {
        watch::query_import(&remote, id).await?
    } else {
        watch::wait_until_done(&remote, id).await?
    };
    let has_rejections = job.counts.rejected + job.counts.differing > 0;
    let rejections = if has_rejections { watch::query_rejections(&remote, id).await } else { Vec::new() };
    print_result(&job, &rejections, args, started.elapsed().as_secs_f64())?;
    Ok(result_exit_code(&job, args.no_wait))
}

/// Runs `read` on a thread for blocking work, so that Ctrl-C is still noticed.
async fn run_blocking<T: Send + 'static>(
    args: &ImportArgs,
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done =
        tokio::task::spawn_blocking(read).await.context("the thread that reads the file has failed")?;
    done.with_context(|| format!("cannot read {}", args.file.display()))
}

/// The size in bytes and the SHA-256 in hexadecimal of a file, which is read once.
fn measure_and_hash_file(path: &Path) -> anyhow::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "it is not a regular file");
    let bar = bar::new_bytes_bar("reading", metadata.len());
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
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

/// The input of `createImport`. It is the same each time the same command is run.
fn build_create_import_input(
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

/// Creates the import on the server, or returns the one that was created with the same id and input before.
async fn create_or_find_import(remote: &Remote, input: &Value) -> anyhow::Result<CreatedJob> {
    let payload = call_create_import(remote, input).await?.create_import;
    if let Some(problem) = payload.problem {
        bail!("the server refuses the import: {problem}");
    }
    payload.import_job.context("the server returned neither an import nor a problem")
}

/// Calls `createImport`, and repeats the call after a temporary failure. That is safe, because the same id
/// never creates a second import.
async fn call_create_import(remote: &Remote, input: &Value) -> anyhow::Result<CreateImport> {
    let mut attempts = 1;
    loop {
        match remote.send_graphql(CREATE, json!({ "input": input })).await {
            Ok(created) => return Ok(created),
            Err(Failure::Temporary { wait, .. }) if attempts < CREATE_ATTEMPTS_MAX => {
                tokio::time::sleep(wait.max(upload::backoff_pause(attempts))).await;
                attempts += 1;
            }
            Err(failure) => return Err(failure.into_error()),
        }
    }
}

/// Prints the result on stdout. If records were rejected, prints the reasons and how to get the report on
/// stderr.
fn print_result(job: &Job, rejections: &[Rejection], args: &ImportArgs, seconds: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let problem = job.problem.as_ref().map(|it| json!({ "code": it.code, "detail": it.detail }));
        let line = json!({
            "id": job.id, "state": job.state, "format": job.format, "dryRun": job.dry_run,
            "counts": job.counts, "problem": problem, "seconds": seconds, "rejections": rejections,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{}", result_summary(job, seconds))?;
    }
    out.flush()?;
    if job.counts.rejected + job.counts.differing > 0 {
        print_rejection_reasons(rejections);
        let base = args.url.trim_end_matches('/');
        eprintln!(
            "the whole report: curl -H \"Authorization: Bearer $IDEM_TOKEN\" {base}/imports/{}/report",
            job.id
        );
    }
    Ok(())
}

/// Prints up to [`REASONS_SHOWN_MAX`] different reasons for rejections, each with the first record that has
/// it.
fn print_rejection_reasons(rejections: &[Rejection]) {
    let mut shown = Vec::new();
    for Rejection { record, line, code, detail } in rejections {
        let reason = (code, detail);
        if shown.contains(&reason) {
            continue;
        }
        if shown.len() == REASONS_SHOWN_MAX {
            eprintln!("  and more reasons");
            return;
        }
        shown.push(reason);
        let line = line.map_or(String::new(), |line| format!(", line {line}"));
        eprintln!("  record {record}{line}: {code}: {}", detail.trim_start_matches(": "));
    }
}

/// The result of an import in one line, for people.
fn result_summary(job: &Job, seconds: f64) -> String {
    let counts = &job.counts;
    let prefix = if job.dry_run { "dry run, nothing is stored, " } else { "" };
    let problem = job.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
    format!(
        "{prefix}{}{problem}: {} record{}, {} inserted, {} duplicate{}, {} differing, {} deleted, \
         {} rejected, {seconds:.1} s",
        job.state.to_lowercase().replace('_', " "),
        counts.records,
        plural_ending(counts.records),
        counts.inserted,
        counts.duplicates,
        plural_ending(counts.duplicates),
        counts.differing,
        counts.deleted,
        counts.rejected,
    )
}

fn plural_ending(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The exit code for the state of an import. With `no_wait`, one that has not ended yet is a success, because
/// the file is uploaded.
fn result_exit_code(job: &Job, no_wait: bool) -> ExitCode {
    match job.state.as_str() {
        "COMPLETED" if job.counts.rejected + job.counts.differing > 0 => ExitCode::from(EXIT_REJECTED),
        "COMPLETED" => ExitCode::SUCCESS,
        "QUEUED" | "RUNNING" | "PAUSED" if no_wait => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
