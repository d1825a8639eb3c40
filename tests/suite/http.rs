//! The front door: who is let in, what is read, and how refusals look.

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
    nobody_without_a_valid_token_learns_anything,
    every_refusal_has_one_shape_and_its_status,
    hostile_documents_are_refused_and_the_process_lives,
    answers_are_negotiated_as_graphql_over_http_says,
    a_mutation_ends_even_if_its_client_hangs_up,
    duplicate_keys_are_a_problem_of_their_item,
    an_upgrade_to_anything_but_a_websocket_is_passed_over,
    nothing_is_suggested_to_strangers,
);

async fn nobody_without_a_valid_token_learns_anything(server: &TestServer) {
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
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401);
            bodies.push(answer.text().await.unwrap());
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
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
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
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let (got, answer) = post(&client, kind, body).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!((got, &extensions["code"]), (status, &json!(code)), "{shown}: {answer}");
        assert!(
            extensions["problem"]["requestId"].is_string() && answer.get("data").is_none(),
            "{shown}: {answer}"
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
        let (status, answer) =
            post(&client, "application/json", json!({ "query": document }).to_string()).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!((status, &extensions["code"]), (400, &json!("LIMIT_EXCEEDED")), "{answer}");
        assert!(extensions["limit"]["max"].is_u64(), "{limit}: {answer}");
    }
    assert!(client.ask("{ viewer { userId } }", json!({})).await["viewer"]["userId"].is_string());
}

async fn answers_are_negotiated_as_graphql_over_http_says(server: &TestServer) {
    let client = server.client("ann");
    let ask = |accept: Option<&'static str>, query: &'static str| {
        let mut request = client.http.post(format!("{}/graphql", server.url)).bearer_auth(&client.token);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let request = request.json(&json!({ "query": query }));
        async move {
            let answer = request.send().await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind.split(';').next().unwrap().to_owned())
        }
    };
    let (good, bad) = ("{ viewer { userId } }", "{ nothing }");
    let (json, response) = ("application/json".to_owned(), "application/graphql-response+json".to_owned());
    assert_eq!(ask(None, good).await, (200, json.clone()));
    assert_eq!(ask(Some("*/*"), good).await, (200, json.clone()));
    assert_eq!(ask(Some("application/json"), bad).await, (200, json.clone()));
    assert_eq!(
        ask(Some("application/graphql-response+json, application/json;q=0.9"), good).await,
        (200, response.clone())
    );
    assert_eq!(ask(Some("application/graphql-response+json"), bad).await, (400, response));
    assert_eq!(ask(Some("text/html"), good).await.0, 406);
}

async fn a_mutation_ends_even_if_its_client_hangs_up(server: &TestServer) {
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
        // Half a batch would be one that ended inside its transaction.
        crate::harness::eventually("each batch is whole", || async {
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
    let (status, answer) = post(&client, "application/json", body).await;
    let payload = &answer["data"]["createEvents"];
    assert_eq!((status, &payload["created"]), (200, &json!(1)), "{answer}");
    assert_eq!(payload["results"][0]["problem"]["code"], "INVALID_JSON");
    let read = client.ask("{ events { nodes { properties } } }", json!({})).await;
    assert_eq!(read["events"]["nodes"][0]["properties"]["a"], json!(u64::MAX));
}

async fn an_upgrade_to_anything_but_a_websocket_is_passed_over(server: &TestServer) {
    let client = server.client("ann");
    let get = async |upgrade: &'static str| {
        let url = format!("{}/graphql", server.url);
        let request = client.http.get(url).query(&[("query", "{ viewer { userId } }")]);
        let request = request.bearer_auth(&client.token).header("upgrade", upgrade);
        request.header("connection", "Upgrade, HTTP2-Settings").send().await.unwrap()
    };
    for upgrade in ["h2c", "TLS/1.0, h2c"] {
        let answer = get(upgrade).await;
        assert_eq!(answer.status(), 200, "{upgrade}");
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["data"]["viewer"]["userId"].is_string(), "{answer}");
    }
    // Without the other headers of a WebSocket it is none.
    for upgrade in ["WebSocket", "h2c, websocket"] {
        assert_eq!(get(upgrade).await.status(), 400, "{upgrade}");
    }
}

/// A suggestion tells of a schema that only `--dev` shows to everybody.
async fn nothing_is_suggested_to_strangers(server: &TestServer) {
    let client = server.client("ann");
    for query in [
        "{ viewr { userId } }",
        "{ viewer { userIt } }",
        "{ events(frist: 1) { nodes { id } } }",
        "query($f: EventFilte) { viewer { userId } }",
        "mutation { createEvent(input: { evnt: {} }) { result { outcome } } }",
        "{ events(filter: { tpyes: [] }) { nodes { id } } }",
    ] {
        let answer = client.send(query, json!({})).await;
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(!message.to_lowercase().contains("did you mean"), "{query}: {message}");
    }
}
