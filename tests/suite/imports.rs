//! Tests imports through GraphQL and the upload route: payloads of every kind, and the counts of their
//! records.

mod assumptions;
mod control;
mod formats;
pub mod manual_slices;
mod other_users;
mod overlaps;
mod rejections;
mod resume;
mod retention;
mod rollback;
mod scheduling;

use std::io::{Read, Write};

use domain::limits::ImportLimits;
use serde_json::{Value, json};
use service::notifier::Notification;
use store::import_job;

use crate::harness::{TestServer, new_id, on_both};

on_both!(
    the_same_flights_twice_are_stored_once_and_do_not_change_the_feed,
    a_bad_line_is_rejected_and_all_others_are_stored,
    an_import_whose_slice_ends_with_its_payload_completes,
    an_import_keeps_its_lease_if_no_other_import_waits,
    a_user_has_two_imports_running_however_many_are_claimed_at_once,
    an_import_whose_payload_is_gone_fails,
    a_truncated_gzip_fails_and_the_records_before_it_stay_stored,
    a_payload_that_differs_from_its_announcement_is_refused,
    an_upload_is_resumed_where_it_was_cut,
    import_events_creates_an_import_with_its_payload,
    an_import_id_can_be_used_for_one_import_only,
    a_canceled_import_accepts_no_payload,
    imported_records_are_matched_with_stored_events,
);

const FLIGHTS: &[u8] = include_bytes!("../data/flights-2000.ndjson.gz");

fn plain_flights() -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(FLIGHTS).read_to_end(&mut plain).unwrap();
    plain
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn the_same_flights_twice_are_stored_once_and_do_not_change_the_feed(server: &TestServer) {
    let client = server.client("ann");
    let job = client.import_all(&new_id(), FLIGHTS.to_vec()).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(2000)));
    assert_eq!((&job["recordsTotal"], &job["progress"]), (&json!(2000), &json!(1.0)));
    let head = "{ syncStatus { headCursor } }";
    let before = client.ask(head, json!({})).await;
    let again = client.import_all(&new_id(), plain_flights()).await;
    assert_eq!((&again["counts"]["duplicates"], &again["counts"]["records"]), (&json!(2000), &json!(2000)));
    assert_eq!(client.ask(head, json!({})).await, before);
    assert_eq!(client.pull(None, 700).await.0.len(), 2001);
}

async fn a_bad_line_is_rejected_and_all_others_are_stored(server: &TestServer) {
    let mut lines: Vec<Vec<u8>> =
        plain_flights().split(|b| *b == b'\n').take(20).map(<[u8]>::to_vec).collect();
    lines[6] = b"garbage".to_vec();
    lines[8] = [b"{\"notes\":\"".as_slice(), &vec![b'x'; 300_000], b"\"}"].concat();
    lines[10] = b"   ".to_vec();
    lines[12] = b"{\"eventType\":\"flight\",\"timestamp\":\"2013-01-01T10:15:00Z\",\"speed\":1}".to_vec();
    lines[14] = vec![0xff, 0xfe];
    let mut payload = vec![0xef, 0xbb, 0xbf];
    payload.extend(lines.join(b"\r\n".as_slice()));
    let client = server.client("ann");
    let id = new_id();
    let job = client.import_all(&id, payload).await;
    assert_eq!(job["state"], "COMPLETED", "{job}");
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["rejected"]), (&json!(15), &json!(4)));
    let nodes = job["rejections"]["nodes"].as_array().unwrap();
    let rejections: Vec<_> =
        nodes.iter().map(|n| (n["line"].as_i64().unwrap(), n["code"].as_str().unwrap())).collect();
    assert_eq!(
        rejections,
        [(7, "INVALID_JSON"), (9, "RECORD_TOO_LARGE"), (13, "INVALID_VALUE"), (15, "INVALID_JSON")]
    );
    assert_eq!((&nodes[0]["excerpt"], &nodes[2]["pointer"]), (&json!("garbage"), &json!("/speed")));
    assert_eq!(nodes[2]["record"], 12);
    let report = client.http.get(format!("{}/imports/{id}/report", client.url)).bearer_auth(&client.token);
    let report = report.send().await.unwrap().text().await.unwrap();
    assert_eq!(report.lines().count(), 4);
    assert_eq!(
        serde_json::from_str::<Value>(report.lines().next().unwrap()).unwrap()["code"],
        "INVALID_JSON"
    );
}

