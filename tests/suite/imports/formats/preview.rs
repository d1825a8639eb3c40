//! `POST /imports/preview` and `GET /imports/{id}/rejected`: what a page shows before an import, and gives back after it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::real_files::{Expected, files, plain, sorted};
use super::{gzip, import, zip};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    a_preview_shows_what_an_import_stores,
    rejected_records_come_back_in_a_file_that_can_be_read,
    a_payload_that_is_not_there_gives_nothing_back,
);

const PART: usize = 256 * 1024;

async fn post(client: &Client, body: &Value) -> reqwest::Response {
    let request = client.http.post(format!("{}/imports/preview", client.url));
    request.bearer_auth(&client.token).json(body).send().await.unwrap()
}

/// What a page asks about a file.
fn question(file: &[u8]) -> Value {
    let (head, tail) = (&file[..file.len().min(PART)], &file[file.len().saturating_sub(PART)..]);
    let tail = file.starts_with(b"PK").then(|| BASE64_STANDARD.encode(tail));
    json!({ "size": file.len(), "head": BASE64_STANDARD.encode(head), "tail": tail, "rows": 100 })
}

async fn rejected(client: &Client, id: &Value) -> reqwest::Response {
    let url = format!("{}/imports/{}/rejected", client.url, id.as_str().unwrap());
    client.http.get(url).bearer_auth(&client.token).send().await.unwrap()
}

async fn a_preview_shows_what_an_import_stores(server: &TestServer) {
    for path in files() {
        let Expected { name, bytes, said } = Expected::of(&path);
        let mut question = question(&bytes);
        question["format"] = said["import"]["format"].clone();
        question["csv"] = said["import"]["csv"].clone();
        let answer = post(&server.client("ann"), &question).await;
        assert_eq!(answer.status(), 200, "{name}");
        let seen: Value = answer.json().await.unwrap();
        let rows = seen["rows"].as_array().unwrap();
        let mut events: Vec<Value> =
            rows.iter().filter(|row| !row["event"].is_null()).map(|row| row["event"].clone()).collect();
        for event in &mut events {
            // An import gives the event of each record once, with the type as an object.
            let fields = event.as_object_mut().unwrap();
            let kind = fields.remove("eventType").unwrap();
            fields.insert("eventType".to_owned(), json!({ "name": kind }));
            for other in ["id", "eventTypeId", "isAllDay"] {
                fields.remove(other);
            }
        }
        let mut events = sorted(events.into_iter().map(plain).collect());
        events.dedup();
        let wanted: Vec<Value> = serde_json::from_value(said["events"].clone()).unwrap();
        assert_eq!(events, sorted(wanted), "{name}");
        let wrong: Vec<Value> = rows
            .iter()
            .filter(|row| !row["problems"].as_array().unwrap().is_empty())
            .map(|row| {
                let problem = &row["problems"][0];
                json!({ "record": row["record"], "code": problem["code"], "pointer": problem["pointer"] })
            })
            .collect();
        assert_eq!(json!(wrong), said["rejections"], "{name}: {seen}");
        let problem = said.get("problem").map(|problem| &problem["detail"]);
        assert_eq!(seen["problems"].get(0).map(|problem| &problem["detail"]), problem, "{name}");
        assert_eq!(seen["isCut"], false, "{name}");
    }
    let nothing = "SELECT count(*) FROM event";
    assert_eq!(server.number(nothing).await, 0);
}

async fn rejected_records_come_back_in_a_file_that_can_be_read(server: &TestServer) {
    let mut tried = 0;
    for path in files() {
        let Expected { name, bytes, said } = Expected::of(&path);
        let count = said["rejections"].as_array().unwrap().len();
        let client = server.client(&name);
        let format = said["import"]["format"].as_str().unwrap();
        let csv = said["import"].get("csv").cloned();
        let job = import(&client, format, csv.clone(), &bytes).await;
        let answer = rejected(&client, &job["id"]).await;
        if said.get("problem").is_some() {
            // What cannot be read, or only in part, has told what it could.
            continue;
        }
        assert_eq!(answer.status(), 200, "{name}");
        let file = answer.bytes().await.unwrap();
        if count == 0 {
            continue;
        }
        tried += 1;
        let text = String::from_utf8_lossy(&file);
        for rejection in said["rejections"].as_array().unwrap() {
            assert!(text.contains(rejection["code"].as_str().unwrap()), "{name}: {text}");
        }
        let again = import(&client, format, csv, &file).await;
        assert_eq!(again["state"], "COMPLETED", "{name}: {again}: {text}");
        assert_eq!(again["counts"]["records"], count, "{name}: {text}");
        assert_eq!(rejected(&server.client("eve"), &job["id"]).await.status(), 404, "of somebody else");
    }
    assert!(tried >= 5, "{tried} files with rejected records");
}

