//! Makes the requests that write events, as a phone would send them. Events are numbered, and the number
//! determines the id and the timestamp.
//!
//! The rows of `sql/fill.sql` and the events that pgbench inserts are numbered in the same way.

use std::cell::Cell;
use std::rc::Rc;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::http;

/// 2020-01-01 in milliseconds since the Unix epoch. Event `n` is `n` seconds later.
pub const FIRST_MS: i64 = 1_577_836_800_000;
/// The event type of every user.
pub const TYPE_ID: &str = "019b6fff-0000-7000-8000-000000000001";
/// The notes of every event.
pub const NOTES: &str =
    "Along the river to the old bridge and back, light rain, the last two kilometres felt easy";
/// The properties of every event, as canonical JSON.
pub const PROPERTIES: &str =
    r#"{"calories":612,"distance_m":8214,"duration_s":2731,"heart_rate_avg":148,"shoes":"blue, 2nd pair"}"#;

/// The prefix of external ids. The number of the event follows, with twelve digits.
pub const EXTERNAL_ID_PREFIX: &str = "watch-";

const CREATE: &str = "mutation CreateEvent($input: CreateEventInput!) { createEvent(input: $input) { result { \
    outcome version problem { code detail retryable } event { id version updatedAt } } } }";
const CREATE_MANY: &str = "mutation CreateEvents($input: CreateEventsInput!) { createEvents(input: $input) { \
    created duplicates deleted rejected results { index outcome version problem { code detail retryable } } } }";

/// Placeholder for the number of an event: twelve characters, as many as the digits that replace it.
const NUMBER_PLACEHOLDER: &str = "############";
/// Placeholder for the timestamp of an event, as long as the timestamp that replaces it.
const TIME_PLACEHOLDER: &str = "@@@@-@@-@@T@@:@@:@@.@@@Z";

/// Gives out event numbers that were not used in this run.
#[derive(Clone)]
pub struct Numbers(Rc<Cell<u64>>);

impl Numbers {
    /// Starts far above the numbers of the rows that SQL inserts.
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(100_000_000)))
    }

    /// The next number.
    pub fn take(&self) -> u64 {
        let number = self.0.get();
        self.0.set(number + 1);
        number
    }
}

/// The content of an event besides its id and timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Notes and properties.
    Plain,
    /// As `Plain`, with an external id that contains the number of the event.
    WithExternalId,
    /// As `WithExternalId`, with other notes.
    Changed,
}

/// A request whose events get new numbers in place, so that building it costs next to nothing.
pub struct Template {
    request: Vec<u8>,
    /// Where the number and the timestamp of each event are.
    slots: Vec<Slot>,
}

struct Slot {
    numbers: Vec<usize>,
    time: usize,
}

impl Template {
    /// A `createEvent`.
    pub fn single(token: &str, content: Content) -> Self {
        let input = json!({ "event": event(content), "clientId": "phone-1" });
        Self::new(token, CREATE, &input)
    }

    /// A `createEvents` with this many events.
    pub fn batch(token: &str, events: usize, content: Content) -> Self {
        let events = vec![event(content); events];
        Self::new(token, CREATE_MANY, &json!({ "events": events, "clientId": "phone-1" }))
    }

    /// A create of one event for the peer.
    pub fn peer_single(token: &str, content: Content) -> Self {
        Self::of_request(http::post("/events", token, &event(content).to_string()))
    }

    /// A create of this many events for the peer.
    pub fn peer_batch(token: &str, events: usize, content: Content) -> Self {
        let body = json!({ "events": vec![event(content); events] }).to_string();
        Self::of_request(http::post("/events/batch", token, &body))
    }

    fn new(token: &str, query: &str, input: &Value) -> Self {
        let body = json!({ "query": query, "variables": { "input": input } }).to_string();
        Self::of_request(http::graphql(token, &body))
    }

    fn of_request(request: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&request);
        let numbers: Vec<usize> = text.match_indices(NUMBER_PLACEHOLDER).map(|(at, _)| at).collect();
        let times: Vec<usize> = text.match_indices(TIME_PLACEHOLDER).map(|(at, _)| at).collect();
        // Each event has the same number of placeholders.
        let numbers = numbers.chunks((numbers.len() / times.len().max(1)).max(1));
        let slots =
            numbers.zip(&times).map(|(numbers, time)| Slot { numbers: numbers.to_vec(), time: *time });
        let slots = slots.collect();
        Self { slots, request }
    }

    /// The request, with a number from `next` for each of its events.
    pub fn render(&mut self, mut next: impl FnMut() -> u64) -> &[u8] {
        for slot in &self.slots {
            let number = next();
            let digits = format!("{number:012}");
            let time = time(number);
            for at in &slot.numbers {
                self.request[*at..at + digits.len()].copy_from_slice(digits.as_bytes());
            }
            self.request[slot.time..slot.time + time.len()].copy_from_slice(time.as_bytes());
        }
        &self.request
    }
}

/// The id of an event. The placeholder is not hexadecimal, so the server refuses one that was not replaced.
fn id(digits: &str) -> String {
    format!("019b7000-0000-7000-8000-{digits}")
}

fn event(content: Content) -> Value {
    let properties: Value = serde_json::from_str(PROPERTIES).unwrap_or_default();
    let mut event = json!({
        "id": id(NUMBER_PLACEHOLDER), "eventTypeId": TYPE_ID, "timestamp": TIME_PLACEHOLDER, "timeZone": "Europe/Berlin",
        "notes": NOTES, "properties": properties,
    });
    if content != Content::Plain {
        event["externalId"] = json!(format!("{EXTERNAL_ID_PREFIX}{NUMBER_PLACEHOLDER}"));
    }
    if content == Content::Changed {
        event["notes"] = json!("Another note");
    }
    event
}

/// The timestamp of event `number`, as RFC 3339.
pub fn time(number: u64) -> String {
    let ms = FIRST_MS + i64::try_from(number).unwrap_or_default() * 1_000;
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A fast pseudorandom number generator (xorshift64; Marsaglia 2003) with the same sequence in every run.
pub struct Random(u64);

impl Random {
    /// A generator whose sequence depends on the seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
