//! Clients that others wrote, from `tests/clients`, against a server in process.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::harness::{Bed, Column};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Installs the packages of the lock file, where they are not there or older than it.
async fn install() {
    let modified = |name: &str| fs::metadata(Path::new(DIR).join(name)).and_then(|file| file.modified()).ok();
    let locked = modified("package-lock.json").unwrap();
    if modified("node_modules/.package-lock.json").is_none_or(|installed| installed < locked) {
        run("npm", &["ci", "--no-audit", "--no-fund", "--ignore-scripts"], &[]).await;
    }
}

/// Runs a program in `tests/clients`; fails with what it said when it fails.
async fn run(program: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(DIR).envs(env.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap_or_else(|error| panic!("{program}: {error}: see `make test`"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}\n{said}\n{complained}");
    said.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_official_audit_of_graphql_over_http_passes() {
    INSTALLED.get_or_init(install).await;
    let bed = Bed::open(Column::Sqlite).await;
    let url = format!("{}/graphql", bed.url);
    let token = bed.client("ann").token;
    let said = run("node", &["audits.mjs"], &[("URL", url.as_str()), ("TOKEN", token.as_str())]).await;
    println!("{said}");
    bed.end().await;
}
