//! The processing of an import, followed from outside until it ends. Its progress comes as a subscription;
//! where that breaks, the import is asked for, so that no end is missed.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{HumanDuration, ProgressBar};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::bar::{self, SHARE_PARTS};
use super::remote::{Failure, Problem, Remote};

const POLL: Duration = Duration::from_millis(500);
/// How long the server may be away before waiting for it ends.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Subscriptions in a row that brought nothing, behind which the import is only asked for.
const FRUITLESS_MAX: u32 = 3;

/// The import as the server tells it.
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    import_progress: Job,
}

/// Why a record was rejected, or what of it differs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rejection {
    pub(super) record: u64,
    pub(super) line: Option<u64>,
    pub(super) code: String,
    pub(super) detail: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasons {
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

/// The first rejections of an import; none if the server cannot be asked for the moment.
pub(super) async fn rejections(remote: &Remote, id: Uuid) -> Vec<Rejection> {
    let query = "query Reasons($id: ID!) { importJob(id: $id) { rejections(first: 100) { nodes { record line code detail } } } }";
    let asked: Result<Reasons, Failure> = remote.graphql(query, json!({ "id": id.to_string() })).await;
    asked.ok().and_then(|reasons| reasons.import_job).map_or_else(Vec::new, |job| job.rejections.nodes)
}

const FIELDS: &str = "id state format dryRun counts { records inserted duplicates differing deleted rejected } \
    recordsTotal progress ratePerSecond etaSeconds problem { code detail }";

/// The job as it is now; a server that is away for a moment is waited for.
pub(super) async fn ask_once(remote: &Remote, id: Uuid) -> anyhow::Result<Job> {
    let query = format!("query Job($id: ID!) {{ importJob(id: $id) {{ {FIELDS} }} }}");
    let mut away_since: Option<Instant> = None;
    loop {
        let answer: Result<Answer, Failure> = remote.graphql(&query, json!({ "id": id.to_string() })).await;
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
    let mut eye = Eye { bar: bar::share("storing"), state: String::new() };
    let mut fruitless = 0;
    loop {
        let job = ask_once(remote, id).await?;
        if eye.sees_end(&job, id)? {
            return Ok(job);
        }
        if fruitless < FRUITLESS_MAX {
            let mut events = 0;
            match follow(remote, id, &mut eye, &mut events).await? {
                Some(job) => return Ok(job),
                None if events == 0 => fruitless += 1,
                None => fruitless = 0,
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Follows the job by a subscription: it, once it has ended; none when the stream broke before. Counts
/// what came.
async fn follow(remote: &Remote, id: Uuid, eye: &mut Eye, events: &mut u64) -> anyhow::Result<Option<Job>> {
    let query = format!("subscription Progress($id: ID!) {{ importProgress(id: $id) {{ {FIELDS} }} }}");
    // Why it broke does not matter: what lasts is met when the import is asked for.
    let Ok(mut follower) = remote.follow(&query, json!({ "id": id.to_string() })).await else {
        return Ok(None);
    };
    while let Ok(Some(Progress { import_progress: job })) = follower.next().await {
        *events += 1;
        if eye.sees_end(&job, id)? {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// What is shown of a job, and the state it was last seen in.
struct Eye {
    bar: ProgressBar,
    state: String,
}

impl Eye {
    /// Shows the job; whether it has ended.
    fn sees_end(&mut self, job: &Job, id: Uuid) -> anyhow::Result<bool> {
        match job.state.as_str() {
            "COMPLETED" | "FAILED" | "CANCELED" | "ROLLED_BACK" => {
                self.bar.finish_and_clear();
                return Ok(true);
            }
            "AWAITING_UPLOAD" => {
                self.bar.finish_and_clear();
                let why = job.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
                bail!("the server waits for bytes{why}: run the same command with --id {id}")
            }
            state if state != self.state => {
                match state {
                    "PAUSED" => self.say("paused; waiting until somebody resumes it (resumeImport)"),
                    "ROLLING_BACK" => self.say("somebody takes it back (rollbackImport)"),
                    _ if self.state == "PAUSED" => self.say("it goes on"),
                    _ => {}
                }
                state.clone_into(&mut self.state);
            }
            _ => {}
        }
        self.show(job);
        Ok(false)
    }

    fn say(&self, words: &str) {
        self.bar.suspend(|| eprintln!("{words}"));
    }

    fn show(&self, job: &Job) {
        self.bar.set_position((job.progress.clamp(0.0, 1.0) * SHARE_PARTS as f64) as u64);
        let total = job.records_total.map(|total| format!("/{total}")).unwrap_or_default();
        let rate = job.rate_per_second.map(|rate| format!(", {rate:.0}/s")).unwrap_or_default();
        let left = job.eta_seconds.and_then(|eta| Duration::try_from_secs_f64(eta).ok());
        let left = left.map(|left| format!(", {} left", HumanDuration(left))).unwrap_or_default();
        let state = job.state.to_lowercase().replace('_', " ");
        self.bar.set_message(format!("{state}: {}{total} records{rate}{left}", job.counts.records));
    }
}
