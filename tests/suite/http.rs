//! Tests HTTP at `/graphql`: authentication, the parsing of requests, content negotiation, and the form of
//! refusals.

mod body_limits;
mod compression;
mod cors;
mod properties;
mod rate_limit;
mod refusals;
mod response_size;
mod unreadable_input;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, event, on_both};

on_both!(
    all_requests_without_a_valid_token_get_the_same_response,
    every_refusal_has_one_shape_and_its_status,
    hostile_documents_are_refused_and_the_process_lives,
    content_types_are_negotiated_as_graphql_over_http_specifies,
    a_mutation_completes_even_if_its_client_disconnects,
    duplicate_keys_are_a_problem_of_their_item,
    an_upgrade_to_anything_but_a_websocket_is_ignored,
    errors_suggest_no_names_of_the_schema,
);

async fn all_requests_without_a_valid_token_get_the_same_response(server: &TestServer) {
    let client = server.client("ann");
    let url = format!("{}/graphql", server.url);
    let now = 1_700_000_000_000;
    let hour = Duration::from_secs(3600);
    let expired = idem::sign_token(crate::harness::SECRET, "ann", None, None, hour, now).unwrap();
    let forged =
        idem::sign_token("another secret of 32 bytes or more!", "ann", None, None, hour, now * 2).unwrap();
    let mut bodies = Vec::new();
    for token in [None, Some(""), Some("x.y.z"), Some(expired.as_str()), Some(forged.as_str())] {
        for query in ["{ __schema { types { name } } }", "{ viewer { userId } }", "{ nonsense"] {
            let mut request =
                client.http.post(&url).json(&json!({ "query": query })).header("x-request-id", "same");
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401);
            bodies.push(response.text().await.unwrap());
        }
    }
    assert!(bodies.iter().all(|body| *body == bodies[0] && body.contains("UNAUTHENTICATED")));
    for path in ["/livez", "/readyz", "/schema.graphql"] {
        assert_eq!(client.http.get(format!("{}{path}", server.url)).send().await.unwrap().status(), 200);
    }
}

