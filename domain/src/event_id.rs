//! Parses, checks and derives ids: UUIDv7 (RFC 9562, section 5.7) in the text form of its section 4.

use sha2::{Digest, Sha256};
use uuid::{Uuid, Variant};

use crate::limits::{FUTURE_SKEW_MS_MAX, RETRY_AFTER_MS_MAX};
use crate::problem::{Code, FieldProblem, Problem};

/// Parses a UUID of any version. Only the form of `8-4-4-4-12` hexadecimal digits is accepted, in either
/// case.
#[must_use]
pub fn parse(text: &str) -> Option<Uuid> {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    let is_well_formed = bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| if hyphens.contains(&at) { *byte == b'-' } else { byte.is_ascii_hexdigit() });
    if is_well_formed { Uuid::try_parse(text).ok() } else { None }
}

/// The time in a UUIDv7, in epoch milliseconds.
#[must_use]
pub fn time_ms(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits fit")
}

/// Whether the id has version 7 and the variant of RFC 9562.
#[must_use]
pub fn is_v7(id: Uuid) -> bool {
    id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122
}

/// Checks that the id of a new row is a UUIDv7 and, with `is_time_checked`, that its time is not too far in
/// the future. Whether another row has the id is not checked.
///
/// # Errors
/// [`Code::NotUuidV7`] if the version or the variant is another one. [`Code::IdInFuture`] if the time is
/// checked and is more than 60 s after `now_ms`.
pub fn check_new_id(id: Uuid, now_ms: i64, is_time_checked: bool) -> Result<(), FieldProblem> {
    if !is_v7(id) {
        return Err(FieldProblem::new("/id", Code::NotUuidV7, "must be a UUID of version 7"));
    }
    let ahead_ms = time_ms(id) - now_ms;
    if is_time_checked && ahead_ms > FUTURE_SKEW_MS_MAX {
        return Err(FieldProblem::new(
            "/id",
            Code::IdInFuture,
            format!(
                "its time is {ahead_ms} ms ahead of the server; at most {FUTURE_SKEW_MS_MAX} ms are allowed"
            ),
        ));
    }
    Ok(())
}

/// How many milliseconds to wait until an id whose time is in the future is accepted; not positive if it is
/// accepted now. `None` if its time is more than 24 h ahead.
#[must_use]
pub fn retry_after_ms(id: Uuid, now_ms: i64) -> Option<i64> {
    let ahead_ms = time_ms(id) - now_ms;
    (ahead_ms <= RETRY_AFTER_MS_MAX).then_some(ahead_ms - FUTURE_SKEW_MS_MAX)
}

/// Makes an [`Code::IdInFuture`] problem retryable, if the time in the id is at most 24 h ahead. Leaves any
/// other problem as it is.
pub fn make_future_id_problem_retryable(problem: &mut Problem, id: Uuid, now_ms: i64) {
    if problem.code == Code::IdInFuture {
        problem.retry_after_ms = retry_after_ms(id, now_ms);
        problem.retryable = problem.retry_after_ms.is_some();
    }
}

/// Builds a UUIDv7 from epoch milliseconds, clamped to 48 bits, and from 74 of the 80 bits of `tail`.
#[must_use]
pub fn compose_uuid_v7(ms: i64, tail: [u8; 10]) -> Uuid {
    let ms = u64::try_from(ms.max(0)).expect("not negative").min((1 << 48) - 1);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&tail);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

/// Derives the UUIDv7 of an import record that has no id, from the user, the start of the event and a hash of
/// its content. So the same record of a user always gets the same id.
#[must_use]
pub fn derive_id(user_id: Uuid, start_ms: i64, content: &[u8; 32]) -> Uuid {
    let digest = Sha256::new().chain_update(user_id.as_bytes()).chain_update(content).finalize();
    let mut tail = [0; 10];
    tail.copy_from_slice(&digest[..10]);
    compose_uuid_v7(start_ms, tail)
}
