//! Tests metrics, logs and traces: the metrics are documented, traces reach a collector, and nothing has data
//! of users.

mod canary;
mod collector;
pub mod process;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, event, eventually, new_id, on_both};
use process::Process;

on_both!(without_a_collector_an_import_keeps_the_trace_that_its_client_named);

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in the table of docs/reference/metrics.md.
fn documented() -> BTreeSet<String> {
    let text = read("docs/reference/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `idem_"));
    let names = rows.map(|row| format!("idem_{}", row.split(['{', '`']).next().unwrap()));
    names.collect()
}

/// Adds the names of the metrics that the sources of a folder write.
fn collect_metrics(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_metrics(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = read(&path);
            let names = text.split("\"idem_").skip(1).map(|rest| rest.split('"').next().unwrap());
            found.extend(names.map(|name| format!("idem_{name}")));
        }
    }
}

#[test]
fn the_documented_metrics_are_those_of_the_sources() {
    let mut found = BTreeSet::new();
    for name in ["api", "domain", "idem", "worker"] {
        collect_metrics(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"), &mut found);
    }
    assert_eq!(found, documented());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_exports_each_documented_metric_with_a_description() {
    let server = Process::start(&["serve"], &[]).await;
    let client = Client::new(&server.url, "ann");
    let kind = client.event_type("run").await;
    client.create(&[event(&kind)]).await;
    let line = json!({ "eventType": "run", "timestamp": "2026-01-01T00:00:00Z" });
    client.import_all(&new_id(), format!("{line}\n").into_bytes()).await;
    let metrics = server.metrics().await;
    for name in documented() {
        let values = [format!("\n{name} "), format!("\n{name}{{"), format!("\n{name}_count")];
        assert!(values.iter().any(|value| metrics.contains(value)), "{name} is missing:\n{metrics}");
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} has no description:\n{metrics}");
    }
    for line in [
        "idem_http_requests_total{method=\"PUT\",route=\"/imports/{id}/payload\",status=\"200\"} 1",
        "idem_import_records_total{outcome=\"inserted\"} 1",
        "idem_imports_finished_total{state=\"completed\"} 1",
        "idem_imports_finished_total{state=\"failed\"} 0",
        "idem_imports_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_follows_the_settings_and_refusals_are_counted() {
    let settings = [("IDEM_RATE_LIMIT", "50"), ("IDEM_RATE_LIMIT_PER_SECOND", "1")];
    let server = Process::start(&["serve"], &settings).await;
    let client = Client::new(&server.url, "ann");
    let query = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { rejected } }";
    let events = json!({ "e": vec![json!({}); 50] });
    assert_eq!(client.send(query, events.clone()).await["extensions"], json!({ "cost": 50 }));
    let refused = client.send(query, events).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "RATE_LIMITED", "{refused}");
    let metrics = server.metrics().await;
    assert!(metrics.contains("\nidem_rate_limited_total 1\n"), "{metrics}");
    server.end().await;
}

async fn without_a_collector_an_import_keeps_the_trace_that_its_client_named(test_server: &TestServer) {
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let client = test_server.client("ann");
    for (header, kept) in [(Some(sent), 1), (None, 0), (Some("00-0-0-01"), 0)] {
        test_server.execute("DELETE FROM import_job").await;
        let query = "mutation($id: ID!) { createImport(input: { id: $id, format: NDJSON, sizeBytes: 1 }) \
            { importJob { id } } }";
        let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
        let request = header.into_iter().fold(request, |request, text| request.header("traceparent", text));
        let body = json!({ "query": query, "variables": { "id": new_id() } });
        let response: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
        assert!(response["data"]["createImport"]["importJob"].is_object(), "{response}");
        let same = format!("SELECT count(*) FROM import_job WHERE trace_context = '{sent}'");
        assert_eq!(test_server.number(&same).await, kept);
        let any = "SELECT count(*) FROM import_job WHERE trace_context IS NOT NULL";
        assert_eq!(test_server.number(any).await, kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_a_collector_that_does_not_respond_or_is_not_there() {
    // This listener accepts connections and never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let url = format!("http://{address}");
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
        let server = Process::start(&["serve"], &variables).await;
        let client = Client::new(&server.url, "ann");
        let started_at = Instant::now();
        // These are more spans than the queue of the exporter holds.
        for _ in 0..60 {
            let batch: Vec<_> = (0..50).map(|_| client.send("{ __typename }", json!({}))).collect();
            futures::future::join_all(batch).await;
        }
        assert!(started_at.elapsed() < Duration::from_secs(20), "it took {:?}", started_at.elapsed());
        eventually("the failure is counted", || async {
            !server.metrics().await.contains("idem_trace_exports_failed_total 0")
        })
        .await;
        let (log, took) = server.end().await;
        assert!(took < Duration::from_secs(4), "the exit took {took:?}");
        assert_eq!(log.matches("cannot send spans to the trace collector").count(), 1, "{log}");
    }
}
