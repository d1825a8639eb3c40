//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures idem beside pgbench and plain SQL, which do the same work on the same private PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "idem-bench", after_help = EXAMPLES)]
pub struct Options {
    /// Only these
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    pub only: Vec<Scenario>,
    /// How long one measurement takes, behind a second to warm up
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// How often each side is measured in turn; told are the medians
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Records of the import
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub records: u64,
    /// How the file of the import is sent
    #[arg(long, value_enum, default_value_t = Payload::Gzip)]
    pub payload: Payload,
    /// Rows of the large table of `growth`; the small one has 100 000
    #[arg(long, default_value_t = 5_000_000, value_name = "N")]
    pub rows: u64,
    /// The program [default: idem beside this one]
    #[arg(long, value_name = "PATH")]
    pub idem: Option<PathBuf>,
    /// Where the figures go as JSON [default: target/bench.json]
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  make bench                                     everything
  make bench BENCH='--only create --seconds 10'
  idem-bench --only import --records 200000
  idem-bench --only growth --rows 1000000 --rounds 5";

/// How a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// As gzip -1 makes it
    Gzip,
    /// As it is
    Plain,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One event a call
    Create,
    /// A hundred events a call
    Batch,
    /// Events that are there already
    Duplicates,
    /// The newest fifty
    Page,
    /// Five hundred entries of the feed
    Pull,
    /// A file, twice
    Import,
    /// Start, memory, size
    Idle,
    /// A small table and a large one
    Growth,
    /// One event a call, on SQLite
    Sqlite,
    /// A user beside one who floods
    Flood,
    /// A thousand users at random, a million events before, with external ids
    Phones,
}

impl Options {
    /// The scenarios of this run, in their order.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(|scenario| self.only.is_empty() || self.only.contains(scenario)).collect()
    }
}
