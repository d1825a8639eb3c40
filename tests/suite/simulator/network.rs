//! The messages between devices and the server. They may be delivered in any order, twice, late, or never.

use serde_json::Value;

use super::rng::Rng;

/// The mutation that sends items of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMutation {
    ApplyMutations,
    CreateEvents,
    CreateEvent,
}

/// A GraphQL operation of a device.
#[derive(Debug, Clone)]
pub enum Operation {
    Flush { mutation: FlushMutation, client: Option<String>, items: Vec<Value> },
    Pull { after: Option<String>, first: usize },
    Fetch { ids: Vec<String> },
}

#[derive(Debug, Clone)]
pub struct Request {
    pub call: u64,
    pub device: usize,
    pub operation: Operation,
}

#[derive(Debug)]
pub struct Response {
    pub call: u64,
    pub device: usize,
    pub data: Value,
}

#[derive(Debug, Default)]
pub struct Network {
    pub requests: Vec<Request>,
    pub responses: Vec<Response>,
}

impl Network {
    /// Takes a request that the server is to execute now. Sometimes a duplicate of it stays in the network:
    /// then the second value is true.
    pub fn next_request(&mut self, rng: &mut Rng) -> Option<(Request, bool)> {
        let request = rng.take(&mut self.requests)?;
        let is_duplicated = rng.chance(12);
        if is_duplicated {
            self.requests.push(request.clone());
        }
        Some((request, is_duplicated))
    }
}
