//! Tests `POST /imports/preview`, which shows a file before an import, and `GET /imports/{id}/rejected`,
//! which returns the rejected records after it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::real_files::{Expected, files, plain, sorted};
use super::{gzip, import, zip};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    a_preview_shows_what_an_import_stores,
    rejected_records_are_returned_in_a_file_that_can_be_imported,
    rejected_records_cannot_be_returned_without_a_payload,
);

const PART: usize = 256 * 1024;

async fn post(client: &Client, body: &Value) -> reqwest::Response {
    let request = client.http.post(format!("{}/imports/preview", client.url));
    request.bearer_auth(&client.token).json(body).send().await.unwrap()
}

/// Returns the body of a preview request for a file.
fn preview_request(file: &[u8]) -> Value {
    let (head, tail) = (&file[..file.len().min(PART)], &file[file.len().saturating_sub(PART)..]);
    let tail = file.starts_with(b"PK").then(|| BASE64_STANDARD.encode(tail));
    json!({ "size": file.len(), "head": BASE64_STANDARD.encode(head), "tail": tail, "rows": 100 })
}

/// Requests the rejected records of an import.
async fn rejected(client: &Client, id: &Value) -> reqwest::Response {
    let url = format!("{}/imports/{}/rejected", client.url, id.as_str().unwrap());
    client.http.get(url).bearer_auth(&client.token).send().await.unwrap()
}

async fn a_preview_shows_what_an_import_stores(server: &TestServer) {
    for path in files() {
        let Expected { name, bytes, expected } = Expected::of(&path);
        let mut request = preview_request(&bytes);
        request["format"] = expected["import"]["format"].clone();
        request["csv"] = expected["import"]["csv"].clone();
        let response = post(&server.client("ann"), &request).await;
        assert_eq!(response.status(), 200, "{name}");
        let preview: Value = response.json().await.unwrap();
        let rows = preview["rows"].as_array().unwrap();
        let mut events: Vec<Value> =
            rows.iter().filter(|row| !row["event"].is_null()).map(|row| row["event"].clone()).collect();
        for event in &mut events {
            // GraphQL returns the event type as an object, so the preview is brought into that form.
            let fields = event.as_object_mut().unwrap();
            let kind = fields.remove("eventType").unwrap();
            fields.insert("eventType".to_owned(), json!({ "name": kind }));
            for other in ["id", "eventTypeId", "isAllDay"] {
                fields.remove(other);
            }
        }
        // An import stores equal records once.
        let mut events = sorted(events.into_iter().map(plain).collect());
        events.dedup();
        let wanted: Vec<Value> = serde_json::from_value(expected["events"].clone()).unwrap();
        assert_eq!(events, sorted(wanted), "{name}");
        let wrong: Vec<Value> = rows
            .iter()
            .filter(|row| !row["problems"].as_array().unwrap().is_empty())
            .map(|row| {
                let problem = &row["problems"][0];
                json!({ "record": row["record"], "code": problem["code"], "pointer": problem["pointer"] })
            })
            .collect();
        assert_eq!(json!(wrong), expected["rejections"], "{name}: {preview}");
        let problem = expected.get("problem").map(|problem| &problem["detail"]);
        assert_eq!(preview["problems"].get(0).map(|problem| &problem["detail"]), problem, "{name}");
        assert_eq!(preview["isCut"], false, "{name}");
    }
    assert_eq!(server.number("SELECT count(*) FROM event").await, 0, "a preview stores nothing");
}

async fn rejected_records_are_returned_in_a_file_that_can_be_imported(server: &TestServer) {
    let mut tried = 0;
    for path in files() {
        let Expected { name, bytes, expected } = Expected::of(&path);
        let count = expected["rejections"].as_array().unwrap().len();
        let client = server.client(&name);
        let format = expected["import"]["format"].as_str().unwrap();
        let csv = expected["import"].get("csv").cloned();
        let job = import(&client, format, csv.clone(), &bytes).await;
        let response = rejected(&client, &job["id"]).await;
        if expected.get("problem").is_some() {
            // A payload that cannot be read, or only in part, has no such file.
            continue;
        }
        assert_eq!(response.status(), 200, "{name}");
        let file = response.bytes().await.unwrap();
        if count == 0 {
            continue;
        }
        tried += 1;
        let text = String::from_utf8_lossy(&file);
        for rejection in expected["rejections"].as_array().unwrap() {
            assert!(text.contains(rejection["code"].as_str().unwrap()), "{name}: {text}");
        }
        let again = import(&client, format, csv, &file).await;
        assert_eq!(again["state"], "COMPLETED", "{name}: {again}: {text}");
        assert_eq!(again["counts"]["records"], count, "{name}: {text}");
        assert_eq!(rejected(&server.client("eve"), &job["id"]).await.status(), 404, "of another user");
    }
    assert!(tried >= 5, "{tried} files with rejected records");
}

