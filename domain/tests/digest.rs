//! Tests the monthly digests of the living rows.

use domain::digest::Digester;
use domain::event_id::compose_uuid_v7;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const JANUARY_MS: i64 = 1_767_225_600_000;
const FEBRUARY_MS: i64 = 1_769_904_000_000;

#[test]
fn rows_are_grouped_by_the_month_in_their_ids() {
    let rows: Vec<(Uuid, i32)> = [JANUARY_MS - 1, JANUARY_MS, FEBRUARY_MS - 1, FEBRUARY_MS]
        .into_iter()
        .zip(1..)
        .map(|(ms, version)| (compose_uuid_v7(ms, [7; 10]), version))
        .collect();
    let mut digester = Digester::default();
    rows.iter().for_each(|(id, version)| digester.add_row(*id, *version));
    let buckets = digester.into_month_digests();
    let months: Vec<_> = buckets.iter().map(|bucket| (bucket.month.as_str(), bucket.count)).collect();
    assert_eq!(months, [("2025-12", 1), ("2026-01", 2), ("2026-02", 1)]);
    let january = format!("{}:2\n{}:3\n", rows[1].0, rows[2].0);
    assert_eq!(buckets[1].hash, <[u8; 32]>::from(Sha256::digest(january)));
}

#[test]
fn no_rows_have_no_buckets_and_the_last_possible_month_has_one() {
    assert_eq!(Digester::default().into_month_digests(), []);
    let mut digester = Digester::default();
    digester.add_row(compose_uuid_v7(0, [0; 10]), 1);
    digester.add_row(compose_uuid_v7(i64::MAX, [0; 10]), 1);
    let buckets = digester.into_month_digests();
    assert_eq!(
        buckets.iter().map(|bucket| bucket.month.as_str()).collect::<Vec<_>>(),
        ["1970-01", "10889-08"]
    );
}
