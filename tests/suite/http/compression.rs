//! Tests bodies with a `Content-Encoding`. They are read within the limits of plain bodies, and the refusal
//! of another encoding names it.

use std::io::Write;

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, event, new_id, on_both};

on_both!(
    requests_are_read_as_gzip_and_zstd,
    a_body_that_decodes_to_too_much_is_refused_at_a_bounded_cost,
    the_refusal_of_an_unsupported_encoding_names_it,
    a_payload_is_detected_by_its_content_and_its_header_must_not_contradict_it,
);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn post(client: &Client, encoding: &str, body: Vec<u8>) -> (u16, Value) {
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let request = request.header("content-type", "application/json").header("content-encoding", encoding);
    let response = request.body(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn requests_are_read_as_gzip_and_zstd(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let query = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";
    for (encoding, index) in [("gzip", 0), ("x-gzip", 0), ("zstd", 1), ("GZIP", 0), ("identity", 2)] {
        let events: Vec<Value> = (0..100).map(|_| event(&kind)).collect();
        let body = json!({ "query": query, "variables": { "e": events } }).to_string().into_bytes();
        let encoded = [gzip(&body), zstd::encode_all(&body[..], 3).unwrap(), body][index].clone();
        let (status, response) = post(&client, encoding, encoded).await;
        assert_eq!(
            (status, &response["data"]["createEvents"]["created"]),
            (200, &json!(100)),
            "{encoding}: {response}"
        );
    }
    assert_eq!(server.number("SELECT count(*) FROM event").await, 500);
}

async fn a_body_that_decodes_to_too_much_is_refused_at_a_bounded_cost(server: &TestServer) {
    let client = server.client("ann");
    let padded = |blanks: usize| {
        format!("{}{{\"query\":\"{{ viewer {{ userId }} }}\"}}", " ".repeat(blanks)).into_bytes()
    };
    // The bodies are: one with a ratio of about 1000, one of over 4 MiB with a small ratio, and one that is
    // not too large.
    let random: Vec<u8> =
        (0..5_000_000_u32).map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 20).collect();
    let large =
        [b"{\"query\":\"{ viewer { userId } }\",\"operationName\":\"".as_slice(), &random, b"\"}"].concat();
    for (body, expected) in [(padded(1_000_000), 413), (large, 413), (padded(60_000), 200)] {
        for encoded in [("gzip", gzip(&body)), ("zstd", zstd::encode_all(&body[..], 3).unwrap())] {
            let (status, response) = post(&client, encoded.0, encoded.1).await;
            let code = &response["errors"][0]["extensions"]["code"];
            assert_eq!(status, expected, "{}: {response}", encoded.0);
            assert!(expected == 200 || code == "PAYLOAD_TOO_LARGE", "{response}");
        }
    }
    for encoding in ["gzip", "zstd"] {
        let (status, response) = post(&client, encoding, padded(0)).await;
        assert_eq!(
            (status, &response["errors"][0]["extensions"]["code"]),
            (400, &json!("BAD_USER_INPUT")),
            "{encoding}"
        );
    }
    let cut = gzip(&padded(10));
    assert_eq!(post(&client, "gzip", cut[..cut.len() - 4].to_vec()).await.0, 400);
}

async fn the_refusal_of_an_unsupported_encoding_names_it(server: &TestServer) {
    let client = server.client("ann");
    for encoding in ["br", "deflate", "gzip, gzip", "klingon"] {
        let (status, response) = post(&client, encoding, b"{}".to_vec()).await;
        let message = response["errors"][0]["message"].as_str().unwrap();
        assert_eq!((status, message.contains(encoding)), (415, true), "{response}");
        assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
        let put = client
            .http
            .put(format!("{}/imports/{}/payload", client.url, new_id()))
            .bearer_auth(&client.token);
        let response = put.header("content-encoding", encoding).body("x").send().await.unwrap();
        assert_eq!(response.status(), 415, "{encoding}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

async fn a_payload_is_detected_by_its_content_and_its_header_must_not_contradict_it(server: &TestServer) {
    let client = server.client("ann");
    let plain = b"{\"eventType\":\"run\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n".to_vec();
    let zipped = gzip(&plain);
    let send = async |encoding: &str, payload: &[u8]| {
        let id = new_id();
        client.create_import(&id, payload.len(), None).await;
        let put = client.http.put(format!("{}/imports/{id}/payload", client.url)).bearer_auth(&client.token);
        let response = put.header("content-encoding", encoding).body(payload.to_vec()).send().await.unwrap();
        (id, response.status().as_u16())
    };
    // Some tools write a skippable frame first (RFC 8878, section 3.1.2).
    let frame = b"\x50\x2a\x4d\x18\x04\0\0\0abcd".as_slice();
    let skippable = [frame, &zstd::encode_all(&plain[..], 3).unwrap()].concat();
    for (encoding, payload) in
        [("gzip", &zipped), ("identity", &zipped), ("identity", &plain), ("zstd", &skippable)]
    {
        let (id, status) = send(encoding, payload).await;
        assert_eq!(
            (status, &client.wait_for_end(&id).await["state"]),
            (200, &json!("COMPLETED")),
            "{encoding}"
        );
    }
    for (encoding, payload) in [("gzip", &plain), ("zstd", &zipped)] {
        let (id, status) = send(encoding, payload).await;
        let job = client.import(&id).await;
        assert_eq!((status, &job["state"]), (400, &json!("AWAITING_UPLOAD")), "{encoding}: {job}");
        client.control_import("cancelImport", &id).await;
    }
}
