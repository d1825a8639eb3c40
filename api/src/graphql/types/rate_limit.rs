//! The rate limit of the user.

use async_graphql::SimpleObject;

use crate::graphql::scalar::DateTime;
use crate::limiter::Charge;

/// The rate limit of the user, in points. Each server process keeps its own bucket for the user, which
/// refills continuously. A server without a rate limit returns 2147483647 for `limit` and `remaining`.
#[derive(Debug, Clone, SimpleObject)]
pub struct RateLimit {
    /// The points that a full bucket has.
    limit: i32,
    /// The points that this request took from the bucket: at least 1 for each root field, or for each item
    /// that is written (each ten items of `importEvents`), and 1 for each hundred entries that a list is
    /// asked for.
    cost: i32,
    /// The whole points that are left in the bucket after this request.
    remaining: i32,
    /// When the bucket is full again if the user makes no further request until then.
    reset_at: DateTime,
}

impl RateLimit {
    pub(crate) fn from_charge(charge: Charge, now_ms: i64) -> Self {
        let Charge { cost, level } = charge;
        let int = |points: Option<u32>| points.and_then(|points| points.try_into().ok()).unwrap_or(i32::MAX);
        let ms_until_full = level.map_or(0, |level| level.ms_until_full());
        Self {
            limit: int(level.map(|level| level.points)),
            cost: int(Some(cost)),
            remaining: int(level.map(|level| level.remaining)),
            reset_at: DateTime::At(now_ms.saturating_add_unsigned(ms_until_full)),
        }
    }
}
