//! Runs pgbench, with prepared statements, on a copy of the database for comparison.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::content::{FIRST_MS, NOTES, PROPERTIES, TYPE_ID};
use crate::measure::{Sample, Spent};
use crate::process;
use crate::stage::Stage;

/// The warm-up that rates and latencies leave out, as for idem.
const WARM_UP_US: u64 = 1_000_000;

/// A script that many connections run.
pub struct Work<'a> {
    /// The path of the script.
    pub script: &'a Path,
    /// The number of connections.
    pub connections: usize,
    /// The number of items that one transaction writes or reads.
    pub items: usize,
}

/// Runs pgbench for `seconds`, after a second of warm-up.
pub fn run(stage: &Stage<'_>, work: &Work<'_>, seconds: u64) -> anyhow::Result<Sample> {
    let logs = tempfile::tempdir()?;
    let before = spent(stage)?;
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2"])
        .args(["--client", &work.connections.to_string()])
        .args(["--time", &(seconds + 1).to_string()])
        .args(["--log", "--log-prefix", &logs.path().join("log").to_string_lossy()])
        .args(variables(work.items))
        .args(["--file", &work.script.to_string_lossy()])
        .arg(stage.url_of_copy())
        .stdin(Stdio::null())
        .output()
        .context("cannot start pgbench")?;
    let after = spent(stage)?;
    if !output.status.success() {
        bail!("pgbench: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut log = read_logs(logs.path())?;
    // The CPU time is that of the whole run, so only the window's share of all transactions counts.
    let total = log.len();
    let first =
        log.iter().map(|(ended, latency)| ended - latency).min().context("pgbench has run no transaction")?;
    let window = (first + WARM_UP_US)..=(first + WARM_UP_US + seconds * 1_000_000);
    log.retain(|(ended, _)| window.contains(ended));
    let share = log.len() as f64 / total as f64;
    let latencies_us: Vec<u64> = log.into_iter().map(|(_, latency)| latency).collect();
    let items = latencies_us.len() * work.items;
    let elapsed = Duration::from_secs(seconds);
    Ok(Sample::new(items, elapsed, latencies_us, after.since(before).times(share)))
}

fn spent(stage: &Stage<'_>) -> anyhow::Result<Spent> {
    Ok(Spent { server: None, postgres: stage.postgres_cpu()?, client: process::cpu_of_clients()? })
}

/// The parameters of the scripts: the same contents that idem gets.
fn variables(items: usize) -> Vec<String> {
    let array = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{{{}}}", vec![format!("\"{text}\""); items].join(","))
    };
    let values = [
        ("type_id", TYPE_ID.to_owned()),
        ("first_ms", FIRST_MS.to_string()),
        ("notes", NOTES.to_owned()),
        ("properties", PROPERTIES.to_owned()),
        ("hash", format!("\\x{}", "5a".repeat(32))),
        ("many_notes", array(NOTES)),
        ("many_properties", array(PROPERTIES)),
    ];
    values.into_iter().flat_map(|(name, value)| ["--define".to_owned(), format!("{name}={value}")]).collect()
}

/// The end and the duration of each transaction, in microseconds.
fn read_logs(folder: &Path) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut log = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        for line in std::fs::read_to_string(entry?.path())?.lines() {
            // The fields are: client, transaction, latency, script, end in seconds, microseconds of the end.
            let fields: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| -> anyhow::Result<u64> {
                Ok(fields.get(at).context("a line of pgbench's log has six fields")?.parse()?)
            };
            log.push((number(4)? * 1_000_000 + number(5)?, number(2)?));
        }
    }
    Ok(log)
}
