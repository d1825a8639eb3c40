//! The processing of an import, looked at from outside until it ends.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::bar::{self, SHARE_PARTS};
use super::remote::{Failure, Problem, Remote};

const POLL: Duration = Duration::from_millis(500);
/// How long the server may be away before waiting for it ends.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// The import as the server tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) counts: Counts,
    pub(super) records_total: Option<u64>,
    pub(super) progress: f64,
    pub(super) rate_per_second: Option<f64>,
    pub(super) eta_seconds: Option<f64>,
    pub(super) problem: Option<Problem>,
}

/// What became of its records.
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
struct Answer {
    import_job: Option<Job>,
}

const QUERY: &str = "query Job($id: ID!) { importJob(id: $id) { id state \
    counts { records inserted duplicates differing deleted rejected } \
    recordsTotal progress ratePerSecond etaSeconds problem { code detail } } }";

/// The job as it is now; a server that is away for a moment is waited for.
pub(super) async fn ask_once(remote: &Remote, id: Uuid) -> anyhow::Result<Job> {
    let mut away_since: Option<Instant> = None;
    loop {
        let answer: Result<Answer, Failure> = remote.graphql(QUERY, json!({ "id": id.to_string() })).await;
        let (error, wait) = match answer {
            Ok(answer) => return answer.import_job.context("the server knows no such import"),
            Err(Failure::Passing { error, wait }) => (error, wait),
            Err(Failure::Lasting(error)) => return Err(error),
        };
        if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_MAX {
            return Err(error.context("the server is away; the import may still go on there"));
        }
        tokio::time::sleep(wait.max(POLL)).await;
    }
}

/// The job once it has ended.
pub(super) async fn until_done(remote: &Remote, id: Uuid) -> anyhow::Result<Job> {
    let bar = bar::share("storing");
    loop {
        let job = ask_once(remote, id).await?;
        match job.state.as_str() {
            "COMPLETED" | "FAILED" | "CANCELED" | "ROLLING_BACK" | "ROLLED_BACK" => {
                bar.finish_and_clear();
                return Ok(job);
            }
            "AWAITING_UPLOAD" => {
                bail!("the server still waits for bytes: run the same command with --id {id}")
            }
            _ => show(&bar, &job),
        }
        tokio::time::sleep(POLL).await;
    }
}

fn show(bar: &ProgressBar, job: &Job) {
    bar.set_position((job.progress.clamp(0.0, 1.0) * SHARE_PARTS as f64) as u64);
    let total = job.records_total.map(|total| format!("/{total}")).unwrap_or_default();
    let rate = job.rate_per_second.map(|rate| format!(", {rate:.0}/s")).unwrap_or_default();
    let left = job.eta_seconds.map(|eta| format!(", {eta:.0} s left")).unwrap_or_default();
    let state = job.state.to_lowercase();
    bar.set_message(format!("{state}: {}{total} records{rate}{left}", job.counts.records));
}
