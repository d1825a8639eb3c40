//! Provides the current time, new ids and random numbers, so that tests can set the time.
//!
//! Nothing else in the workspace asks the system for time or randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use domain::event_id;

/// A source of the current time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The clock of the machine.
    System,
    /// A time that a test sets, in epoch milliseconds.
    Fixed(Arc<AtomicI64>),
}

#[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

impl Clock {
    /// Makes a clock that shows `ms`, in epoch milliseconds, until it is set again.
    #[must_use]
    pub fn new_fixed(ms: i64) -> Self {
        Self::Fixed(Arc::new(AtomicI64::new(ms)))
    }

    /// The current time in epoch milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System => system_time()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Self::Fixed(ms) => ms.load(Ordering::SeqCst),
        }
    }

    /// A new UUIDv7 with the current time (RFC 9562, section 5.7).
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        let mut tail = [0; 10];
        self.fill_with_random_bytes(&mut tail);
        event_id::compose_uuid_v7(self.now_ms(), tail)
    }

    /// A random number from the operating system, also if the time is fixed. It may be negative.
    #[must_use]
    pub fn random_i64(&self) -> i64 {
        let mut bytes = [0; 8];
        self.fill_with_random_bytes(&mut bytes);
        i64::from_le_bytes(bytes)
    }

    fn fill_with_random_bytes(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has a source of randomness");
    }
}
