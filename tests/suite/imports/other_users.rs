//! Tests what other users can see of an import, and the use of import ids.

use domain::import::Format;
use domain::limits::ImportLimits;
use serde_json::{Value, json};
use service::create_import::{ImportDraft, create_import};

use super::manual_slices::{actor, samples};
use crate::harness::{Client, TestServer, new_id, on_both, sha256};

on_both!(
    an_import_of_another_user_looks_like_an_unknown_one,
    two_users_may_give_their_imports_the_same_id,
    an_import_id_is_refused_with_any_other_option,
    an_import_that_is_canceled_before_its_upload_does_not_count_towards_the_daily_bytes,
);

const ROUTES: [(&str, &str); 4] =
    [("HEAD", "payload"), ("PUT", "payload"), ("GET", "report"), ("GET", "rejected")];

/// Sends a request with a fixed request id. Returns the status and the body of the response.
async fn request(client: &Client, method: &str, path: &str) -> (u16, String) {
    let url = format!("{}/imports/{path}", client.url);
    let mut request = client.http.request(method.parse().unwrap(), url).header("x-request-id", "same");
    if !client.token.is_empty() {
        request = request.bearer_auth(&client.token);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "same");
    assert!(!response.headers().contains_key("upload-offset"), "{method} {path} of another user");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn an_import_of_another_user_looks_like_an_unknown_one(server: &TestServer) {
    let ann = server.client("ann");
    let (waiting, done) = (new_id(), new_id());
    ann.create_import(&waiting, 10, None).await;
    ann.import_all(&done, [samples(0..3), b"a bad line\n".to_vec()].concat()).await;
    let eve = server.client("eve");
    let nobody = Client { token: String::new(), ..eve.clone() };
    for (method, what) in ROUTES {
        let unknown = request(&eve, method, &format!("{}/{what}", new_id())).await;
        assert_eq!(unknown.0, 404, "{method} {what}");
        let anonymous = request(&nobody, method, &format!("{}/{what}", new_id())).await;
        assert_eq!(anonymous.0, 401, "{method} {what}");
        for id in [&waiting, &done] {
            assert_eq!(request(&eve, method, &format!("{id}/{what}")).await, unknown, "{method} {what}");
            assert_eq!(request(&nobody, method, &format!("{id}/{what}")).await, anonymous, "{method} {what}");
        }
    }
    let node =
        eve.ask("query($id: ID!) { importJob(id: $id) { id } node(id: $id) { id } }", json!({ "id": done }));
    assert_eq!(node.await, json!({ "importJob": null, "node": null }));
    assert_eq!(ann.import(&waiting).await["state"], "AWAITING_UPLOAD");
    ann.control_import("cancelImport", &waiting).await;
}

async fn two_users_may_give_their_imports_the_same_id(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let id = new_id();
    let (payload_of_ann, payload_of_bob) = (samples(0..3), samples(10..15));
    ann.create_import(&id, payload_of_ann.len(), None).await;
    bob.create_import(&id, payload_of_bob.len(), None).await;
    assert_eq!(bob.put(&id, None, payload_of_bob).await.status(), 200);
    assert_eq!(bob.wait_for_end(&id).await["counts"]["inserted"], 5);
    assert_eq!(ann.import(&id).await["state"], "AWAITING_UPLOAD", "nothing of it was uploaded");
    assert_eq!(ann.head(&id).await.headers()["upload-offset"], "0");
    assert_eq!(ann.put(&id, None, payload_of_ann).await.status(), 200);
    assert_eq!(ann.wait_for_end(&id).await["counts"]["inserted"], 3);
    assert_eq!(bob.control_import("cancelImport", &id).await["problem"]["code"], "IMPORT_STATE");
    for (client, count) in [(&ann, 3), (&bob, 5)] {
        assert_eq!(client.ask("{ events { totalCount } }", json!({})).await["events"]["totalCount"], count);
    }
}

/// Creates an import. Returns the payload of the mutation.
async fn announce(client: &Client, input: &Value) -> Value {
    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) \
        { importJob { id } problem { code status errors { pointer } } } }";
    client.ask(query, json!({ "input": input })).await["createImport"].take()
}