/// Returns NDJSON of so many records. The first two are invalid.
fn samples(count: usize) -> Vec<u8> {
    let mut lines = vec![r#"{"a\u0000b":1}"#.to_owned(); 2];
    lines
        .extend((2..count).map(|n| {
            format!(r#"{{"eventType":"s","timestamp":"2026-01-01T00:00:00Z","externalId":"{n}"}}"#)
        }));
    lines.join("\n").into_bytes()
}

async fn an_import_whose_slice_ends_with_its_payload_completes(server: &TestServer) {
    // Another import waits, so that this one gives up its lease at the end of its slice of 50 chunks of 500
    // records.
    server.client("bob").create_import(&new_id(), 10, None).await;
    server.execute("UPDATE import_job SET state = 'QUEUED'").await;
    let job = server.client("ann").import_all(&new_id(), samples(25_000)).await;
    assert_eq!((&job["state"], &job["recordsTotal"]), (&json!("COMPLETED"), &json!(25_000)), "{job}");
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["rejected"]), (&json!(24_998), &json!(2)));
    assert_eq!(server.number("SELECT lease_epoch FROM import_job WHERE state = 'COMPLETED'").await, 2);
    server.execute("UPDATE import_job SET state = 'CANCELED' WHERE state = 'QUEUED'").await;
}

async fn an_import_keeps_its_lease_if_no_other_import_waits(server: &TestServer) {
    let job = server.client("ann").import_all(&new_id(), gzip(&samples(26_000))).await;
    assert_eq!((&job["state"], &job["recordsTotal"]), (&json!("COMPLETED"), &json!(26_000)), "{job}");
    assert_eq!(server.number("SELECT lease_epoch FROM import_job").await, 1);
}

async fn a_user_has_two_imports_running_however_many_are_claimed_at_once(server: &TestServer) {
    let client = server.client("ann");
    let ids: Vec<String> = std::iter::repeat_with(new_id).take(8).collect();
    for id in &ids {
        client.create_import(id, 10, None).await;
    }
    let viewer = client.ask("{ viewer { userId } }", json!({})).await;
    let user_id = viewer["viewer"]["userId"].as_str().unwrap().parse().unwrap();
    for _ in 0..10 {
        server.execute("UPDATE import_job SET state = 'QUEUED', lease_until = NULL").await;
        let limits = ImportLimits::default();
        let claims = ids.iter().map(|id| {
            import_job::claim(&server.store, user_id, id.parse().unwrap(), "a test", &limits, 30_000)
        });
        let claimed = futures::future::join_all(claims).await;
        assert_eq!(claimed.into_iter().filter(|row| row.as_ref().unwrap().is_some()).count(), 2);
    }
    server.execute("UPDATE import_job SET state = 'CANCELED'").await;
}

async fn an_import_whose_payload_is_gone_fails(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    client.create_import(&id, 10, None).await;
    server.execute("UPDATE import_job SET state = 'QUEUED', bytes_received = 10").await;
    server.notifier.notify(Notification::Import(id.parse().unwrap()));
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("PAYLOAD_GONE")));
}

async fn a_truncated_gzip_fails_and_the_records_before_it_stay_stored(server: &TestServer) {
    let client = server.client("ann");
    let job = client.import_all(&new_id(), FLIGHTS[..FLIGHTS.len() / 2].to_vec()).await;
    assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("PAYLOAD_FORMAT")));
    let inserted = job["counts"]["inserted"].as_i64().unwrap();
    assert_eq!(inserted, server.number("SELECT count(*) FROM event").await);
    assert!(inserted > 0);
    let twice = client.import_all(&new_id(), gzip(FLIGHTS)).await;
    assert_eq!((&twice["state"], &twice["problem"]["code"]), (&json!("FAILED"), &json!("PAYLOAD_FORMAT")));
}

async fn a_payload_that_differs_from_its_announcement_is_refused(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    assert_eq!(
        client.create_import(&id, 10, Some(&"0".repeat(64))).await["importJob"]["state"],
        "AWAITING_UPLOAD"
    );
    let short = client.put(&id, None, vec![b'x'; 4]).await;
    assert_eq!((short.status().as_u16(), &short.headers()["upload-offset"]), (200, &"0".parse().unwrap()));
    let long = client.put(&id, None, vec![b'x'; 11]).await;
    assert_eq!(long.status(), 413);
    assert_eq!(long.json::<Value>().await.unwrap()["code"], "PAYLOAD_LIMIT");
    assert_eq!(client.put(&id, Some(5), vec![b'x'; 5]).await.status(), 409);
    let expiry = async || server.number("SELECT upload_expires_at FROM import_job").await;
    let first_expiry = expiry().await;
    server.execute("UPDATE import_job SET upload_expires_at = upload_expires_at - 82800000").await;
    assert_eq!(client.put(&id, None, vec![b'x'; 10]).await.status(), 200);
    crate::harness::eventually("the digest is found wrong", || async {
        let job = client.import(&id).await;
        job["state"] == "AWAITING_UPLOAD" && job["problem"]["code"] == "PAYLOAD_MISMATCH"
    })
    .await;
    assert!(expiry().await >= first_expiry, "the upload may take another day");
    assert_eq!(retention::count_objects(server), 0, "the wrong payload is removed");
    for size in [0, 5 * 1024 * 1024 * 1024_usize] {
        let refused = client.create_import(&new_id(), size, None).await;
        assert!(["OUT_OF_RANGE", "PAYLOAD_LIMIT"].contains(&refused["problem"]["code"].as_str().unwrap()));
    }
}

