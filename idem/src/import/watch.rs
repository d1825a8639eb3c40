//! Waits until the server has processed an import, and shows its progress. The progress comes from a
//! subscription. If that breaks, the import is queried, so that its end is never missed.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{HumanDuration, ProgressBar};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::bar::{self, FRACTION_STEPS};
use super::remote::{Failure, Problem, Remote};

/// How long to wait at least between two queries of the state of an import.
const POLL: Duration = Duration::from_millis(500);
/// How long queries of an import may fail temporarily before the command fails.
const UNREACHABLE_MAX: Duration = Duration::from_secs(120);
/// After this many subscriptions in a row without an event, the import is only queried.
const EMPTY_SUBSCRIPTIONS_MAX: u32 = 3;

/// The import as the server reports it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) format: String,
    pub(super) dry_run: bool,
    pub(super) counts: Counts,
    pub(super) records_total: Option<u64>,
    pub(super) progress: f64,
    pub(super) rate_per_second: Option<f64>,
    pub(super) eta_seconds: Option<f64>,
    pub(super) problem: Option<Problem>,
}

/// How many records of an import were processed, and how many of them had which outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) inserted: u64,
    pub(super) duplicates: u64,
    pub(super) differing: u64,
    pub(super) deleted: u64,
    pub(super) rejected: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobData {
    import_job: Option<Job>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProgressData {
    import_progress: Job,
}

/// Why a record of an import was rejected, or how it differs from the stored event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rejection {
    pub(super) record: u64,
    pub(super) line: Option<u64>,
    pub(super) code: String,
    pub(super) detail: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RejectionsData {
    import_job: Option<Rejections>,
}

#[derive(Deserialize)]
struct Rejections {
    rejections: Nodes,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<Rejection>,
}

/// Queries the first 100 rejections of an import. The list is empty if the query fails.
pub(super) async fn query_rejections(remote: &Remote, id: Uuid) -> Vec<Rejection> {
    let query = "query Reasons($id: ID!) { importJob(id: $id) { rejections(first: 100) { nodes { record line code detail } } } }";
    let data: Result<RejectionsData, Failure> =
        remote.send_graphql(query, json!({ "id": id.to_string() })).await;
    data.ok().and_then(|data| data.import_job).map_or_else(Vec::new, |job| job.rejections.nodes)
}

const FIELDS: &str = "id state format dryRun counts { records inserted duplicates differing deleted rejected } \
    recordsTotal progress ratePerSecond etaSeconds problem { code detail }";

/// Queries the present state of an import. Repeats the query for up to [`UNREACHABLE_MAX`] while failures are
/// temporary.
///
/// # Errors
/// If the server has no such import, a failure is permanent, or the server cannot be reached for too long.
pub(super) async fn query_import(remote: &Remote, id: Uuid) -> anyhow::Result<Job> {
    let document = format!("query Job($id: ID!) {{ importJob(id: $id) {{ {FIELDS} }} }}");
    let mut unreachable_since: Option<Instant> = None;
    loop {
        let data: Result<JobData, Failure> =
            remote.send_graphql(&document, json!({ "id": id.to_string() })).await;
        let (error, wait) = match data {
            Ok(data) => return data.import_job.with_context(|| format!("the server has no import {id}")),
            Err(Failure::Temporary { error, wait }) => (error, wait),
            Err(Failure::Permanent(error)) => return Err(error),
        };
        if unreachable_since.get_or_insert_with(Instant::now).elapsed() > UNREACHABLE_MAX {
            return Err(error.context(format!(
                "the server cannot be reached; the import may continue there: to see how it ends, \
                 run the same command with --id {id}"
            )));
        }
        tokio::time::sleep(wait.max(POLL)).await;
    }
}

/// Waits until the import has ended, and returns it. Shows its progress meanwhile.
///
/// # Errors
/// As [`query_import`], and if the server needs the file again.
pub(super) async fn wait_until_done(remote: &Remote, id: Uuid) -> anyhow::Result<Job> {
    let mut display = Display { bar: bar::new_fraction_bar("storing"), state: String::new() };
    let mut empty_subscriptions = 0;
    loop {
        let job = query_import(remote, id).await?;
        if display.show_and_check_ended(&job, id)? {
            return Ok(job);
        }
        if empty_subscriptions < EMPTY_SUBSCRIPTIONS_MAX {
            let mut events = 0;
            match follow_subscription(remote, id, &mut display, &mut events).await? {
                Some(job) => return Ok(job),
                None if events == 0 => empty_subscriptions += 1,
                None => empty_subscriptions = 0,
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Follows the import by one subscription. Returns it once it has ended, or `None` if the subscription fails
/// or ends before. `events` counts the responses of the subscription.
async fn follow_subscription(
    remote: &Remote,
    id: Uuid,
    display: &mut Display,
    events: &mut u64,
) -> anyhow::Result<Option<Job>> {
    let document = format!("subscription Progress($id: ID!) {{ importProgress(id: $id) {{ {FIELDS} }} }}");
    // The error is not needed: a permanent failure also shows when the import is queried.
    let Ok(mut subscription) = remote.subscribe(&document, json!({ "id": id.to_string() })).await else {
        return Ok(None);
    };
    while let Ok(Some(ProgressData { import_progress: job })) = subscription.next_data().await {
        *events += 1;
        if display.show_and_check_ended(&job, id)? {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// The progress bar of an import, and the state that was shown last.
struct Display {
    bar: ProgressBar,
    state: String,
}

impl Display {
    /// Shows the progress of the import, and prints a line if its state has changed. Returns whether it has
    /// ended.
    ///
    /// # Errors
    /// If the import waits for its upload, so that the server needs the file again.
    fn show_and_check_ended(&mut self, job: &Job, id: Uuid) -> anyhow::Result<bool> {
        match job.state.as_str() {
            "COMPLETED" | "FAILED" | "CANCELED" | "ROLLED_BACK" => {
                self.bar.finish_and_clear();
                return Ok(true);
            }
            "AWAITING_UPLOAD" => {
                self.bar.finish_and_clear();
                let problem = job.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
                bail!("the server needs the file again{problem}: run the same command with --id {id}")
            }
            state if state != self.state => {
                match state {
                    "PAUSED" => {
                        self.print_above_bar("paused: waiting until the mutation resumeImport resumes it")
                    }
                    "ROLLING_BACK" => {
                        self.print_above_bar("rolling back: the mutation rollbackImport was called")
                    }
                    _ if self.state == "PAUSED" => self.print_above_bar("resumed"),
                    _ => {}
                }
                state.clone_into(&mut self.state);
            }
            _ => {}
        }
        self.update_bar(job);
        Ok(false)
    }

    /// Prints a line on stderr above the progress bar.
    fn print_above_bar(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn update_bar(&self, job: &Job) {
        self.bar.set_position((job.progress.clamp(0.0, 1.0) * FRACTION_STEPS as f64) as u64);
        let total = job.records_total.map(|total| format!("/{total}")).unwrap_or_default();
        let rate = job.rate_per_second.map(|rate| format!(", {rate:.0}/s")).unwrap_or_default();
        let left = job.eta_seconds.and_then(|eta| Duration::try_from_secs_f64(eta).ok());
        let left = left.map(|left| format!(", {} left", HumanDuration(left))).unwrap_or_default();
        let state = job.state.to_lowercase().replace('_', " ");
        self.bar.set_message(format!("{state}: {}{total} records{rate}{left}", job.counts.records));
    }
}
