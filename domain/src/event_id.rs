//! Ids that clients make: UUIDv7 (RFC 9562, section 5.7), in the one textual form of section 4.

use sha2::{Digest, Sha256};
use uuid::{Uuid, Variant};

use crate::limits::{FUTURE_SKEW_MS_MAX, RETRY_AFTER_MS_MAX};
use crate::problem::{Code, FieldProblem, Problem};

/// Reads `8-4-4-4-12` hexadecimal digits in either case, and nothing else.
#[must_use]
pub fn parse(text: &str) -> Option<Uuid> {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    let formed = bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| if hyphens.contains(&at) { *byte == b'-' } else { byte.is_ascii_hexdigit() });
    if formed { Uuid::try_parse(text).ok() } else { None }
}

/// Epoch milliseconds inside a UUIDv7.
#[must_use]
pub fn time_ms(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits fit")
}

/// Whether the version is 7 and the variant that of RFC 9562.
#[must_use]
pub fn is_v7(id: Uuid) -> bool {
    id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122
}

/// What speaks against creating something under this id; `bounded` asks for the time as well.
///
/// # Errors
/// `NOT_UUID_V7`; `ID_IN_FUTURE` when its time is more than a minute ahead of `now_ms`.
pub fn check_new(id: Uuid, now_ms: i64, bounded: bool) -> Result<(), FieldProblem> {
    if !is_v7(id) {
        return Err(FieldProblem::new("/id", Code::NotUuidV7, "must be a UUID of version 7"));
    }
    let ahead_ms = time_ms(id) - now_ms;
    if bounded && ahead_ms > FUTURE_SKEW_MS_MAX {
        return Err(FieldProblem::new(
            "/id",
            Code::IdInFuture,
            format!("its time is {ahead_ms} ms ahead; at most {FUTURE_SKEW_MS_MAX} ms are allowed"),
        ));
    }
    Ok(())
}

/// How long to wait until an id from the future will do; `None` when that is not worth waiting for.
#[must_use]
pub fn retry_after_ms(id: Uuid, now_ms: i64) -> Option<i64> {
    let ahead_ms = time_ms(id) - now_ms;
    (ahead_ms <= RETRY_AFTER_MS_MAX).then_some(ahead_ms - FUTURE_SKEW_MS_MAX)
}

/// Adds to the problem of a refused id when, if ever, to send it again.
pub fn with_retry(problem: &mut Problem, id: Uuid, now_ms: i64) {
    if problem.code == Code::IdInFuture {
        problem.retry_after_ms = retry_after_ms(id, now_ms);
        problem.retryable = problem.retry_after_ms.is_some();
    }
}

/// A UUIDv7 of these milliseconds (clamped to 48 bits) and of 74 bits of `tail`.
#[must_use]
pub fn compose(ms: i64, tail: [u8; 10]) -> Uuid {
    let ms = u64::try_from(ms.max(0)).expect("not negative").min((1 << 48) - 1);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&tail);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

/// The id of a record that came without one: its start and its content, so that the same record of
/// the same user always gets the same id.
#[must_use]
pub fn derive(user_id: Uuid, start_ms: i64, content: &[u8; 32]) -> Uuid {
    let digest = Sha256::new().chain_update(user_id.as_bytes()).chain_update(content).finalize();
    let mut tail = [0; 10];
    tail.copy_from_slice(&digest[..10]);
    compose(start_ms, tail)
}