async fn post(client: &Client, kind: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let request = request.header("content-type", kind).header("accept", "application/graphql-response+json");
    let response = request.body(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn every_refusal_has_one_shape_and_its_status(server: &TestServer) {
    let client = server.client("ann");
    let json = "application/json";
    let deep = format!(
        "{{\"query\":\"{{ viewer {{ userId }} }}\",\"variables\":{{\"a\":{}1{}}}}}",
        "[".repeat(40),
        "]".repeat(40)
    );
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        (json, b"not json".to_vec(), 400, "BAD_USER_INPUT"),
        (json, vec![0xff, 0xfe], 400, "BAD_USER_INPUT"),
        (json, b"[]".to_vec(), 400, "BAD_USER_INPUT"),
        (json, b"{}".to_vec(), 400, "BAD_USER_INPUT"),
        (json, b"{\"query\":7}".to_vec(), 400, "BAD_USER_INPUT"),
        (json, b"{\"query\":\"{ viewer \"}".to_vec(), 400, "BAD_USER_INPUT"),
        (json, b"{\"query\":\"{ nothing }\"}".to_vec(), 400, "BAD_USER_INPUT"),
        (json, deep.into_bytes(), 400, "LIMIT_EXCEEDED"),
        ("text/plain", b"{\"query\":\"{ viewer { userId } }\"}".to_vec(), 415, "BAD_USER_INPUT"),
        (json, vec![b' '; 4 * 1024 * 1024 + 1], 413, "PAYLOAD_TOO_LARGE"),
    ];
    for (kind, body, status, code) in cases {
        let excerpt = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let (got, response) = post(&client, kind, body).await;
        let extensions = &response["errors"][0]["extensions"];
        assert_eq!((got, &extensions["code"]), (status, &json!(code)), "{excerpt}: {response}");
        assert!(
            extensions["problem"]["requestId"].is_string() && response.get("data").is_none(),
            "{excerpt}: {response}"
        );
    }
    let mutation = "mutation { createEvent(input: { event: {} }) { result { outcome } } }";
    let get = client
        .http
        .get(format!("{}/graphql", server.url))
        .query(&[("query", mutation)])
        .bearer_auth(&client.token);
    assert_eq!(get.send().await.unwrap().status(), 405);
}

async fn hostile_documents_are_refused_and_the_process_lives(server: &TestServer) {
    let client = server.client("ann");
    let lists = format!("{{ nodes(ids: {}{}) {{ id }} }}", "[".repeat(2_000), "]".repeat(2_000));
    let objects = format!("{{ a(b: {}1{}) }}", "{a:".repeat(2_000), "}".repeat(2_000));
    let mut bomb = "query { ...f0 } ".to_owned();
    for n in 0..40 {
        bomb.push_str(&format!("fragment f{n} on Query {{ ...f{0} ...f{0} }} ", n + 1));
    }
    bomb.push_str("fragment f40 on Query { viewer { userId } }");
    let aliases: String = (0..400).map(|n| format!("a{n}: viewer {{ userId }} ")).collect();
    let directives = format!("{{ viewer {} {{ userId }} }}", "@include(if: true) ".repeat(50));
    let long = format!("{{ viewer {{ userId }} }} #{}", "x".repeat(70_000));
    let cases = [
        (lists, "query nesting"),
        (objects, "query nesting"),
        (bomb, "query selections"),
        (format!("{{ {aliases} }}"), "query aliases"),
        (directives, "query directives"),
        (long, "query text"),
    ];
    for (document, limit) in cases {
        let (status, response) =
            post(&client, "application/json", json!({ "query": document }).to_string()).await;
        let extensions = &response["errors"][0]["extensions"];
        assert_eq!((status, &extensions["code"]), (400, &json!("LIMIT_EXCEEDED")), "{response}");
        assert!(extensions["limit"]["max"].is_u64(), "{limit}: {response}");
    }
    assert!(client.ask("{ viewer { userId } }", json!({})).await["viewer"]["userId"].is_string());
}

async fn content_types_are_negotiated_as_graphql_over_http_specifies(server: &TestServer) {
    let client = server.client("ann");
    let ask = |accept: Option<&'static str>, query: &'static str| {
        let mut request = client.http.post(format!("{}/graphql", server.url)).bearer_auth(&client.token);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let request = request.json(&json!({ "query": query }));
        async move {
            let response = request.send().await.unwrap();
            let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
            (response.status().as_u16(), content_type.split(';').next().unwrap().to_owned())
        }
    };
    let (good, bad) = ("{ viewer { userId } }", "{ nothing }");
    let (json, graphql) = ("application/json".to_owned(), "application/graphql-response+json".to_owned());
    assert_eq!(ask(None, good).await, (200, json.clone()));
    assert_eq!(ask(Some("*/*"), good).await, (200, json.clone()));
    assert_eq!(ask(Some("application/json"), bad).await, (200, json.clone()));
    assert_eq!(
        ask(Some("application/graphql-response+json, application/json;q=0.9"), good).await,
        (200, graphql.clone())
    );
    assert_eq!(ask(Some("application/graphql-response+json"), bad).await, (400, graphql));
    assert_eq!(ask(Some("text/html"), good).await.0, 406);
}

async fn a_mutation_completes_even_if_its_client_disconnects(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut sent = 0;
    for wait_ms in [0, 1, 2, 4, 8, 16] {
        let events: Vec<Value> = (0..50).map(|_| event(&kind)).collect();
        let query =
            "mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }";
        let body = json!({ "query": query, "variables": { "events": events } });
        let request =
            client.http.post(format!("{}/graphql", server.url)).bearer_auth(&client.token).json(&body);
        let _cut = tokio::time::timeout(Duration::from_millis(wait_ms), request.send()).await;
        sent += 50;
        // A part of a batch would mean that a transaction was not atomic.
        crate::harness::eventually("each batch is stored completely or not at all", || async {
            server.number("SELECT count(*) FROM event").await % 50 == 0
        })
        .await;
    }
    assert!(server.number("SELECT count(*) FROM event").await <= sent);
    assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
}

async fn duplicate_keys_are_a_problem_of_their_item(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let body = format!(
        "{{\"query\":\"mutation($e: [EventInput!]!) {{ createEvents(input: {{ events: $e }}) {{ created results \
         {{ outcome problem {{ code }} }} }} }}\",\"variables\":{{\"e\":[\
         {{\"eventTypeId\":\"{kind}\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"properties\":{{\"a\":1,\"a\":2}}}},\
         {{\"eventTypeId\":\"{kind}\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"properties\":{{\"a\":18446744073709551615}}}}]}}}}"
    );
    let (status, response) = post(&client, "application/json", body).await;
    let payload = &response["data"]["createEvents"];
    assert_eq!((status, &payload["created"]), (200, &json!(1)), "{response}");
    assert_eq!(payload["results"][0]["problem"]["code"], "INVALID_JSON");
    let read = client.ask("{ events { nodes { properties } } }", json!({})).await;
    assert_eq!(read["events"]["nodes"][0]["properties"]["a"], json!(u64::MAX));
}

async fn an_upgrade_to_anything_but_a_websocket_is_ignored(server: &TestServer) {
    let client = server.client("ann");
    let get = async |upgrade: &'static str| {
        let url = format!("{}/graphql", server.url);
        let request = client.http.get(url).query(&[("query", "{ viewer { userId } }")]);
        let request = request.bearer_auth(&client.token).header("upgrade", upgrade);
        request.header("connection", "Upgrade, HTTP2-Settings").send().await.unwrap()
    };
    for upgrade in ["h2c", "TLS/1.0, h2c"] {
        let response = get(upgrade).await;
        assert_eq!(response.status(), 200, "{upgrade}");
        let response: Value = response.json().await.unwrap();
        assert!(response["data"]["viewer"]["userId"].is_string(), "{response}");
    }
    // A WebSocket upgrade without its other headers is refused.
    for upgrade in ["WebSocket", "h2c, websocket"] {
        assert_eq!(get(upgrade).await.status(), 400, "{upgrade}");
    }
}

/// Suggestions would reveal names of the schema, which only `--dev` allows.
async fn errors_suggest_no_names_of_the_schema(server: &TestServer) {
    let client = server.client("ann");
    for query in [
        "{ viewr { userId } }",
        "{ viewer { userIt } }",
        "{ events(frist: 1) { nodes { id } } }",
        "query($f: EventFilte) { viewer { userId } }",
        "mutation { createEvent(input: { evnt: {} }) { result { outcome } } }",
        "{ events(filter: { tpyes: [] }) { nodes { id } } }",
    ] {
        let response = client.send(query, json!({})).await;
        let message = response["errors"][0]["message"].as_str().unwrap();
        assert!(!message.to_lowercase().contains("did you mean"), "{query}: {message}");
    }
}