async fn an_upload_is_resumed_where_it_was_cut(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    let mut payload = plain_flights();
    while payload.len() < 17 * 1024 * 1024 {
        payload.extend_from_slice(b"                                                               \n");
    }
    client.create_import(&id, payload.len(), None).await;
    let first = client.put(&id, None, payload[..9 * 1024 * 1024].to_vec()).await;
    let offset: usize = first.headers()["upload-offset"].to_str().unwrap().parse().unwrap();
    assert_eq!(offset, 8 * 1024 * 1024);
    assert_eq!(client.put(&id, Some(offset), payload[offset..].to_vec()).await.status(), 200);
    // The payload is complete, so sending it again changes nothing.
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(2000)));
}

async fn import_events_creates_an_import_with_its_payload(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let query = "mutation($id: ID!, $events: [EventInput!]!) { importEvents(input: { id: $id, events: $events }) \
        { importJob { id state } problem { code } } }";
    let event = |n: u32| {
        json!({ "eventTypeId": kind, "timestamp": "2026-01-01T00:00:00Z", "notes": format!("n {n}"), "properties": { "n": n },
            "location": { "latitude": 1.5, "longitude": 2.5 } })
    };
    let events: Vec<Value> = (0..1200).map(event).chain([json!({ "timestamp": 7 })]).collect();
    let id = new_id();
    for _ in 0..2 {
        let payload = client.ask(query, json!({ "id": id, "events": events })).await;
        assert_eq!(payload["importEvents"]["importJob"]["id"], json!(id));
    }
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["rejected"]), (&json!(1200), &json!(1)));
    let other = client.ask(query, json!({ "id": id, "events": [event(1)] })).await["importEvents"].take();
    assert_eq!((&other["importJob"], &other["problem"]["code"]), (&Value::Null, &json!("IMPORT_ID_REUSED")));
}

async fn an_import_id_can_be_used_for_one_import_only(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let id = new_id();
    client.create_import(&id, 10, None).await;
    assert_eq!(client.create_import(&id, 10, None).await["importJob"]["id"], json!(id));
    assert_eq!(client.create_import(&id, 11, None).await["problem"]["code"], "IMPORT_ID_REUSED");
    assert_eq!(client.create_import(&kind, 10, None).await["problem"]["code"], "ID_IN_USE");
    let mut taken = crate::harness::event(&kind);
    taken["id"] = json!(id);
    assert_eq!(client.create(&[taken]).await["results"][0]["problem"]["code"], "ID_IN_USE");
    for _ in 1..20 {
        assert!(client.create_import(&new_id(), 10, None).await["problem"].is_null());
    }
    let refused = client.create_import(&new_id(), 10, None).await;
    assert_eq!(refused["problem"], json!({ "code": "TOO_MANY_IMPORTS", "retryable": true }));
}

async fn a_canceled_import_accepts_no_payload(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    client.create_import(&id, 10, None).await;
    let query =
        "mutation($id: ID!) { cancelImport(input: { id: $id }) { importJob { state } problem { code } } }";
    for _ in 0..2 {
        let payload = client.ask(query, json!({ "id": id })).await;
        assert_eq!(payload["cancelImport"], json!({ "importJob": { "state": "CANCELED" }, "problem": null }));
    }
    let refused = client.put(&id, None, vec![b'x'; 10]).await;
    assert_eq!(refused.status(), 409);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "IMPORT_STATE");
    let done = new_id();
    client.import_all(&done, FLIGHTS.to_vec()).await;
    let late = client.ask(query, json!({ "id": done })).await["cancelImport"].take();
    assert_eq!(late, json!({ "importJob": { "state": "COMPLETED" }, "problem": { "code": "IMPORT_STATE" } }));
}

async fn imported_records_are_matched_with_stored_events(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("flight").await;
    let mut mine = crate::harness::event(&kind);
    mine["externalId"] = json!("x-1");
    client.create(&[mine]).await;
    let lines = [
        json!({ "eventType": "flight", "timestamp": "2026-01-01T00:00:00Z", "externalId": "x-1" }),
        json!({ "eventTypeId": kind, "timestamp": "2026-01-01T00:00:00Z", "externalId": "x-2" }),
        json!({ "eventType": " flight ", "timestamp": "2026-01-01T00:00:00Z", "externalId": "x-2" }),
        json!({ "eventType": "ride", "timestamp": "2026-01-01T00:00:00Z", "externalId": "x-3" }),
    ];
    let payload: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let job = client.import_all(&new_id(), payload.into_bytes()).await;
    let counts = ["inserted", "duplicates", "differing"].map(|count| job["counts"][count].as_i64().unwrap());
    assert_eq!(counts, [2, 1, 1]);
    assert_eq!(job["rejections"]["nodes"][0]["code"], "DIFFERS");
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 2);
}
