use governor::clock::FakeRelativeClock;

use super::*;

const ANN: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);

fn limiter(points: u32, per_second: u32) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    let number = |number| NonZeroU32::new(number).expect("the case is not zero");
    let limit = RateLimit { points: number(points), per_second: number(per_second) };
    (Limiter::with_clock(limit, clock.clone()), clock)
}

/// Returns the points that are left, or the milliseconds to wait and the points that are left.
fn take(limiter: &Limiter<FakeRelativeClock>, user_id: Uuid, cost: u32) -> Result<u32, (u64, u32)> {
    match limiter.take_points(user_id, cost) {
        Ok(charge) => Ok(charge.level.expect("there is a limit").remaining),
        Err(ApiError::RateLimited { retry_after_ms, level }) => Err((retry_after_ms, level.remaining)),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_takes_no_points_and_its_waiting_time_is_enough() {
    let (limiter, clock) = limiter(100, 10);
    assert_eq!(take(&limiter, ANN, 95), Ok(5));
    for _ in 0..1_000 {
        assert_eq!(take(&limiter, ANN, 7), Err((200, 5)));
    }
    // A cheaper operation is still accepted.
    assert_eq!(take(&limiter, ANN, 2), Ok(3));
    assert_eq!(take(&limiter, ANN, 7), Err((400, 3)));
    clock.advance(Duration::from_millis(399));
    assert_eq!(take(&limiter, ANN, 7), Err((1, 6)));
    clock.advance(Duration::from_millis(1));
    assert_eq!(take(&limiter, ANN, 7), Ok(0));
    assert_eq!(take(&limiter, BOB, 1), Ok(99));
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(take(&limiter, ANN, 1), Ok(99));
}

#[test]
fn an_operation_that_costs_more_than_a_full_bucket_takes_a_full_bucket() {
    let (limiter, clock) = limiter(100, 10);
    let charge = limiter.take_points(ANN, u32::MAX).expect("the bucket is full");
    assert_eq!((charge.cost, charge.level.map(|level| level.remaining)), (100, Some(0)));
    assert_eq!(take(&limiter, ANN, u32::MAX), Err((10_000, 0)));
    clock.advance(Duration::from_secs(10));
    assert_eq!(take(&limiter, ANN, 101), Ok(0));
}

#[test]
fn the_largest_settings_do_not_overflow() {
    for (points, per_second) in
        [(1_000_000_000, 1), (1_000_000_000, 1_000_000_000), (1, 1), (1, 1_000_000_000)]
    {
        let (limiter, clock) = limiter(points, per_second);
        assert_eq!(take(&limiter, ANN, points), Ok(0), "{points} {per_second}");
        assert!(take(&limiter, ANN, 1).is_err(), "{points} {per_second}");
        clock.advance(Duration::from_secs(1));
        assert!(take(&limiter, ANN, 1).is_ok(), "{points} {per_second}");
    }
}

#[test]
fn full_buckets_are_evicted() {
    let (limiter, clock) = limiter(1_000, 10);
    for user in 0..500 {
        assert_eq!(take(&limiter, Uuid::from_u128(user), 1), Ok(999));
    }
    assert_eq!(take(&limiter, ANN, 999), Ok(0));
    clock.advance(EVICT_EVERY);
    assert_eq!(take(&limiter, BOB, 1), Ok(999));
    // Ann's bucket still lacks 400 points.
    assert_eq!((limiter.buckets.len(), take(&limiter, ANN, 601)), (2, Err((100, 600))));
}

#[test]
fn the_headers_show_policy_and_level_as_structured_fields() {
    let (limiter, clock) = limiter(20_000, 200);
    let headers_after = |cost| {
        let mut headers = HeaderMap::new();
        match limiter.take_points(ANN, cost) {
            Ok(charge) => charge.add_rate_limit_headers(&mut headers),
            Err(ApiError::RateLimited { level, .. }) => level.add_rate_limit_headers(&mut headers),
            Err(other) => panic!("{other:?}"),
        }
        [POLICY_HEADER, LEVEL_HEADER].map(|name| headers[name].to_str().map(str::to_owned).expect("ASCII"))
    };
    assert_eq!(headers_after(10), ["\"user\";q=20000;w=100", "\"user\";r=19990;t=1"]);
    assert_eq!(headers_after(19_990), ["\"user\";q=20000;w=100", "\"user\";r=0;t=100"]);
    clock.advance(Duration::from_millis(1_502));
    assert_eq!(headers_after(400), ["\"user\";q=20000;w=100", "\"user\";r=300;t=99"]);
    let mut headers = HeaderMap::new();
    Charge { cost: 1, level: None }.add_rate_limit_headers(&mut headers);
    assert!(headers.is_empty());
}
