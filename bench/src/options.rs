//! Defines the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures idem and, for comparison, pgbench and plain SQL that do the same work on the same private
/// PostgreSQL
#[derive(Debug, Parser)]
#[command(name = "idem-bench", after_help = EXAMPLES)]
pub struct Options {
    /// Run only these scenarios [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    pub only: Vec<Scenario>,
    /// Seconds per measurement, after one second of warm-up
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// How often idem and its counterpart are measured in turn; the medians are reported
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Records in the file of the scenario `import`
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub records: u64,
    /// How that file is sent
    #[arg(long, value_enum, default_value_t = Payload::Gzip)]
    pub payload: Payload,
    /// Rows of the large table of the scenario `growth`; the small one has 100 000
    #[arg(long, default_value_t = 5_000_000, value_name = "N")]
    pub rows: u64,
    /// The idem binary [default: idem in the directory of this binary]
    #[arg(long, value_name = "PATH")]
    pub idem: Option<PathBuf>,
    /// File for the figures as JSON [default: target/bench.json]
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  make bench                                     all scenarios
  make bench BENCH='--only create --seconds 10'
  idem-bench --only import --records 200000
  idem-bench --only growth --rows 1000000 --rounds 5";

/// How the file of an import is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// Compressed, as by gzip -1
    Gzip,
    /// Not compressed
    Plain,
}

/// A kind of work that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Create one event per call
    Create,
    /// Create a hundred events per call
    Batch,
    /// Send events that are already stored
    Duplicates,
    /// Read the newest fifty events
    Page,
    /// Read five hundred entries of the change feed
    Pull,
    /// Import a file, and import it again
    Import,
    /// Start time, memory and binary size of an idle server
    Idle,
    /// Read and create over a small and a large table
    Growth,
    /// Create one event per call, and import a file twice, on SQLite
    Sqlite,
    /// Create events while another user floods the server
    Flood,
    /// Create and read for a thousand random users with external ids, over a million events
    Phones,
}

impl Options {
    /// The scenarios to run, in order.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(|scenario| self.only.is_empty() || self.only.contains(scenario)).collect()
    }
}
