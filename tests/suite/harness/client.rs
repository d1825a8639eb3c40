//! Sends GraphQL and upload requests as one user.

use std::time::Duration;

use serde_json::{Value, json};
use service::Clock;
use sha2::{Digest, Sha256};

use super::SECRET;

/// A client that sends its requests with the token of one user.
#[derive(Debug, Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub token: String,
}

impl Client {
    pub fn new(url: &str, subject: &str) -> Self {
        let ttl = Duration::from_secs(3600);
        let token = idem::sign_token(SECRET, subject, None, None, ttl, Clock::System.now_ms()).unwrap();
        Self { http: reqwest::Client::new(), url: url.to_owned(), token }
    }

    /// Sends a request. Returns the whole response.
    pub async fn send(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(format!("{}/graphql", self.url)).bearer_auth(&self.token).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Sends a request and returns its `data`. Fails if the response has errors.
    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        let mut response = self.send(query, variables).await;
        assert!(response.get("errors").is_none(), "{response}");
        response["data"].take()
    }

    /// Creates an event type. Returns its id.
    pub async fn event_type(&self, name: &str) -> String {
        let query = "mutation($name: String) { createEventType(input: { eventType: { name: $name } }) \
            { result { outcome eventType { id } } } }";
        let data = self.ask(query, json!({ "name": name })).await;
        data["createEventType"]["result"]["eventType"]["id"].as_str().unwrap().to_owned()
    }

    /// Creates events in one batch. Returns the payload of the mutation.
    pub async fn create(&self, events: &[Value]) -> Value {
        let query = "mutation($events: [EventInput!]!) { createEvents(input: { events: $events, clientId: \"test\" }) { \
            created duplicates deleted rejected results { index sentId outcome matchedBy differs version \
            problem { code retryable retryAfterMs status errors { pointer code } } event { id version notes updatedAt } } } }";
        self.ask(query, json!({ "events": events })).await["createEvents"].take()
    }

    /// Pulls all changes after a cursor, in pages of `first`. Returns them and the last cursor.
    pub async fn pull(&self, after: Option<&str>, first: u32) -> (Vec<Value>, String) {
        let mut after = after.map(str::to_owned);
        let mut changes = Vec::new();
        loop {
            let page = self.page(after.as_deref(), first).await;
            assert!(page["reset"].is_null(), "{page}");
            changes.extend(page["changes"].as_array().unwrap().iter().cloned());
            let cursor = page["cursor"].as_str().unwrap().to_owned();
            if page["hasMore"] == false {
                return (changes, cursor);
            }
            after = Some(cursor);
        }
    }

    /// Pulls one page of changes.
    pub async fn page(&self, after: Option<&str>, first: u32) -> Value {
        let query = "query($after: Cursor, $first: Int!) { changes(after: $after, first: $first) { cursor hasMore reset \
            changes { entity entityId version deleted originClientId event { id notes } eventType { id name } } } }";
        self.ask(query, json!({ "after": after, "first": first })).await["changes"].take()
    }

    /// Creates an NDJSON import, whose payload is to be uploaded.
    pub async fn create_import(&self, id: &str, size: usize, sha256: Option<&str>) -> Value {
        let query = "mutation($input: CreateImportInput!) { createImport(input: $input) \
            { importJob { id state upload { url offset } } problem { code retryable } } }";
        let input = json!({ "id": id, "format": "NDJSON", "sizeBytes": size, "sha256": sha256 });
        self.ask(query, json!({ "input": input })).await["createImport"].take()
    }

    /// Uploads a payload, or the rest of it from `offset` on.
    pub async fn put(&self, id: &str, offset: Option<usize>, bytes: Vec<u8>) -> reqwest::Response {
        let mut request =
            self.http.put(format!("{}/imports/{id}/payload", self.url)).bearer_auth(&self.token);
        if let Some(offset) = offset {
            request = request.header("Upload-Offset", offset);
        }
        request.body(bytes).send().await.unwrap()
    }

    /// Requests how many bytes of a payload have arrived.
    pub async fn head(&self, id: &str) -> reqwest::Response {
        let request = self.http.head(format!("{}/imports/{id}/payload", self.url)).bearer_auth(&self.token);
        request.send().await.unwrap()
    }

    /// Loads an import in its present state.
    pub async fn import(&self, id: &str) -> Value {
        let query = "query($id: ID!) { importJob(id: $id) { state recordsTotal progress problem { code detail } \
            counts { records inserted duplicates differing deleted rejected } \
            rejections { totalCount nodes { record line pointer code detail excerpt } } } }";
        self.ask(query, json!({ "id": id })).await["importJob"].take()
    }

    /// Sends one of the mutations that control an import, for example `pauseImport`. Returns its payload.
    pub async fn control_import(&self, mutation: &str, id: &str) -> Value {
        let query = format!(
            "mutation($id: ID!) {{ {mutation}(input: {{ id: $id }}) {{ importJob {{ id state dryRun }} problem {{ code detail }} }} }}"
        );
        self.ask(&query, json!({ "id": id })).await[mutation].take()
    }

    /// Imports a payload and waits until the import has ended.
    pub async fn import_all(&self, id: &str, bytes: Vec<u8>) -> Value {
        self.create_import(id, bytes.len(), None).await;
        assert_eq!(self.put(id, None, bytes).await.status(), 200);
        self.wait_for_end(id).await
    }

    /// Waits until an import has ended. Returns it.
    pub async fn wait_for_end(&self, id: &str) -> Value {
        super::eventually("the import ends", || async {
            ["COMPLETED", "FAILED", "CANCELED", "ROLLED_BACK"]
                .contains(&self.import(id).await["state"].as_str().unwrap())
        })
        .await;
        self.import(id).await
    }
}

/// Returns a new UUIDv7.
pub fn new_id() -> String {
    Clock::System.new_id().to_string()
}

/// Returns the SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Returns the input of an event of this type, with a new id.
pub fn event(event_type_id: &str) -> Value {
    json!({ "id": new_id(), "eventTypeId": event_type_id, "timestamp": "2026-01-02T03:04:05Z", "notes": "a run" })
}
