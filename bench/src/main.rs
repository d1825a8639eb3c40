//! Measures `idem` as its users start it. For each kind of work, pgbench or plain SQL does the same work on
//! the same private PostgreSQL in the same run, in turn with `idem`.
//!
//! The benchmark uses none of the crates that it measures. It speaks HTTP to the program and SQL to the
//! database.

mod content;
mod http;
mod load;
mod machine;
mod measure;
mod options;
mod peer;
mod pgbench;
mod postgres;
mod process;
mod records;
mod report;
mod rusqlite;
mod scenario;
mod server;
mod stage;

use std::cell::OnceCell;

use anyhow::{Context, bail};
use clap::Parser;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use content::Numbers;
use machine::Machine;
use options::Options;
use postgres::Postgres;
use report::Report;
use server::Program;

/// The largest number of users that have one connection each.
const USERS: usize = 64;
/// Users that have a token. No scenario has more users.
const TOKENS: usize = 1_000;

/// What all scenarios share.
struct Bench {
    options: Options,
    program: Program,
    postgres: OnceCell<Postgres>,
    folder: TempDir,
    tokens: Vec<String>,
    numbers: Numbers,
}

impl Bench {
    fn prepare(options: Options) -> anyhow::Result<Self> {
        let program = Program::find(options.idem.clone())?;
        let tokens = (1..=TOKENS).map(|n| program.token(&format!("u{n}"))).collect::<Result<_, _>>()?;
        let folder = tempfile::tempdir()?;
        Ok(Self { options, program, postgres: OnceCell::new(), folder, tokens, numbers: Numbers::new() })
    }

    /// The private PostgreSQL, which is started when a scenario first needs it.
    fn postgres(&self) -> anyhow::Result<&Postgres> {
        if self.postgres.get().is_none() {
            let _unset = self.postgres.set(Postgres::start()?);
        }
        self.postgres.get().context("PostgreSQL was just started")
    }
}

/// A single thread makes the load, so that the other processors are left to what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    // If it is interrupted, it still stops the servers that it has started and removes its directory.
    tokio::select! {
        done = measure(options) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn measure(options: Options) -> anyhow::Result<()> {
    let json = match &options.json {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("../bench.json"),
    };
    let machine = Machine::describe()?;
    let bench = Bench::prepare(options)?;
    let mut report = Report {
        machine,
        versions: vec![("idem".to_owned(), bench.program.version()?)],
        seconds: bench.options.seconds,
        rounds: bench.options.rounds,
        rows: Vec::new(),
        facts: Vec::new(),
    };
    for scenario in bench.options.scenarios() {
        eprintln!("{scenario:?}");
        scenario::run(&bench, scenario, &mut report).await.with_context(|| format!("{scenario:?}"))?;
        // The figures so far are kept even if a later scenario fails.
        std::fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(postgres) = bench.postgres.get() {
        report.versions.extend(postgres.settings()?);
    }
    std::fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    println!("{}", report.table()?);
    Ok(())
}
