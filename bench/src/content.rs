//! What is written: events as a phone sends them, numbered, each number an id and a second of its own.
//!
//! The rows that `sql/fill.sql` makes are numbered the same way, and so are those of pgbench.

use std::cell::Cell;
use std::rc::Rc;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::http;

/// 2020-01-01 in epoch milliseconds; event `n` lies `n` seconds behind it.
pub const FIRST_MS: i64 = 1_577_836_800_000;
/// The event type of every user.
pub const TYPE_ID: &str = "019b6fff-0000-7000-8000-000000000001";
/// What a person noted.
pub const NOTES: &str =
    "Along the river to the old bridge and back, light rain, the last two kilometres felt easy";
/// What the watch added, in canonical form.
pub const PROPERTIES: &str =
    r#"{"calories":612,"distance_m":8214,"duration_s":2731,"heart_rate_avg":148,"shoes":"blue, 2nd pair"}"#;

/// What the external id of event `n` begins with; its twelve digits follow.
pub const EXTERNAL_ID_PREFIX: &str = "watch-";

const CREATE: &str = "mutation CreateEvent($input: CreateEventInput!) { createEvent(input: $input) { result { \
    outcome version problem { code detail retryable } event { id version updatedAt } } } }";
const CREATE_MANY: &str = "mutation CreateEvents($input: CreateEventsInput!) { createEvents(input: $input) { \
    created duplicates deleted rejected results { index outcome version problem { code detail retryable } } } }";

/// Stands for the number in an id; twelve digits, as it has.
const NUMBER_MARK: &str = "############";
/// Stands for the time that goes with it; as long as one.
const TIME_MARK: &str = "@@@@-@@-@@T@@:@@:@@.@@@Z";

/// Hands out numbers that no event of this run has yet.
#[derive(Clone)]
pub struct Numbers(Rc<Cell<u64>>);

impl Numbers {
    /// Far above the rows that are made by SQL.
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(100_000_000)))
    }

    /// The next one.
    pub fn take(&self) -> u64 {
        let number = self.0.get();
        self.0.set(number + 1);
        number
    }
}

/// What an event says beside its id and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A note and properties.
    Plain,
    /// The same, and an external id that has the number of the event.
    Keyed,
    /// As keyed, with another note.
    Changed,
}

/// A request whose events are renumbered in place.
pub struct Template {
    request: Vec<u8>,
    /// Where each event has its number and its time.
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

    /// A `createEvents` of so many.
    pub fn batch(token: &str, events: usize, content: Content) -> Self {
        let events = vec![event(content); events];
        Self::new(token, CREATE_MANY, &json!({ "events": events, "clientId": "phone-1" }))
    }

    fn new(token: &str, query: &str, input: &Value) -> Self {
        let body = json!({ "query": query, "variables": { "input": input } }).to_string();
        let request = http::graphql(token, &body);
        let text = String::from_utf8_lossy(&request);
        let numbers: Vec<usize> = text.match_indices(NUMBER_MARK).map(|(at, _)| at).collect();
        let times: Vec<usize> = text.match_indices(TIME_MARK).map(|(at, _)| at).collect();
        // Every event has the same number of marks.
        let numbers = numbers.chunks((numbers.len() / times.len().max(1)).max(1));
        let slots =
            numbers.zip(&times).map(|(numbers, time)| Slot { numbers: numbers.to_vec(), time: *time });
        let slots = slots.collect();
        Self { slots, request }
    }

    /// The request with the next number for each of its events.
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

/// The id of event `number`; the marks are not hexadecimal, so that one left over is refused.
fn id(digits: &str) -> String {
    format!("019b7000-0000-7000-8000-{digits}")
}

fn event(content: Content) -> Value {
    let properties: Value = serde_json::from_str(PROPERTIES).unwrap_or_default();
    let mut event = json!({
        "id": id(NUMBER_MARK), "eventTypeId": TYPE_ID, "timestamp": TIME_MARK, "timeZone": "Europe/Berlin",
        "notes": NOTES, "properties": properties,
    });
    if content != Content::Plain {
        event["externalId"] = json!(format!("{EXTERNAL_ID_PREFIX}{NUMBER_MARK}"));
    }
    if content == Content::Changed {
        event["notes"] = json!("Another note");
    }
    event
}

/// The time of event `number`, as it is written.
pub fn time(number: u64) -> String {
    let ms = FIRST_MS + i64::try_from(number).unwrap_or_default() * 1_000;
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A quick source of numbers that look random (xorshift64; Marsaglia 2003), the same in every run.
pub struct Random(u64);

impl Random {
    /// One that differs by its seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
