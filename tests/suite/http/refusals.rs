//! Tests refusals outside `/graphql`: they are problem+json (RFC 9457), and those about an upload have its
//! offset.

use std::num::NonZeroU32;

use domain::limits::RateLimit;
use reqwest::{RequestBuilder, Response};
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::process::Launch;
use crate::harness::{DatabaseKind, TestServer, eventually, new_id, on_both};

on_both!(
    every_refusal_outside_graphql_is_a_problem,
    every_response_about_an_own_upload_has_its_offset,
    a_page_size_out_of_range_is_an_error_and_is_not_clamped,
    every_refusal_has_one_shape_and_a_stable_code,
);

/// Sends a request that must be refused with this status and code. Checks and returns its problem.
async fn problem(request: RequestBuilder, status: u16, code: &str) -> Value {
    let response = request.header("x-request-id", "mine").send().await.unwrap();
    problem_of(response, status, code, "mine").await
}

/// Checks all members of the problem in a response. Returns the problem.
async fn problem_of(response: Response, status: u16, code: &str, id: &str) -> Value {
    let url = response.url().to_string();
    assert_eq!(response.status(), status, "{url}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{url}");
    let waits = response.headers().contains_key("retry-after");
    let problem: Value = response.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{url}: {problem}");
    assert_eq!(problem["instance"], json!(format!("urn:idem:request:{id}")), "{url}: {problem}");
    assert_eq!(problem["requestId"], json!(id), "{url}: {problem}");
    let kind = format!("urn:idem:problem:{}", code.to_lowercase().replace('_', "-"));
    assert_eq!(problem["type"], json!(kind), "{url}: {problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{url}: {problem}");
    let retryable = problem["retryable"].as_bool().unwrap();
    assert_eq!(retryable, problem["retryAfterMs"].is_u64(), "{url}: {problem}");
    assert_eq!(retryable, [401, 429, 503].contains(&status), "{url}: {problem}");
    assert_eq!(waits, [429, 503].contains(&status), "{url}");
    problem
}

async fn every_refusal_outside_graphql_is_a_problem(server: &TestServer) {
    let client = server.client("ann");
    let request = |method: &str, path: &str| {
        let url = format!("{}{path}", client.url);
        client.http.request(method.parse().unwrap(), url).bearer_auth(&client.token)
    };
    for (method, path, status, code) in [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/nothing/here", 404, "NOT_FOUND"),
        ("GET", "/imports/%ff/report", 400, "BAD_USER_INPUT"),
        ("PUT", "/imports/%ff/payload", 400, "BAD_USER_INPUT"),
        ("GET", "/imports/%ff/rejected", 400, "BAD_USER_INPUT"),
        ("GET", "/imports/no-uuid/report", 404, "NOT_FOUND"),
        ("PUT", "/imports/no-uuid/payload", 404, "NOT_FOUND"),
        ("DELETE", "/imports/no-uuid/payload", 405, "BAD_USER_INPUT"),
        ("GET", "/imports/preview", 405, "BAD_USER_INPUT"),
        ("POST", "/imports/preview", 400, "BAD_USER_INPUT"),
        ("POST", "/readyz", 405, "BAD_USER_INPUT"),
        ("POST", "/livez", 405, "BAD_USER_INPUT"),
        ("DELETE", "/schema.graphql", 405, "BAD_USER_INPUT"),
    ] {
        problem(request(method, path), status, code).await;
    }
    for path in ["payload", "report", "rejected"] {
        let method = if path == "payload" { "PUT" } else { "GET" };
        let url = format!("{}/imports/{}/{path}", client.url, new_id());
        problem(client.http.request(method.parse().unwrap(), url), 401, "UNAUTHENTICATED").await;
    }
}

