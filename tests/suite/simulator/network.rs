//! What is under way between devices and server. It may be delivered in any order, twice, late or never.

use serde_json::Value;

use super::dice::Dice;

/// By which mutation an outbox is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    ApplyMutations,
    CreateEvents,
    CreateEvent,
}

/// What a device asks of the server.
#[derive(Debug, Clone)]
pub enum Errand {
    Flush { door: Door, client: Option<String>, items: Vec<Value> },
    Pull { after: Option<String>, first: usize },
    Fetch { ids: Vec<String> },
}

#[derive(Debug, Clone)]
pub struct Request {
    pub call: u64,
    pub device: usize,
    pub errand: Errand,
}

#[derive(Debug)]
pub struct Answer {
    pub call: u64,
    pub device: usize,
    pub data: Value,
}

#[derive(Debug, Default)]
pub struct Network {
    pub requests: Vec<Request>,
    pub answers: Vec<Answer>,
}

impl Network {
    /// A request to execute now. Its double may stay under way.
    pub fn arrival(&mut self, dice: &mut Dice) -> Option<(Request, bool)> {
        let request = dice.take(&mut self.requests)?;
        let doubled = dice.chance(12);
        if doubled {
            self.requests.push(request.clone());
        }
        Some((request, doubled))
    }
}
