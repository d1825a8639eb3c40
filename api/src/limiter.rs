//! Limits how much each user may request, with a token bucket of points for each user.
//!
//! The buckets are kept in the memory of this process. They refill continuously, and a refused request takes
//! no points. A client that keeps trying is therefore accepted as soon as one that waited. [`cost`]
//! calculates the points of an operation.

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

/// The `RateLimit` header of draft-ietf-httpapi-ratelimit-headers: how many points a user has left.
pub(crate) const LEVEL_HEADER: HeaderName = HeaderName::from_static("ratelimit");
/// The `RateLimit-Policy` header of draft-ietf-httpapi-ratelimit-headers: the points of a full bucket, and
/// how fast it fills.
pub(crate) const POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The shortest time between two evictions of full buckets.
const EVICT_EVERY: Duration = Duration::from_secs(60);

type Buckets<C> = RateLimiter<Uuid, DashMapStateStore<Uuid>, C, StateInformationMiddleware>;

/// The rate limit: a token bucket of points for each user, in the memory of this process. A missing bucket
/// counts as full, so full ones are evicted.
pub(crate) struct Limiter<C: Clock = MonotonicClock> {
    buckets: Buckets<C>,
    quota: Quota,
    evicted_at: Mutex<C::Instant>,
}

/// The cost of an operation, and the level of its user's bucket after the points were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    /// The points that the operation costs.
    pub cost: u32,
    /// The level of the user's bucket. `None` before the points are taken, and if the server has no rate
    /// limit.
    pub level: Option<Level>,
}

/// How full the rate limit bucket of a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The number of points in a full bucket.
    pub points: u32,
    /// The whole points that are left in the bucket.
    pub remaining: u32,
    /// The time in which the bucket gets one point back.
    pub(crate) point_every: Duration,
}

impl Limiter {
    /// Creates a limiter in which all buckets are full. It uses the monotonic clock: if a wall clock were set
    /// back, no bucket would refill until it caught up.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self::with_clock(limit, MonotonicClock)
    }
}

impl<C: Clock> Limiter<C> {
    fn with_clock(limit: RateLimit, clock: C) -> Self {
        let RateLimit { points, per_second } = limit;
        let quota = Quota::per_second(per_second).allow_burst(points);
        let evicted_at = Mutex::new(clock.now());
        let buckets = RateLimiter::dashmap_with_clock(quota, clock).with_middleware();
        Self { buckets, quota, evicted_at }
    }

    /// Takes the points of an operation from the bucket of its user, at least one. An operation that costs
    /// more than a full bucket takes a full bucket.
    ///
    /// # Errors
    /// [`ApiError::RateLimited`] if the bucket has too few points. Then nothing is taken.
    pub(crate) fn take_points(&self, user_id: Uuid, cost: u32) -> Result<Charge, ApiError> {
        self.evict_full_buckets();
        let (points, point_every) = (self.quota.burst_size(), self.quota.replenish_interval());
        let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN).min(points);
        let level = |remaining| Level { points: points.get(), remaining, point_every };
        match self.buckets.check_key_n(&user_id, cost).expect("the cost is at most a full bucket") {
            Ok(state) => {
                Ok(Charge { cost: cost.get(), level: Some(level(state.remaining_burst_capacity())) })
            }
            Err(refused) => {
                metrics::counter!("idem_rate_limited_total").increment(1);
                let wait = refused.wait_time_from(self.buckets.clock().now());
                let lacking = wait.as_nanos().div_ceil(point_every.as_nanos());
                let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
                let level = level(cost.get().saturating_sub(lacking));
                Err(ApiError::RateLimited { retry_after_ms: round_up_to_millis(wait).max(1), level })
            }
        }
    }

    /// Evicts the buckets that are full again, at most once per [`EVICT_EVERY`]. A request does this on its
    /// way, so that no background task is needed that would have to stop with the server.
    fn evict_full_buckets(&self) {
        let now = self.buckets.clock().now();
        let Ok(mut evicted_at) = self.evicted_at.try_lock() else {
            return;
        };
        if Duration::from(now.duration_since(*evicted_at)) >= EVICT_EVERY {
            *evicted_at = now;
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
    }
}

impl Charge {
    /// Adds the rate limit headers to a response, if points were taken.
    pub(crate) fn add_rate_limit_headers(&self, headers: &mut HeaderMap) {
        if let Some(level) = self.level {
            level.add_rate_limit_headers(headers);
        }
    }
}

impl Level {
    /// Milliseconds until the bucket is full, calculated from whole points.
    pub(crate) fn ms_until_full(&self) -> u64 {
        round_up_to_millis(self.point_every.saturating_mul(self.points - self.remaining))
    }

    /// Adds the rate limit headers to a response. The window `w` of the policy is the time in which an empty
    /// bucket fills.
    pub(crate) fn add_rate_limit_headers(&self, headers: &mut HeaderMap) {
        let window_ms = round_up_to_millis(self.point_every.saturating_mul(self.points));
        let policy = format!("\"user\";q={};w={}", self.points, round_up_to_seconds(window_ms));
        let level = format!("\"user\";r={};t={}", self.remaining, round_up_to_seconds(self.ms_until_full()));
        for (name, text) in [(POLICY_HEADER, policy), (LEVEL_HEADER, level)] {
            headers.insert(name, HeaderValue::try_from(text).expect("ASCII"));
        }
    }
}

/// A duration in whole milliseconds. It is rounded up, so that a client that waits this long has waited long
/// enough.
fn round_up_to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Milliseconds as whole seconds, rounded up. The headers count in seconds.
pub(crate) fn round_up_to_seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}
