//! How much a user may ask for: a bucket of points each, in this process. It refills all the time, and a
//! refusal takes nothing out of it, so that whoever goes on asking is let in as soon as somebody who waited.
//! What an operation takes is told by [`cost`].

pub(crate) mod cost;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use domain::limits::RateLimit;
use governor::clock::{Clock, MonotonicClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use crate::error::ApiError;

/// `RateLimit` of draft-ietf-httpapi-ratelimit-headers.
pub(crate) const LEVEL_HEADER: HeaderName = HeaderName::from_static("ratelimit");
/// `RateLimit-Policy` of the same draft.
pub(crate) const POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Pause between two looks for users whose bucket is full again.
const FORGET_EVERY: Duration = Duration::from_secs(60);

type Buckets<C> = RateLimiter<Uuid, DashMapStateStore<Uuid>, C, StateInformationMiddleware>;

/// The buckets of all users who have asked for something of late. A full bucket is none: it is forgotten.
pub(crate) struct Limiter<C: Clock = MonotonicClock> {
    buckets: Buckets<C>,
    quota: Quota,
    forgot_at: Mutex<C::Instant>,
}

/// What an operation costs, and how its user stands behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    /// In points.
    pub cost: u32,
    /// None without a limit.
    pub level: Option<Level>,
}

/// How full a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Points of a full one.
    pub points: u32,
    /// Whole points that are left.
    pub remaining: u32,
    /// For one point to come back.
    pub(crate) point_every: Duration,
}

impl Limiter {
    /// By the clock that no one sets: with one set back, nothing would refill until it is where it was.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self::with_clock(limit, MonotonicClock)
    }
}

impl<C: Clock> Limiter<C> {
    fn with_clock(limit: RateLimit, clock: C) -> Self {
        let RateLimit { points, per_second } = limit;
        let quota = Quota::per_second(per_second).allow_burst(points);
        let forgot_at = Mutex::new(clock.now());
        let buckets = RateLimiter::dashmap_with_clock(quota, clock).with_middleware();
        Self { buckets, quota, forgot_at }
    }

    /// Takes what an operation costs from the bucket of its user; of one that costs more than a bucket holds,
    /// a whole bucket.
    ///
    /// # Errors
    /// When so much is not there yet. Then nothing is taken.
    pub(crate) fn take(&self, user_id: Uuid, cost: u32) -> Result<Charge, ApiError> {
        self.forget();
        let (points, point_every) = (self.quota.burst_size(), self.quota.replenish_interval());
        let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN).min(points);
        let level = |remaining| Level { points: points.get(), remaining, point_every };
        match self.buckets.check_key_n(&user_id, cost).expect("it is no more than a bucket holds") {
            Ok(state) => {
                Ok(Charge { cost: cost.get(), level: Some(level(state.remaining_burst_capacity())) })
            }
            Err(refused) => {
                metrics::counter!("idem_rate_limited_total").increment(1);
                let wait = refused.wait_time_from(self.buckets.clock().now());
                let lacking = wait.as_nanos().div_ceil(point_every.as_nanos());
                let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
                let level = level(cost.get().saturating_sub(lacking));
                Err(ApiError::RateLimited { retry_after_ms: millis(wait).max(1), level })
            }
        }
    }

    /// Forgets who has not asked for so long that nothing is missing. Whoever comes first does it, so that no
    /// task has to end with the server.
    fn forget(&self) {
        let now = self.buckets.clock().now();
        let Ok(mut forgot_at) = self.forgot_at.try_lock() else {
            return;
        };
        if Duration::from(now.duration_since(*forgot_at)) >= FORGET_EVERY {
            *forgot_at = now;
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
    }
}

impl Charge {
    /// Tells it in the head of an answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some(level) = self.level {
            level.write(headers);
        }
    }
}

impl Level {
    /// Until the bucket is full, by the whole point.
    pub(crate) fn full_in_ms(&self) -> u64 {
        millis(self.point_every.saturating_mul(self.points - self.remaining))
    }

    /// Tells it in the head of an answer. The window of the policy is what an empty bucket takes to fill.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let window_ms = millis(self.point_every.saturating_mul(self.points));
        let policy = format!("\"user\";q={};w={}", self.points, seconds(window_ms));
        let level = format!("\"user\";r={};t={}", self.remaining, seconds(self.full_in_ms()));
        for (name, text) in [(POLICY_HEADER, policy), (LEVEL_HEADER, level)] {
            headers.insert(name, HeaderValue::try_from(text).expect("ASCII"));
        }
    }
}

/// Whole milliseconds, rounded up: so long is enough.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Whole seconds, rounded up, as headers want them.
pub(crate) fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}
