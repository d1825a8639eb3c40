//! What a user may ask for.

use async_graphql::SimpleObject;

use crate::graphql::scalar::DateTime;
use crate::limiter::Charge;

/// How this user stands, in points: the bucket of one process, which refills all the time. A server without a
/// limit tells 2147483647 as `limit` and as `remaining`.
#[derive(Debug, Clone, SimpleObject)]
pub struct RateLimit {
    /// Points of a full bucket.
    limit: i32,
    /// What this request took: at least 1 a field at its root, 1 an item that is written, 1 for each hundred
    /// entries that a list is asked for.
    cost: i32,
    /// What is left.
    remaining: i32,
    /// When the bucket is full again, if nothing is asked for until then.
    reset_at: DateTime,
}

impl RateLimit {
    pub(crate) fn of(charge: Charge, now_ms: i64) -> Self {
        let Charge { cost, level } = charge;
        let int = |points: Option<u32>| points.and_then(|points| points.try_into().ok()).unwrap_or(i32::MAX);
        let full_in_ms = level.map_or(0, |level| level.full_in_ms());
        Self {
            limit: int(level.map(|level| level.points)),
            cost: int(Some(cost)),
            remaining: int(level.map(|level| level.remaining)),
            reset_at: DateTime::At(now_ms.saturating_add_unsigned(full_in_ms)),
        }
    }
}
