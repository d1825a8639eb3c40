//! Automatic persisted queries: the hash of a document instead of the document.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, on_both, sha256};

on_both!(
    a_document_is_known_by_its_hash_once_somebody_has_run_it,
    nothing_is_kept_of_a_document_that_was_refused,
    a_hash_that_is_not_that_of_its_document_is_refused,
);

const QUERY: &str = "query Who { viewer { subject } }";

async fn send(client: &Client, query: Option<&str>, hash: &str) -> (u16, Value) {
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let body = json!({ "query": query, "extensions": extensions });
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token).json(&body);
    let answer = request.header("accept", "application/graphql-response+json").send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn code(answer: &Value) -> &Value {
    &answer["errors"][0]["extensions"]["code"]
}

async fn a_document_is_known_by_its_hash_once_somebody_has_run_it(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (status, unknown) = send(&ann, None, &sha256(QUERY)).await;
    assert_eq!((status, code(&unknown)), (200, &json!("PERSISTED_QUERY_NOT_FOUND")), "{unknown}");
    // The text that Apollo's clients look for.
    assert_eq!(unknown["errors"][0]["message"], "PersistedQueryNotFound");
    let told = |subject: &str| {
        let data = json!({ "viewer": { "subject": subject } });
        (200, json!({ "data": data, "extensions": { "cost": 1 } }))
    };
    assert_eq!(send(&ann, Some(QUERY), &sha256(QUERY)).await, told("ann"));
    assert_eq!(send(&ann, None, &sha256(QUERY)).await, told("ann"));
    // The document is everybody's, the answer is one's own.
    assert_eq!(send(&bob, None, &sha256(QUERY)).await, told("bob"));
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": sha256(QUERY) } }).to_string();
    let get = bob.http.get(format!("{}/graphql", bob.url)).query(&[("extensions", extensions)]);
    let answer: Value = get.bearer_auth(&bob.token).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"]["viewer"]["subject"], "bob");
}

async fn nothing_is_kept_of_a_document_that_was_refused(server: &TestServer) {
    let client = server.client("ann");
    let deep = format!("{} {}", "{ viewer ".repeat(40), "}".repeat(40));
    for wrong in ["{ nothing }", "{ viewer", deep.as_str()] {
        send(&client, Some(wrong), &sha256(wrong)).await;
        assert_eq!(
            code(&send(&client, None, &sha256(wrong)).await.1),
            "PERSISTED_QUERY_NOT_FOUND",
            "{wrong}"
        );
    }
    // Nor of one that nobody known has sent.
    let stranger = Client { token: "nobody".to_owned(), ..client.clone() };
    assert_eq!(send(&stranger, Some(QUERY), &sha256(QUERY)).await.0, 401);
    assert_eq!(code(&send(&client, None, &sha256(QUERY)).await.1), "PERSISTED_QUERY_NOT_FOUND");
}

async fn a_hash_that_is_not_that_of_its_document_is_refused(server: &TestServer) {
    let client = server.client("ann");
    for wrong in [&sha256("{ other }"), "abc", ""] {
        let (status, answer) = send(&client, Some(QUERY), wrong).await;
        assert_eq!((status, code(&answer)), (400, &json!("BAD_USER_INPUT")), "{answer}");
    }
    assert_eq!(code(&send(&client, None, &sha256(QUERY)).await.1), "PERSISTED_QUERY_NOT_FOUND");
    let both = client.send("{ viewer { subject } }", json!({})).await;
    assert_eq!(both["data"]["viewer"]["subject"], "ann");
}
