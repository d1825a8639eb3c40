//! Measures an idle server: start time, memory and binary size.

use std::process::Command;
use std::time::Duration;

use crate::Bench;
use crate::measure::median;
use crate::report::Fact;

/// How long the server runs before its memory is read.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// `idle`: on SQLite, first in a new directory and then in the same one again.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Fact>> {
    let (mut fresh_ms, mut again_ms, mut resident_mib) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        let folder = tempfile::tempdir_in(bench.folder.path())?;
        let server = bench.program.serve(folder.path(), None).await?;
        fresh_ms.push(server.ready_after.as_secs_f64() * 1_000.0);
        server.stop()?;
        let server = bench.program.serve(folder.path(), None).await?;
        again_ms.push(server.ready_after.as_secs_f64() * 1_000.0);
        tokio::time::sleep(IDLE_TIME).await;
        resident_mib.push(mib(server.resident_bytes()?));
        server.stop()?;
    }
    let fact = |name: &str, value: f64, unit: &'static str| Fact {
        scenario: "idle",
        name: name.to_owned(),
        value,
        unit,
    };
    let mut facts = vec![
        fact("from start to ready, new directory, SQLite", median(fresh_ms), "ms"),
        fact("from start to ready, existing directory, SQLite", median(again_ms), "ms"),
        fact("resident memory after 5 s", median(resident_mib), "MiB"),
        fact("binary as built", mib(bench.program.path().metadata()?.len()), "MiB"),
    ];
    let stripped = bench.folder.path().join("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(bench.program.path()).status();
    if strip.is_ok_and(|status| status.success()) {
        facts.push(fact("binary stripped", mib(stripped.metadata()?.len()), "MiB"));
    }
    Ok(facts)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
