//! Tests that a word which is put into every input appears in no log, metric or span, and that the trace of
//! an import is linked to the request that created it.

use opentelemetry_proto::tonic::trace::v1::Span;
use reqwest::Method;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};

use super::collector::Collector;
use super::process::Process;
use crate::harness::{Client, Socket, event, eventually, new_id, number, servers};

/// It is in lower case, because some inputs are stored in lower case.
const CANARY: &str = "zqcanary7f3";
/// A database of Redis that no other test uses.
const REDIS_DATABASE: u8 = 15;
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn no_log_metric_or_span_has_data_of_users_and_an_import_is_linked_to_its_request() {
    let collector = Collector::open().await;
    let database = servers().database().await;
    let redis = format!("{}/{REDIS_DATABASE}", servers().redis);
    let payloads = tempfile::TempDir::new().unwrap();
    let payload_url = format!("file://{}", payloads.path().display());
    let variables = [
        ("IDEM_LOG", "debug"),
        ("IDEM_DATABASE_URL", database.as_str()),
        ("IDEM_REDIS_URL", redis.as_str()),
        ("IDEM_PAYLOAD_URL", payload_url.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
    ];
    let server = Process::start(&["serve", "--no-worker"], &variables).await;
    let worker = Process::start(&["worker"], &variables).await;
    let client = Client::new(&server.url, CANARY);

    let import_id = import(&client).await;
    write_and_read(&client).await;
    send_refused_requests(&client).await;
    make_the_database_fail(&client, &database).await;

    let metrics = [server.metrics().await, worker.metrics().await];
    let (server_log, _) = server.end().await;
    let (worker_log, _) = worker.end().await;
    for log in [&server_log, &worker_log] {
        assert!(log.contains("\"DEBUG\""), "{log}");
    }
    assert!(server_log.contains("a request failed") && server_log.contains("check constraint"));
    assert!(worker_log.contains("a slice failed") && worker_log.contains("check constraint"));
    let token = client.token.rsplit('.').next().unwrap();
    for text in metrics.iter().chain([&server_log, &worker_log]) {
        for secret in [CANARY, token] {
            let line = text.lines().find(|line| line.to_lowercase().contains(&secret.to_lowercase()));
            assert_eq!(line, None, "{secret}");
        }
    }
    let sent = String::from_utf8_lossy(&collector.bytes()).to_lowercase();
    let spans = collector.spans();
    for secret in [CANARY, token] {
        let secret = secret.to_lowercase();
        let span = spans.iter().find(|span| format!("{span:?}").to_lowercase().contains(&secret));
        assert_eq!(span, None, "{secret}");
        assert!(!sent.contains(&secret), "{secret}");
    }
    assert_linked(&spans, &import_id);
}

/// Fails unless the span of the slice has a link to the request that created the import, and that request has
/// the parent that the client sent.
fn assert_linked(spans: &[(String, Span)], import_id: &str) {
    assert!(spans.iter().all(|(service, _)| service == "idem"), "{spans:?}");
    let trace_id = (0..16).map(|n| u8::from_str_radix(&TRACE_ID[2 * n..2 * n + 2], 16).unwrap());
    let trace_id: Vec<u8> = trace_id.collect();
    let requests: Vec<_> = spans.iter().filter(|(_, span)| span.trace_id == trace_id).collect();
    let [(_, request)] = requests[..] else { panic!("one request is in the trace: {requests:?}") };
    assert_eq!(request.name, "POST /graphql");
    assert_eq!(request.parent_span_id, u64::from_str_radix(PARENT_ID, 16).unwrap().to_be_bytes());
    let mut fields: Vec<_> = request.attributes.iter().map(|at| at.key.as_str()).collect();
    fields.sort_unstable();
    let known = ["http.request.method", "http.response.status_code", "http.route", "request.id"];
    assert_eq!(fields, known);
    let of_import = |span: &Span| span.attributes.iter().any(|at| format!("{at:?}").contains(import_id));
    let slices: Vec<_> =
        spans.iter().filter(|(_, span)| span.name == "import slice" && of_import(span)).collect();
    let [(_, slice)] = slices[..] else { panic!("it is one slice: {slices:?}") };
    assert_ne!(slice.trace_id, trace_id);
    assert!(slice.parent_span_id.is_empty());
    let [link] = &slice.links[..] else { panic!("it has one link: {slice:?}") };
    assert_eq!((&link.trace_id, &link.span_id), (&trace_id, &request.span_id));
    let text = format!("{:?}", slice.attributes);
    assert!(text.contains("records") && text.contains("IntValue(2)") && text.contains("completed"), "{text}");
}

/// Imports a file with the word in its name, its header and its cells. One of its two records is rejected.
/// Returns the id.
async fn import(client: &Client) -> String {
    let rows = format!("start,{CANARY},text\n2026-01-01T00:00:00Z,{CANARY},{CANARY}\n{CANARY},1,{CANARY}\n");
    let mapping = json!({ "eventType": CANARY, "timestampColumn": "start", "notesColumn": "text", "missing": [CANARY.to_uppercase()] });
    let id = new_id();
    let input = json!({ "id": id, "format": "CSV", "name": format!("{CANARY}.csv"), "sizeBytes": rows.len(), "csv": mapping });
    let query =
        "mutation($input: CreateImportInput!) { createImport(input: $input) { problem { code detail } } }";
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let response = request
        .header("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-01"))
        .header("tracestate", format!("a={CANARY}"))
        .json(&json!({ "query": query, "variables": { "input": input } }));
    let response: Value = response.send().await.unwrap().json().await.unwrap();
    assert_eq!(response["data"]["createImport"]["problem"], Value::Null, "{response}");
    assert_eq!(client.put(&id, None, rows.into_bytes()).await.status(), 200);
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["rejected"]), (&json!(1), &json!(1)), "{job}");
    let events = "mutation($input: ImportEventsInput!) { importEvents(input: $input) { problem { code } } }";
    let small = json!({ "id": new_id(), "name": CANARY, "events": [{ "id": CANARY, "notes": CANARY }] });
    client.ask(events, json!({ "input": small })).await;
    client.wait_for_end(small["id"].as_str().unwrap()).await;
    id
}