async fn an_import_id_is_refused_with_any_other_option(server: &TestServer) {
    let client = server.client("ann");
    let csv = json!({ "eventType": "run", "timestampColumn": "when" });
    let first =
        json!({ "id": new_id(), "format": "CSV", "sizeBytes": 10, "csv": csv, "sha256": sha256("a") });
    let same = |response: &Value| response["problem"].is_null() && response["importJob"]["id"] == first["id"];
    assert!(same(&announce(&client, &first).await));
    // The same options in another notation are the same import.
    for (field, value) in [
        ("dryRun", json!(false)),
        ("csv", json!({ "eventType": "run", "timestampColumn": "when", "delimiter": ",", "skipLines": 0 })),
        ("sha256", json!(sha256("a").to_uppercase())),
        ("id", json!(first["id"].as_str().unwrap().to_uppercase())),
    ] {
        let mut again = first.clone();
        again[field] = value;
        let response = announce(&client, &again).await;
        assert!(same(&response), "{field}: {response}");
    }
    let named = |field: &str, value: Value| {
        let mut csv = csv.clone();
        csv[field] = value;
        ("csv", csv)
    };
    for (field, value) in [
        ("sizeBytes", json!(11)),
        ("sha256", json!(sha256("b"))),
        ("sha256", Value::Null),
        ("dryRun", json!(true)),
        named("eventType", json!("walk")),
        named("timeZone", json!("Europe/Berlin")),
        named("decimalSeparator", json!(",")),
        named("encoding", json!("windows-1252")),
        named("skipLines", json!(1)),
        named("delimiter", json!("auto")),
    ] {
        let mut other = first.clone();
        other[field] = value;
        let response = announce(&client, &other).await;
        assert_eq!(response["importJob"], Value::Null, "{other}");
        assert_eq!(
            (&response["problem"]["code"], &response["problem"]["status"]),
            (&json!("IMPORT_ID_REUSED"), &json!(409))
        );
    }
    let mut other = first.clone();
    other.as_object_mut().unwrap().remove("csv");
    other["format"] = json!("NDJSON");
    assert_eq!(announce(&client, &other).await["problem"]["code"], "IMPORT_ID_REUSED");
    assert!(same(&announce(&client, &first).await), "the import has not changed");
    client.control_import("cancelImport", first["id"].as_str().unwrap()).await;
}

async fn an_import_that_is_canceled_before_its_upload_does_not_count_towards_the_daily_bytes(
    server: &TestServer,
) {
    let client = server.client("ann");
    let actor = actor(&client).await;
    let (payload, size_bytes) = (samples(0..3), i64::try_from(samples(0..3).len()).unwrap());
    let limits = ImportLimits { bytes_a_day: Some(2 * size_bytes), ..ImportLimits::default() };
    let announce = async || {
        let id = new_id();
        let draft = ImportDraft {
            id: id.clone(),
            format: Format::Ndjson,
            name: None,
            size_bytes,
            sha256: None,
            csv: None,
            dry_run: false,
            trace_context: None,
        };
        let response = create_import(&server.store, &limits, &actor, draft).await.unwrap();
        response.problem.map_or(Ok(id), |problem| Err((problem.code.name(), problem.retry_after_ms)))
    };
    let full = Err(("TOO_MANY_IMPORTS", Some(3_600_000)));
    let (first, second) = (announce().await.unwrap(), announce().await.unwrap());
    assert_eq!(announce().await, full, "announced bytes count");
    client.control_import("cancelImport", &first).await;
    assert_eq!(client.put(&second, None, payload).await.status(), 200);
    client.wait_for_end(&second).await;
    let third = announce().await.expect("bytes that were never sent do not count");
    assert_eq!(announce().await, full, "received and announced bytes count");
    // A payload that differed from its announcement was received nevertheless.
    server.execute("UPDATE import_job SET sha256 = NULL").await;
    let sql = "UPDATE import_job SET bytes_received = 0, problem = '{\"code\":\"PAYLOAD_MISMATCH\",\"detail\":\"\"}' WHERE state = 'AWAITING_UPLOAD'";
    server.execute(sql).await;
    client.control_import("cancelImport", &third).await;
    assert_eq!(announce().await, full);
}