async fn rejected_records_cannot_be_returned_without_a_payload(server: &TestServer) {
    let client = server.client("ann");
    let waiting = new_id();
    client.create_import(&waiting, 10, None).await;
    let response = rejected(&client, &json!(waiting)).await;
    let (status, problem): (_, Value) = (response.status(), response.json().await.unwrap());
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("IMPORT_STATE")));
    let job = import(&client, "NDJSON", None, b"not json\n").await;
    server.execute("UPDATE import_job SET payload_removed_at = 1").await;
    let response = rejected(&client, &job["id"]).await;
    let (status, problem): (_, Value) = (response.status(), response.json().await.unwrap());
    assert_eq!((status.as_u16(), &problem["code"]), (410, &json!("PAYLOAD_GONE")));
    let unknown = rejected(&client, &json!("no id")).await;
    assert_eq!(unknown.status(), 404);
    // The row says that the payload is there, and its objects are gone.
    let lost = import(&client, "NDJSON", None, b"not json\n").await;
    let id = lost["id"].as_str().unwrap().parse().unwrap();
    let viewer = client.ask("{ viewer { userId } }", json!({})).await;
    let owner = viewer["viewer"]["userId"].as_str().unwrap().parse().unwrap();
    server.payloads.remove_payload(owner, id).await.unwrap();
    assert_eq!(rejected(&client, &lost["id"]).await.status(), 410);
}

#[tokio::test]
async fn an_invalid_preview_request_is_refused_with_a_detail() {
    let server = TestServer::open(crate::harness::DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let right = preview_request(b"a,b\n1,2\n");
    assert_eq!(post(&client, &right).await.status(), 200);
    let too_much = BASE64_STANDARD.encode(vec![b'a'; PART + 1]);
    for (field, value, text) in [
        ("size", json!(-1), "integer `-1`"),
        ("size", json!(3), "/size"),
        ("head", json!("not base64!"), "/head"),
        ("head", json!(too_much), "/head"),
        ("tail", json!(too_much), "/tail"),
        ("format", json!("XLS"), "/format"),
        ("rows", json!(0), "/rows"),
        ("rows", json!(101), "/rows"),
        ("csv", json!({ "timestmpColumn": "a" }), "`timestmpColumn`"),
        ("csv", json!({ "skipLines": "x".repeat(1_000) }), "xxx"),
        ("more", json!(1), "`more`"),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        let response = post(&client, &wrong).await;
        let (status, problem): (_, Value) = (response.status(), response.json().await.unwrap());
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (400, &json!("BAD_USER_INPUT")),
            "{field}: {problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(text) && detail.len() < 500, "{field}: {problem}");
    }
    let nobody = client.http.post(format!("{}/imports/preview", client.url)).json(&right).send().await;
    assert_eq!(nobody.unwrap().status(), 401);
    let plain_text = client.http.post(format!("{}/imports/preview", client.url)).bearer_auth(&client.token);
    assert_eq!(plain_text.body("size=1").send().await.unwrap().status(), 400);
    // A mapping for another format is a problem of the preview, as it is one of an import.
    let mut lines = preview_request(b"{}\n");
    lines["csv"] = json!({ "eventType": "a", "timestampColumn": "b" });
    let preview: Value = post(&client, &lines).await.json().await.unwrap();
    assert_eq!(
        (&preview["problems"][0]["pointer"], &preview["rowsRead"]),
        (&json!("/csv"), &json!(1)),
        "{preview}"
    );
    // An incomplete mapping is no reason to refuse, as a user may be about to complete it.
    let mut chosen = right.clone();
    chosen["csv"] = json!({ "decimalSeparator": ";", "delimiter": "auto" });
    let preview: Value = post(&client, &chosen).await.json().await.unwrap();
    let pointers: Vec<_> = preview["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/csv/timestampColumn", "/csv/eventType", "/csv/decimalSeparator"]);
    assert_eq!(preview["rows"][0]["cells"], json!(["1", "2"]));
    server.end().await;
}

#[tokio::test]
async fn a_preview_is_bounded_and_says_that_it_is_cut() {
    let server = TestServer::open(crate::harness::DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < PART, "{} bytes", bomb.len());
    let preview: Value = post(&client, &preview_request(&bomb)).await.json().await.unwrap();
    assert_eq!((&preview["isCut"], &preview["rowsRead"]), (&json!(true), &json!(0)), "{preview}");
    // Of many records the first 100 are shown.
    let rows = "a,b\n".to_owned() + &"1,2\n".repeat(1_000);
    let preview: Value = post(&client, &preview_request(rows.as_bytes())).await.json().await.unwrap();
    assert_eq!(
        (preview["rows"].as_array().unwrap().len(), &preview["isCut"]),
        (100, &json!(true)),
        "as many rows as were requested"
    );
    // The directory of a zip archive is in its tail.
    let noise: Vec<u8> =
        (0..2_000_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let archive = zip(&[("big.csv", &noise)]);
    let preview: Value = post(&client, &preview_request(&archive)).await.json().await.unwrap();
    assert_eq!((&preview["packing"], &preview["format"]), (&json!("zip"), &json!("CSV")), "{preview}");
    server.end().await;
}
