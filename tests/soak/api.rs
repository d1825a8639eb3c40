//! How a device reaches the servers: any of them, over a connection that may be lost, with answers that may be lost as
//! well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::harness::Client;
use crate::log::Log;

/// Longer than anybody may wait, so that it is noticed.
const PATIENCE: Duration = Duration::from_secs(45);

/// A device of a user.
pub struct Api {
    clients: Vec<Client>,
    http: reqwest::Client,
    pub user: usize,
    pub device: usize,
    pub dice: Dice,
    pub log: Arc<Log>,
}

impl Api {
    pub fn new(cluster: &Cluster, user: usize, device: usize, seed: u64, log: &Arc<Log>) -> Self {
        let clients = cluster.urls().iter().map(|url| Client::new(url, &format!("user {user}"))).collect();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let dice = Dice::new(seed, (user * 10 + device + 1) as u64);
        Self { clients, http, user, device, dice, log: Arc::clone(log) }
    }

    /// The installation that writes.
    pub fn client_id(&self) -> String {
        format!("device-{}-{}", self.user, self.device)
    }

    /// What only this user writes: whoever else reads it has been told too much.
    pub fn canary(&self) -> String {
        format!("canary of user {}:", self.user)
    }

    /// One of the servers.
    pub fn server(&mut self) -> Client {
        let place = self.dice.below(self.clients.len());
        self.clients[place].clone()
    }

    /// An id with a random part of its own, made now.
    pub fn new_id(&self) -> String {
        crate::harness::new_id()
    }

    /// Asks once. `None`: there was no answer, it was lost, or it was not available.
    pub async fn ask(&mut self, query: &str, variables: &Value) -> Option<Value> {
        let server = self.server();
        let body = json!({ "query": query, "variables": variables });
        let request =
            self.http.post(format!("{}/graphql", server.url)).bearer_auth(&server.token).json(&body);
        let begun = Instant::now();
        let answering = async { request.send().await.ok()?.json::<Value>().await.ok() };
        // Now and then whoever asks is gone before the answer.
        let answer = if self.dice.chance(4) {
            let patience = Duration::from_millis(self.dice.below(40) as u64);
            tokio::time::timeout(patience, answering).await.ok().flatten()
        } else {
            let answer = answering.await;
            self.log.waited(begun.elapsed(), query.split('(').next().unwrap_or_default());
            answer
        };
        let Some(mut answer) = answer else {
            self.log.unanswered();
            return None;
        };
        if answer["errors"].is_null() {
            return Some(answer["data"].take());
        }
        match answer["errors"][0]["extensions"]["code"].as_str() {
            Some("UNAVAILABLE") => self.log.unavailable(),
            _ => self.log.wrong(format!("an error that nobody deserves: {answer}")),
        }
        None
    }

    /// Asks until there is an answer, with the same words. `None`: something is wrong, and all is over.
    pub async fn insist(&mut self, query: &str, variables: &Value) -> Option<Value> {
        loop {
            if let Some(data) = self.ask(query, variables).await {
                return Some(data);
            }
            if self.log.is_over() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50 + self.dice.below(150) as u64)).await;
        }
    }

    /// Sends a payload as often as it takes, and goes on where it was cut.
    pub async fn upload(&mut self, id: &str, payload: &[u8]) -> Option<()> {
        loop {
            let server = self.server();
            let url = format!("{}/imports/{id}/payload", server.url);
            let request = self.http.put(url).bearer_auth(&server.token).body(payload.to_vec());
            let begun = Instant::now();
            let status = request.send().await.map(|answer| answer.status());
            self.log.waited(begun.elapsed(), "PUT");
            match status {
                Ok(StatusCode::OK) => return Some(()),
                // A step that another attempt of ours has taken meanwhile.
                Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT) => self.log.unavailable(),
                Ok(status) => self.log.wrong(format!("a payload was answered {status}")),
                Err(_) => self.log.unanswered(),
            }
            if self.log.is_over() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
