//! Runs the tests of third-party client libraries in `tests/clients` against a server in this process, and those of
//! the client kit in `clients/typescript`, which start servers of their own.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::harness::{DatabaseKind, SECRET, TestServer, servers};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
const KITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients");

static INSTALLED: OnceCell<()> = OnceCell::const_new();
static KITS_INSTALLED: OnceCell<()> = OnceCell::const_new();

async fn install() {
    install_in(DIR).await;
}

/// Installs the packages of the lock file, unless they are installed and newer than it.
async fn install_in(dir: &str) {
    let modified = |name: &str| fs::metadata(Path::new(dir).join(name)).and_then(|file| file.modified()).ok();
    let locked = modified("package-lock.json").unwrap();
    if modified("node_modules/.package-lock.json").is_none_or(|installed| installed < locked) {
        run_in(dir, "npm", &["ci", "--no-audit", "--no-fund", "--ignore-scripts"], &[]).await;
    }
}

/// The directory of the Node that the lock file brings, because the one of Debian is too old for some clients.
fn node_bin(dir: &str) -> String {
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    format!("{dir}/node_modules/node-linux-{machine}/bin")
}

async fn run(program: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    run_in(DIR, program, args, env).await
}

/// Runs a program with the Node of a directory's lock file. Returns its output, or fails with the output if the
/// program fails.
async fn run_in(dir: &str, program: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let path = format!("{}:{}", node_bin(dir), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command
        .env("PATH", path)
        .args(args)
        .current_dir(dir)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.unwrap_or_else(|error| panic!("{program}: {error}: see `make test`"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Runs a file of Node tests against a new server.
async fn run_tests(file: &str, env: &[(&str, &str)]) {
    let test_server = TestServer::open(DatabaseKind::Sqlite).await;
    run_tests_on(&test_server, file, env).await;
    test_server.end().await;
}

async fn run_tests_on(test_server: &TestServer, file: &str, env: &[(&str, &str)]) {
    run_node(&test_server.url, file, env).await;
}

/// Runs a file of Node tests against the server at `url`. A file without tests, or with a skipped test, fails
/// here, as Node itself would report success.
pub async fn run_node(url: &str, file: &str, env: &[(&str, &str)]) {
    INSTALLED.get_or_init(install).await;
    let mut all = vec![("IDEM_URL", url), ("IDEM_SECRET", SECRET)];
    all.extend_from_slice(env);
    let args = ["--test", "--test-reporter=tap", "--test-timeout=60000", file];
    let output = run("node", &args, &all).await;
    println!("{output}");
    let count = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(&format!("# {name} ")));
        line.unwrap_or_else(|| panic!("no count of {name}: {output}")).parse::<u32>().unwrap()
    };
    assert!(count("pass") > 0 && count("pass") == count("tests"), "not every test ran: {output}");
}

/// Serves requests by which the Node tests control the database. `/backup` copies all tables and `/restore`
/// puts the copies back. Every other path than `/backup` also starts a new generation, as an operator does
/// after a restore.
async fn serve_restores(test_server: &TestServer, listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let request = String::from_utf8_lossy(&head[..length]).into_owned();
        for table in ["event", "event_type", "id_alias", "account"] {
            if request.starts_with("GET /backup") {
                test_server.execute(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
            } else if request.starts_with("GET /restore") {
                test_server.execute(&format!("DELETE FROM {table}")).await;
                test_server.execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
            }
        }
        if !request.starts_with("GET /backup") {
            test_server.execute("UPDATE cluster_state SET generation = generation + 1").await;
        }
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(response).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_official_audit_of_graphql_over_http_passes() {
    INSTALLED.get_or_init(install).await;
    let test_server = TestServer::open(DatabaseKind::Sqlite).await;
    let url = format!("{}/graphql", test_server.url);
    let token = test_server.client("ann").token;
    let output = run("node", &["audits.mjs"], &[("URL", url.as_str()), ("TOKEN", token.as_str())]).await;
    println!("{output}");
    test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_4_caches_pages_retries_and_rolls_back() {
    run_tests("apollo.mjs", &[("APOLLO", "4")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_3_caches_pages_retries_and_rolls_back() {
    run_tests("apollo.mjs", &[("APOLLO", "3")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_4_sends_a_query_in_full_once() {
    run_tests("apollo-persisted.mjs", &[("APOLLO", "4")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_3_sends_a_query_in_full_once() {
    run_tests("apollo-persisted.mjs", &[("APOLLO", "3")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_4_follows_the_feed_past_cuts() {
    run_tests("apollo-subscriptions.mjs", &[("APOLLO", "4")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_3_follows_the_feed_past_cuts() {
    run_tests("apollo-subscriptions.mjs", &[("APOLLO", "3")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_ws_goes_on_after_a_cut_and_sees_every_close_code() {
    run_tests("sockets.mjs", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_sse_goes_on_after_a_cut() {
    run_tests("streams.mjs", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_codegen_and_the_relay_compiler_take_the_schema() {
    run_tests("generate.mjs", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_and_the_commands_of_the_manual_do_what_it_says() {
    let test_server = TestServer::open(DatabaseKind::Sqlite).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let env = [("IDEM_RESTORE_URL", url.as_str())];
    tokio::select! {
        () = serve_restores(&test_server, listener) => unreachable!("it serves until the tests are over"),
        () = run_tests_on(&test_server, "manual.mjs", &env) => {}
    }
    test_server.end().await;
}

fn is_full() -> bool {
    std::env::var_os("TESTS_FULL").is_some()
}

/// Runs test files of the kit, with servers on SQLite. Vitest fails if a test fails; a skipped test, or none at all,
/// fails here.
async fn run_kit_tests(files: &[&str]) {
    run_kit_tests_with(files, &[]).await;
}

/// Runs test files of the kit, with servers that share a database of PostgreSQL, one of Redis that no other test uses,
/// and their payloads.
async fn run_kit_tests_on_postgres(files: &[&str], redis_database: u8) {
    let payloads = TempDir::new().unwrap();
    let postgres = servers().database().await;
    let redis = format!("{}/{redis_database}", servers().redis);
    let env = [
        ("SERVER_POSTGRES", postgres.as_str()),
        ("SERVER_REDIS", redis.as_str()),
        ("SERVER_PAYLOADS", payloads.path().to_str().unwrap()),
    ];
    run_kit_tests_with(files, &env).await;
}

async fn run_kit_tests_with(files: &[&str], more: &[(&str, &str)]) {
    KITS_INSTALLED
        .get_or_init(|| async {
            install_in(KITS).await;
            run_in(KITS, "npm", &["run", "build"], &[]).await;
        })
        .await;
    let dir = format!("{KITS}/typescript");
    let vitest = format!("{KITS}/node_modules/vitest/vitest.mjs");
    let node = format!("{}/node", node_bin(KITS));
    let names = files.iter().map(|name| format!("{name}.test")).collect::<Vec<_>>();
    let args: Vec<&str> =
        [vitest.as_str(), "run"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let (storms, events) = if is_full() { ("200", "100000") } else { ("3", "10000") };
    let mut env = vec![
        ("SERVER_BINARY", env!("CARGO_BIN_EXE_idem-under-test")),
        ("NO_COLOR", "1"),
        ("STORMS", storms),
        ("BOOTSTRAP_EVENTS", events),
    ];
    env.extend_from_slice(more);
    let output = run_in(&dir, &node, &args, &env).await;
    println!("{output}");
    assert!(output.contains(" passed") && !output.contains("skipped"), "not every test ran: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_kit_keeps_its_rules_on_sqlite() {
    run_kit_tests(&["vectors", "rules", "steps", "layers", "storage", "guide"]).await;
    run_kit_tests(&["outcomes", "failures", "resets", "sync", "live", "imports"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_kit_keeps_its_rules_on_postgres() {
    run_kit_tests_on_postgres(&["outcomes", "failures", "sync", "live", "imports"], 13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapters_of_the_typescript_kit_work_with_their_libraries() {
    run_kit_tests(&["tanstack", "apollo", "rxdb"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_kit_and_its_example_work_in_a_real_browser() {
    run_kit_tests(&["browser"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_of_the_typescript_kit_installs_and_is_small() {
    run_kit_tests(&["package"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_in_real_browsers_all_devices_have_the_same_on_sqlite() {
    run_kit_tests(&["storm"]).await;
    if is_full() {
        run_kit_tests(&["storm-faults"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_in_real_browsers_all_devices_have_the_same_on_postgres() {
    run_kit_tests_on_postgres(&["storm"], 14).await;
}
