//! Sends the requests of a device. Each goes to a random server, and requests and responses may be lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::harness::Client;
use crate::log::Log;
use crate::rng::Rng;

/// It is longer than any response may take, so that a slow response is recorded as a finding.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);

/// The client of one device of a user.
pub struct Api {
    clients: Vec<Client>,
    http: reqwest::Client,
    pub user: usize,
    pub device: usize,
    pub rng: Rng,
    pub log: Arc<Log>,
}

impl Api {
    pub fn new(cluster: &Cluster, user: usize, device: usize, seed: u64, log: &Arc<Log>) -> Self {
        let clients = cluster.urls().iter().map(|url| Client::new(url, &format!("user {user}"))).collect();
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().unwrap();
        let rng = Rng::new(seed, (user * 10 + device + 1) as u64);
        Self { clients, http, user, device, rng, log: Arc::clone(log) }
    }

    /// Returns the client id of the device.
    pub fn client_id(&self) -> String {
        format!("device-{}-{}", self.user, self.device)
    }

    /// Returns the prefix of all notes of this user. No other user may receive it.
    pub fn canary(&self) -> String {
        format!("canary of user {}:", self.user)
    }

    /// Returns a client of a random server.
    pub fn server(&mut self) -> Client {
        let index = self.rng.below(self.clients.len());
        self.clients[index].clone()
    }

    /// Returns a new UUIDv7.
    pub fn new_id(&self) -> String {
        crate::harness::new_id()
    }

    /// Sends a request once and returns its `data`. Returns `None` if there was no response or the server was
    /// unavailable. Any other error is a finding.
    pub async fn ask(&mut self, query: &str, variables: &Value) -> Option<Value> {
        let server = self.server();
        let body = json!({ "query": query, "variables": variables });
        let request =
            self.http.post(format!("{}/graphql", server.url)).bearer_auth(&server.token).json(&body);
        let started_at = Instant::now();
        let receive = async { request.send().await.ok()?.json::<Value>().await.ok() };
        // Sometimes the client disconnects before the response.
        let response = if self.rng.chance(4) {
            let limit = Duration::from_millis(self.rng.below(40) as u64);
            tokio::time::timeout(limit, receive).await.ok().flatten()
        } else {
            let response = receive.await;
            self.log.waited(started_at.elapsed(), query.split('(').next().unwrap_or_default());
            response
        };
        let Some(mut response) = response else {
            self.log.unanswered();
            return None;
        };
        if response["errors"].is_null() {
            return Some(response["data"].take());
        }
        match response["errors"][0]["extensions"]["code"].as_str() {
            Some("UNAVAILABLE") => self.log.unavailable(),
            _ => self.log.wrong(format!("an unexpected error: {response}")),
        }
        None
    }

    /// Sends the same request until there is a response, and returns its `data`. Returns `None` if the test
    /// has to stop, because there is a finding.
    pub async fn ask_until_answered(&mut self, query: &str, variables: &Value) -> Option<Value> {
        loop {
            if let Some(data) = self.ask(query, variables).await {
                return Some(data);
            }
            if self.log.is_over() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50 + self.rng.below(150) as u64)).await;
        }
    }

    /// Uploads a payload, and repeats the upload until it succeeds. Returns `None` if the test has to stop,
    /// because there is a finding.
    pub async fn upload(&mut self, id: &str, payload: &[u8]) -> Option<()> {
        loop {
            let server = self.server();
            let url = format!("{}/imports/{id}/payload", server.url);
            let request = self.http.put(url).bearer_auth(&server.token).body(payload.to_vec());
            let started_at = Instant::now();
            let status = request.send().await.map(|response| response.status());
            self.log.waited(started_at.elapsed(), "PUT");
            match status {
                Ok(StatusCode::OK) => return Some(()),
                // 409: an earlier attempt of this device is still running or has completed the upload.
                Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT) => self.log.unavailable(),
                Ok(status) => self.log.wrong(format!("an upload was answered with {status}")),
                Err(_) => self.log.unanswered(),
            }
            if self.log.is_over() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