/// Writes and reads events with the word in every field.
async fn write_and_read(client: &Client) {
    let kind = client.event_type(&format!("{CANARY} type")).await;
    let mut wanted = event(&kind);
    wanted["notes"] = json!(CANARY);
    wanted["externalId"] = json!(CANARY);
    wanted["properties"] = json!({ CANARY: [CANARY] });
    wanted["location"] = json!({ "name": CANARY, "latitude": 1, "longitude": 2 });
    let response =
        client.create(&[wanted, json!({ "id": CANARY, "timestamp": CANARY, "sourceType": CANARY })]).await;
    assert_eq!((&response["created"], &response["rejected"]), (&json!(1), &json!(1)), "{response}");
    for (query, variables) in [
        (
            "query($text: String) { events(filter: { search: $text }) { totalCount } }",
            json!({ "text": CANARY }),
        ),
        ("query($after: Cursor) { changes(after: $after) { hasMore } }", json!({ "after": CANARY })),
        (&format!("{{ {CANARY}(a: \"{CANARY}\") }}"), json!({ CANARY: CANARY })),
        (&format!("query {CANARY} {{ a: __typename \"{CANARY}\""), json!(CANARY)),
    ] {
        client.send(query, variables).await;
    }
    let mut socket = Socket::open(client).await;
    socket.ask(CANARY, &format!("query {CANARY} {{ __typename }}"), json!({ CANARY: CANARY })).await;
    socket.next().await;
    socket.text(CANARY).await;
    socket.close_code().await;
}

/// Sends requests that are refused, with the word in every place that a client controls.
async fn send_refused_requests(client: &Client) {
    let made_up = Method::from_bytes(CANARY.to_uppercase().as_bytes()).unwrap();
    let requests = [
        (Method::GET, format!("graphql?query={{{CANARY}}}&variables={CANARY}"), client.token.as_str()),
        (Method::POST, "graphql".to_owned(), CANARY),
        (Method::GET, CANARY.to_owned(), CANARY),
        (Method::PUT, format!("imports/{CANARY}/payload"), client.token.as_str()),
        (Method::GET, format!("imports/{CANARY}/report?{CANARY}"), client.token.as_str()),
        (made_up, "graphql".to_owned(), client.token.as_str()),
    ];
    for (method, path, token) in requests {
        let request = client.http.request(method, format!("{}/{path}", client.url)).bearer_auth(token);
        let headers = ["traceparent", "upload-offset", "user-agent", "origin", "content-type"];
        let request = headers.iter().fold(request, |request, name| request.header(*name, CANARY));
        // The slash makes the request id invalid. A valid one would be logged.
        let response =
            request.header("x-request-id", format!("{CANARY}/1")).body(CANARY).send().await.unwrap();
        assert!(response.status().is_client_error(), "{response:?}");
    }
}

/// Makes the database refuse a write and a chunk. Its error messages quote the row.
async fn make_the_database_fail(client: &Client, database: &str) {
    let sql = Database::connect(database).await.unwrap();
    sql.execute_unprepared("ALTER TABLE event ADD CONSTRAINT never CHECK (notes NOT LIKE '%refuse me%')")
        .await
        .unwrap();
    let kind = client.event_type(CANARY).await;
    let mut wanted = event(&kind);
    wanted["notes"] = json!(format!("refuse me {CANARY}"));
    let query = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
    let response = client.send(query, json!({ "e": wanted })).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    let line = json!({ "eventType": CANARY, "timestamp": "2026-01-01T00:00:00Z", "notes": wanted["notes"] });
    let (id, payload) = (new_id(), format!("{line}\n").into_bytes());
    client.create_import(&id, payload.len(), None).await;
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    eventually("the slice has failed", || async {
        number(&sql, "SELECT count(*) FROM import_job WHERE state = 'QUEUED' AND attempts = 1").await == 1
    })
    .await;
    eventually("the trace is kept", || async {
        number(&sql, "SELECT count(*) FROM import_job WHERE length(trace_context) = 55").await == 3
    })
    .await;
    sql.close().await.unwrap();
}