async fn every_response_about_an_own_upload_has_its_offset(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    client.create_import(&id, 20 * 1024 * 1024, None).await;
    let part = 8 * 1024 * 1024;
    assert_eq!(client.put(&id, None, vec![b' '; part]).await.headers()["upload-offset"], part.to_string());
    let put = |offset: &str, encoding: &str| {
        let request = client.http.put(format!("{}/imports/{id}/payload", client.url)).body("a plain text");
        request
            .bearer_auth(&client.token)
            .header("upload-offset", offset)
            .header("content-encoding", encoding)
    };
    for (request, status) in [
        (put("no number", "identity"), 400),
        (put("-1", "identity"), 409),
        (put("7", "identity"), 409),
        (put("99999999999999", "identity"), 409),
        (put("8388608", "br"), 415),
        (put("0", "gzip"), 400),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["upload-offset"], part.to_string(), "{status}");
    }
    let head = client.head(&id).await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["upload-offset"]),
        (200, &json!(part).to_string()[..].parse().unwrap())
    );
    for what in ["report", "rejected"] {
        let get = client.http.get(format!("{}/imports/{id}/{what}", client.url)).bearer_auth(&client.token);
        assert_eq!(get.send().await.unwrap().headers()["upload-offset"], part.to_string(), "{what}");
    }
    client.control_import("cancelImport", &id).await;
    let late = client.put(&id, None, vec![b' ']).await;
    assert_eq!((late.status().as_u16(), late.headers().contains_key("upload-offset")), (409, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_points_is_told_when_to_retry() {
    let points = RateLimit { points: NonZeroU32::new(3).unwrap(), per_second: NonZeroU32::MIN };
    let server = TestServer::open_for(DatabaseKind::Sqlite, Some(points)).await;
    let client = server.client("ann");
    let file = json!({ "size": 1, "head": "eA==" });
    let ask =
        || client.http.post(format!("{}/imports/preview", client.url)).bearer_auth(&client.token).json(&file);
    for _ in 0..3 {
        assert_eq!(ask().send().await.unwrap().status(), 200);
    }
    let refused = problem(ask(), 429, "RATE_LIMITED").await;
    assert!((1..=1_000).contains(&refused["retryAfterMs"].as_u64().unwrap()), "{refused}");
    server.end().await;
}

/// After the start the table of migrations is changed, so that the server is not ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_ready_responds_with_a_problem() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let sql = Database::connect(&database).await.unwrap();
    sql.execute_unprepared("UPDATE seaql_migrations SET version = version || '_not'").await.unwrap();
    let readyz = format!("{}/readyz", process.url);
    let ask = async || client.http.get(&readyz).header("x-request-id", "mine").send().await.unwrap();
    eventually("it is not ready", || async { ask().await.status() == 503 }).await;
    problem_of(ask().await, 503, "UNAVAILABLE", "mine").await;
    sql.close().await.unwrap();
}

async fn a_page_size_out_of_range_is_an_error_and_is_not_clamped(server: &TestServer) {
    let client = server.client("ann");
    for (first, code) in [(0, "BAD_USER_INPUT"), (-1, "BAD_USER_INPUT"), (5_001, "LIMIT_EXCEEDED")] {
        let response =
            client.send("query($n: Int!) { changes(first: $n) { cursor } }", json!({ "n": first })).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], code, "{first}");
    }
    let both = client.send("{ events(first: 1, last: 1) { nodes { id } } }", json!({})).await;
    assert_eq!(both["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
}

async fn every_refusal_has_one_shape_and_a_stable_code(server: &TestServer) {
    let client = server.client("ann");
    let query = "mutation($input: DeleteEventInput!) { deleteEvent(input: $input) { result { problem \
        { type title status detail instance code retryable retryAfterMs errors { pointer code detail } } } } }";
    let item = client.ask(query, json!({ "input": { "id": new_id() } })).await;
    let item = &item["deleteEvent"]["result"]["problem"];
    assert_eq!(
        (&item["type"], &item["code"], &item["status"]),
        (&json!("urn:idem:problem:not-found"), &json!("NOT_FOUND"), &json!(404))
    );
    let whole = client.send(query, json!({ "input": { "id": new_id(), "what": 1 } })).await;
    let request = &whole["errors"][0]["extensions"]["problem"];
    for field in ["type", "title", "status", "detail", "code", "retryable"] {
        assert!(!item[field].is_null() && !request[field].is_null(), "{field}: {item} {request}");
    }
    assert_eq!(request["code"], whole["errors"][0]["extensions"]["code"]);
}
