//! Tests automatic persisted queries, which send the hash of a document instead of the document.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, on_both, sha256};

on_both!(
    a_document_is_known_by_its_hash_once_it_has_run,
    a_refused_document_is_not_stored,
    a_hash_that_is_not_that_of_its_document_is_refused,
);

const QUERY: &str = "query Who { viewer { subject } }";

async fn send(client: &Client, query: Option<&str>, hash: &str) -> (u16, Value) {
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let body = json!({ "query": query, "extensions": extensions });
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token).json(&body);
    let response = request.header("accept", "application/graphql-response+json").send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn code(response: &Value) -> &Value {
    &response["errors"][0]["extensions"]["code"]
}

async fn a_document_is_known_by_its_hash_once_it_has_run(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (status, unknown) = send(&ann, None, &sha256(QUERY)).await;
    assert_eq!((status, code(&unknown)), (200, &json!("PERSISTED_QUERY_NOT_FOUND")), "{unknown}");
    // Apollo's clients look for exactly this text.
    assert_eq!(unknown["errors"][0]["message"], "PersistedQueryNotFound");
    let expected = |subject: &str| {
        let data = json!({ "viewer": { "subject": subject } });
        (200, json!({ "data": data, "extensions": { "cost": 1 } }))
    };
    assert_eq!(send(&ann, Some(QUERY), &sha256(QUERY)).await, expected("ann"));
    assert_eq!(send(&ann, None, &sha256(QUERY)).await, expected("ann"));
    // All users share the document, and each gets a response of their own.
    assert_eq!(send(&bob, None, &sha256(QUERY)).await, expected("bob"));
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": sha256(QUERY) } }).to_string();
    let get = bob.http.get(format!("{}/graphql", bob.url)).query(&[("extensions", extensions)]);
    let response: Value = get.bearer_auth(&bob.token).send().await.unwrap().json().await.unwrap();
    assert_eq!(response["data"]["viewer"]["subject"], "bob");
}

async fn a_refused_document_is_not_stored(server: &TestServer) {
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
    // A document of a request without a valid token is not stored either.
    let stranger = Client { token: "nobody".to_owned(), ..client.clone() };
    assert_eq!(send(&stranger, Some(QUERY), &sha256(QUERY)).await.0, 401);
    assert_eq!(code(&send(&client, None, &sha256(QUERY)).await.1), "PERSISTED_QUERY_NOT_FOUND");
}

async fn a_hash_that_is_not_that_of_its_document_is_refused(server: &TestServer) {
    let client = server.client("ann");
    for wrong in [&sha256("{ other }"), "abc", ""] {
        let (status, response) = send(&client, Some(QUERY), wrong).await;
        assert_eq!((status, code(&response)), (400, &json!("BAD_USER_INPUT")), "{response}");
    }
    assert_eq!(code(&send(&client, None, &sha256(QUERY)).await.1), "PERSISTED_QUERY_NOT_FOUND");
    let both = client.send("{ viewer { subject } }", json!({})).await;
    assert_eq!(both["data"]["viewer"]["subject"], "ann");
}