async fn a_payload_that_is_not_there_gives_nothing_back(server: &TestServer) {
    let client = server.client("ann");
    let waiting = new_id();
    client.create_import(&waiting, 10, None).await;
    let answer = rejected(&client, &json!(waiting)).await;
    let (status, problem): (_, Value) = (answer.status(), answer.json().await.unwrap());
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("IMPORT_STATE")));
    let job = import(&client, "NDJSON", None, b"not json\n").await;
    server.execute("UPDATE import_job SET payload_removed_at = 1").await;
    let answer = rejected(&client, &job["id"]).await;
    let (status, problem): (_, Value) = (answer.status(), answer.json().await.unwrap());
    assert_eq!((status.as_u16(), &problem["code"]), (410, &json!("PAYLOAD_GONE")));
    let unknown = rejected(&client, &json!("no id")).await;
    assert_eq!(unknown.status(), 404);
    // The row says that it is kept, and the objects are gone.
    let lost = import(&client, "NDJSON", None, b"not json\n").await;
    let id = lost["id"].as_str().unwrap().parse().unwrap();
    let viewer = client.ask("{ viewer { userId } }", json!({})).await;
    let owner = viewer["viewer"]["userId"].as_str().unwrap().parse().unwrap();
    server.payloads.remove(owner, id).await.unwrap();
    assert_eq!(rejected(&client, &lost["id"]).await.status(), 410);
}

#[tokio::test]
async fn what_is_no_question_about_a_file_is_refused_in_words() {
    let server = TestServer::open(crate::harness::Column::Sqlite).await;
    let client = server.client("ann");
    let right = question(b"a,b\n1,2\n");
    assert_eq!(post(&client, &right).await.status(), 200);
    let too_much = BASE64_STANDARD.encode(vec![b'a'; PART + 1]);
    for (field, value, told) in [
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
        let answer = post(&client, &wrong).await;
        let (status, problem): (_, Value) = (answer.status(), answer.json().await.unwrap());
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (400, &json!("BAD_USER_INPUT")),
            "{field}: {problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(told) && detail.len() < 500, "{field}: {problem}");
    }
    let nobody = client.http.post(format!("{}/imports/preview", client.url)).json(&right).send().await;
    assert_eq!(nobody.unwrap().status(), 401);
    let text = client.http.post(format!("{}/imports/preview", client.url)).bearer_auth(&client.token);
    assert_eq!(text.body("size=1").send().await.unwrap().status(), 400);
    // A mapping for another format is told as an import would.
    let mut lines = question(b"{}\n");
    lines["csv"] = json!({ "eventType": "a", "timestampColumn": "b" });
    let seen: Value = post(&client, &lines).await.json().await.unwrap();
    assert_eq!((&seen["problems"][0]["pointer"], &seen["rowsRead"]), (&json!("/csv"), &json!(1)), "{seen}");
    // A mapping that is being chosen is no reason to refuse.
    let mut chosen = right.clone();
    chosen["csv"] = json!({ "decimalSeparator": ";", "delimiter": "auto" });
    let seen: Value = post(&client, &chosen).await.json().await.unwrap();
    let pointers: Vec<_> = seen["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/csv/timestampColumn", "/csv/eventType", "/csv/decimalSeparator"]);
    assert_eq!(seen["rows"][0]["cells"], json!(["1", "2"]));
    server.end().await;
}

#[tokio::test]
async fn what_would_grow_without_bounds_is_cut() {
    let server = TestServer::open(crate::harness::Column::Sqlite).await;
    let client = server.client("ann");
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < PART, "{} bytes", bomb.len());
    let seen: Value = post(&client, &question(&bomb)).await.json().await.unwrap();
    assert_eq!((&seen["isCut"], &seen["rowsRead"]), (&json!(true), &json!(0)), "{seen}");
    // Many records, of which 100 are shown.
    let rows = "a,b\n".to_owned() + &"1,2\n".repeat(1_000);
    let seen: Value = post(&client, &question(rows.as_bytes())).await.json().await.unwrap();
    assert_eq!(
        (seen["rows"].as_array().unwrap().len(), &seen["isCut"]),
        (100, &json!(true)),
        "as many as were asked for"
    );
    // Of an archive, its list is at the end.
    let noise: Vec<u8> =
        (0..2_000_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let archive = zip(&[("big.csv", &noise)]);
    let seen: Value = post(&client, &question(&archive)).await.json().await.unwrap();
    assert_eq!((&seen["packing"], &seen["format"]), (&json!("zip"), &json!("CSV")), "{seen}");
    server.end().await;
}
