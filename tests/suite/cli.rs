//! Tests `idem import` and `idem stats` as a user runs them. Each test runs the program against a server, and checks its exit
//! code and its output.

mod preview;
mod proxy;
mod stats;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Client, DatabaseKind, TestServer, eventually, new_id, sha256};
use proxy::Proxy;

const FLIGHTS: &[u8] = include_bytes!("../data/flights-2000.ndjson.gz");

/// The result of a run.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Parses the JSON object that `--json` prints. Fails if the exit code is not `code`.
    fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{} {}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Runs `idem import` on files in a temporary folder, as one user of a test server.
struct Cli {
    test_server: TestServer,
    client: Client,
    dir: TempDir,
}

impl Cli {
    async fn open() -> Self {
        let test_server = TestServer::open(DatabaseKind::Sqlite).await;
        Self { client: test_server.client("ann"), test_server, dir: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn command(&self, url: &str, file: &PathBuf, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idem-under-test"));
        command.arg("import").arg(file).args(["--url", url, "--token", &self.client.token]).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn import(&self, file: &PathBuf, flags: &[&str]) -> Run {
        Run::new(self.command(&self.test_server.url, file, flags).output().await.unwrap())
    }

    fn start(&self, file: &PathBuf, flags: &[&str]) -> Child {
        self.command(&self.test_server.url, file, flags).spawn().unwrap()
    }

    async fn events(&self) -> i64 {
        self.test_server.number("SELECT count(*) FROM event").await
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns NDJSON of so many records, each with its own external id.
fn lines(count: usize) -> Vec<u8> {
    let line =
        |n| json!({ "eventType": "run", "timestamp": "2026-01-01T00:00:00Z", "externalId": format!("{n}") });
    (0..count).flat_map(|n| format!("{}\n", line(n)).into_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_is_detected_from_the_content_and_a_file_sent_twice_is_stored_once() {
    let cli = Cli::open().await;
    let file = cli.file("flights", FLIGHTS);
    let first = cli.import(&file, &[]).await;
    assert_eq!(first.code, Some(0), "{}", first.err);
    assert!(first.out.starts_with("completed: 2000 records, 2000 inserted, 0 duplicates"), "{}", first.out);
    let again = cli.import(&file, &["--json", "--name", "again"]).await.json(0);
    assert_eq!((&again["counts"]["duplicates"], &again["counts"]["inserted"]), (&json!(2000), &json!(0)));
    assert_eq!(
        (&again["state"], &again["format"], &again["dryRun"]),
        (&json!("COMPLETED"), &json!("NDJSON"), &json!(false))
    );
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_reports_what_an_import_would_store_and_stores_nothing() {
    let cli = Cli::open().await;
    let file = cli.file("flights.ndjson.gz", FLIGHTS);
    let tried = cli.import(&file, &["--dry-run", "--json"]).await.json(0);
    assert_eq!((&tried["dryRun"], &tried["counts"]["inserted"]), (&json!(true), &json!(2000)));
    assert_eq!(cli.events().await, 0);
    assert!(cli.import(&file, &["--dry-run"]).await.out.starts_with("dry run, nothing is stored, completed"));
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_make_the_exit_code_two_and_the_report_is_named() {
    let cli = Cli::open().await;
    let file = cli
        .file("events", b"{\"eventType\":\"run\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n{\"notes\":7}\n");
    let run = cli.import(&file, &[]).await;
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.out.contains("2 records, 1 inserted") && run.out.contains("1 rejected"), "{}", run.out);
    assert!(run.err.contains("/report"), "{}", run.err);
    assert!(run.err.contains("record 2, line 2: VALIDATION_FAILED: "), "{}", run.err);
    let run = cli.import(&file, &["--json"]).await;
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(
        (&report["rejections"][0]["record"], &report["rejections"][0]["line"]),
        (&json!(2), &json!(2)),
        "{report}"
    );
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_with_a_message_that_helps() {
    let cli = Cli::open().await;
    let table = cli.file("table.csv", b"a,b\n1,2\n");
    let events = cli.file("events", &lines(1));
    let nowhere = cli.dir.path().join("nowhere");
    for (file, flags, words) in [
        (&nowhere, &[][..], "nowhere"),
        (&table, &[], "--timestamp"),
        (&table, &["--timestamp", "a"], "--event-type"),
        (&events, &["--properties", "a"], "do not apply to NDJSON"),
        (&cli.file("empty", b""), &[], "empty"),
        (&events, &["--id", "01890000-0000-4000-8000-000000000000"], "NOT_UUID_V7"),
    ] {
        let run = cli.import(file, flags).await;
        assert_eq!(run.code, Some(1), "{} {}", run.out, run.err);
        assert!(run.err.contains(words), "{words}: {}", run.err);
    }
    // The server rejects it, because the first bytes are valid and the program cannot see the damage.
    let cut = cli.import(&cli.file("cut.gz", &FLIGHTS[..30_000]), &["--json"]).await.json(1);
    assert_eq!(cut["state"], "FAILED", "{cut}");
    assert!(cut["problem"]["code"].is_string(), "{cut}");
    // 64: the arguments themselves are invalid.
    assert_eq!(cli.import(&events, &["--format", "xml"]).await.code, Some(64));
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_resumed_by_its_id_and_a_finished_one_only_reports_its_result() {
    let cli = Cli::open().await;
    let mut payload = lines(100);
    while payload.len() < 9 * 1024 * 1024 {
        payload.extend_from_slice(b"                                                               \n");
    }
    let file = cli.file("events", &payload);
    let id = new_id();
    let sum = sha256(&payload);
    cli.client.create_import(&id, payload.len(), Some(&sum)).await;
    let cut = cli.client.put(&id, None, payload[..8_500_000].to_vec()).await;
    assert_eq!(cut.headers()["upload-offset"], "8388608");
    for _ in 0..2 {
        let done = cli.import(&file, &["--id", &id, "--json"]).await.json(0);
        assert_eq!((&done["id"], &done["counts"]["inserted"]), (&json!(id), &json!(100)));
    }
    let other = cli.file("other", &lines(7));
    let refused = cli.import(&other, &["--id", &id]).await;
    assert!(refused.code == Some(1) && refused.err.contains("IMPORT_ID_REUSED"), "{}", refused.err);
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wait_returns_once_the_file_is_uploaded() {
    let cli = Cli::open().await;
    let file = cli.file("events", &lines(20_000));
    let run = cli.import(&file, &["--no-wait", "--json"]).await.json(0);
    let id = run["id"].as_str().unwrap();
    assert_eq!(cli.client.wait_for_end(id).await["counts"]["inserted"], 20_000);
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_program_reports_a_pause_and_can_be_interrupted_and_started_again() {
    let cli = Cli::open().await;
    let file = cli.file("events", &lines(12_000));
    let id = new_id();
    let control = async |verb: &str| {
        let query =
            format!("mutation($id: ID!) {{ {verb}Import(input: {{ id: $id }}) {{ problem {{ code }} }} }}");
        cli.client.ask(&query, json!({ "id": id })).await
    };
    let mut waiting = cli.start(&file, &["--id", &id]);
    eventually("it runs", || async { cli.client.import(&id).await["counts"]["records"].as_i64() > Some(0) })
        .await;
    control("pause").await;
    let mut words = BufReader::new(waiting.stderr.take().unwrap()).lines();
    while !words.next_line().await.unwrap().expect("it reports the pause").contains("paused") {}
    let pid = waiting.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let hint = words.next_line().await.unwrap().unwrap();
    assert!(hint.starts_with("interrupted") && hint.contains(&format!("--id {id}")), "{hint}");
    assert_eq!(waiting.wait().await.unwrap().code(), Some(130));
    let back = cli.start(&file, &["--id", &id, "--json"]);
    control("resume").await;
    let done = Run::new(back.wait_with_output().await.unwrap()).json(0);
    assert_eq!(done["counts"]["inserted"], 12_000);
    control("rollback").await;
    let gone = cli.import(&file, &["--id", &id, "--json"]).await.json(1);
    assert_eq!(gone["state"], "ROLLED_BACK");
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_program_subscribes_to_the_progress_and_does_not_poll() {
    let cli = Cli::open().await;
    let file = cli.file("events", &gzip(&lines(10_000)));
    let proxy = Proxy::open(&cli.test_server.url, Duration::from_secs(3_600)).await;
    let run = Run::new(cli.command(&proxy.url, &file, &["--json"]).output().await.unwrap());
    assert_eq!(run.json(0)["counts"]["inserted"], 10_000);
    assert_eq!((proxy.count_sent("query Job("), proxy.count_sent("subscription Progress(")), (1, 1));
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_is_reported_even_if_every_connection_is_cut() {
    let cli = Cli::open().await;
    let file = cli.file("events", &gzip(&lines(20_000)));
    let proxy = Proxy::open(&cli.test_server.url, Duration::from_millis(100)).await;
    let run = Run::new(cli.command(&proxy.url, &file, &["--json"]).output().await.unwrap());
    assert_eq!(run.json(0)["counts"]["inserted"], 20_000);
    assert!(proxy.cuts() > 0 && proxy.count_sent("subscription Progress(") > 1, "nothing was cut");
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_a_csv_become_events_as_the_flags_say() {
    let cli = Cli::open().await;
    let weather = b"origin,temp,wind,note,time_hour\nEWR,39.02,NA,calm,2013-01-01T06:00:00Z\n\
                    JFK,-,10,\"a, b\",2013-01-01T06:00:00Z\nJFK,1,2,,when\n";
    let file = cli.file("weather.csv.gz", &gzip(weather));
    let flags = ["--event-type", "weather", "--timestamp", "time_hour", "--external-id", "origin,time_hour"];
    let more = ["--notes", "note", "--source-type", "noaa", "--missing", ",NA,-", "--json"];
    let run = cli.import(&file, &[&flags[..], &more].concat()).await.json(2);
    assert_eq!(
        (&run["format"], &run["counts"]["inserted"], &run["counts"]["rejected"]),
        (&json!("CSV"), &json!(2), &json!(1))
    );
    let query = "{ events(filter: { sourceTypes: [\"noaa\"] }) { nodes { externalId notes properties timestamp \
        eventType { name } } } }";
    let mut nodes = cli.client.ask(query, json!({})).await["events"]["nodes"].as_array().unwrap().clone();
    nodes.sort_by_key(|node| node["externalId"].to_string());
    let at = "2013-01-01T06:00:00.000Z";
    assert_eq!(
        nodes[0],
        json!({ "externalId": "EWR|2013-01-01T06:00:00Z", "notes": "calm", "timestamp": at,
        "eventType": { "name": "weather" }, "properties": { "temp": 39.02 } })
    );
    assert_eq!((&nodes[1]["notes"], &nodes[1]["properties"]), (&json!("a, b"), &json!({ "wind": 10 })));

    let table = cli.file("table", b"when;what;lat;lon\n01.03.2024 08:00;Coffee;52.5;13.4\n");
    let flags = "--event-type-column what --timestamp when --time-zone Europe/Berlin --delimiter ; --latitude lat \
        --longitude lon --json --timestamp-format";
    let flags: Vec<_> = flags.split_whitespace().chain(["%d.%m.%Y %H:%M"]).collect();
    cli.import(&table, &flags).await.json(0);
    let query = "{ events(filter: { sourceTypes: [\"imported\"] }) { nodes { timestamp location { latitude } properties \
        eventType { name } } } }";
    let node = cli.client.ask(query, json!({})).await["events"]["nodes"][0].take();
    assert_eq!(
        node,
        json!({ "timestamp": "2024-03-01T07:00:00.000Z", "location": { "latitude": 52.5 },
        "eventType": { "name": "Coffee" }, "properties": {} })
    );
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_and_an_apple_export_need_no_flag() {
    let cli = Cli::open().await;
    let array = cli.file("events.json", b"[{\"eventType\":\"run\",\"timestamp\":\"2026-01-01T00:00:00Z\"}]");
    let run = cli.import(&array, &["--json"]).await.json(0);
    assert_eq!((&run["format"], &run["counts"]["inserted"]), (&json!("JSON"), &json!(1)));

    for flags in [&["--zip"][..], &[]] {
        let cli = Cli::open().await;
        let export = cli.dir.path().join("export");
        let generate = Command::new(env!("CARGO_BIN_EXE_generate-health"))
            .arg(&export)
            .args(["--records", "5000", "--seed", "7"])
            .args(flags)
            .output()
            .await
            .unwrap();
        let truth: Value = serde_json::from_slice(&generate.stdout).unwrap();
        let run = cli.import(&export, &["--json"]).await.json(2);
        assert_eq!(run["format"], "APPLE_HEALTH");
        assert_eq!(
            (&run["counts"]["inserted"], &run["counts"]["rejected"]),
            (&truth["distinct"], &truth["bad"]),
            "{run} {truth}"
        );
        cli.test_server.end().await;
    }
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_differing_duplicate_is_not_stored_and_makes_the_exit_code_two() {
    let cli = Cli::open().await;
    let line = |notes: &str| {
        let time = "2024-01-01T00:00:00Z";
        format!(
            "{{\"eventType\":\"run\",\"timestamp\":\"{time}\",\"externalId\":\"1\",\"notes\":\"{notes}\"}}\n"
        )
    };
    let (first, other) = (line("a"), line("b"));
    let file = |text: &str| cli.file("a.ndjson", text.as_bytes());
    assert_eq!(cli.import(&file(&first), &[]).await.code, Some(0));
    assert_eq!(cli.import(&file(&first), &[]).await.code, Some(0), "an equal duplicate is no error");
    let differs = cli.import(&file(&other), &[]).await;
    assert_eq!(differs.code, Some(2), "{} {}", differs.out, differs.err);
    assert!(
        format!("{}{}", differs.out, differs.err).contains("1 differing"),
        "{} {}",
        differs.out,
        differs.err
    );
}
