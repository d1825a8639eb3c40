//! Compares the payload of an import with the digest that the client has announced.

use domain::import::ImportRow;
use domain::problem::{Code, Problem};
use futures::StreamExt;
use service::Error;
use service::import_lease::{self, Held};
use sha2::{Digest, Sha256};

use super::run_slice::{RunnerContext, SliceEnd, await_renewing_lease, to_slice_end};

/// The problem of an import whose payload does not have the announced digest.
pub(super) fn digest_mismatch_problem() -> Problem {
    Problem::new(Code::PayloadMismatch, "the payload does not have the announced sha256: send it again")
}

/// Reads the payload and returns `true` if it does not have the announced digest. A mismatch is stored in the
/// row of the import before anything is removed, so that a worker that claims the import after a crash
/// completes the removal.
pub(super) async fn check_digest_and_record_mismatch<N>(
    context: &RunnerContext<N>,
    row: &ImportRow,
    held: Held,
) -> Result<bool, SliceEnd> {
    if row.problem.as_ref().is_some_and(|problem| problem.code == Code::PayloadMismatch) {
        return Ok(true);
    }
    if await_renewing_lease(context, held, payload_matches_announced_digest(context, row))
        .await?
        .map_err(to_slice_end)?
    {
        return Ok(false);
    }
    import_lease::record_problem(&context.store, held, &digest_mismatch_problem())
        .await
        .map_err(to_slice_end)?;
    Ok(true)
}

/// Reads the whole payload and compares its digest. `true` if no digest was announced.
async fn payload_matches_announced_digest<N>(
    context: &RunnerContext<N>,
    row: &ImportRow,
) -> Result<bool, Error> {
    let Some(announced) = &row.sha256 else {
        return Ok(true);
    };
    let size = u64::try_from(row.bytes_total).unwrap_or_default();
    let mut blocks = context.payloads.stream_payload(row.user_id, row.id, &row.payload_objects, 0, size);
    let mut digest = Sha256::new();
    while let Some(block) = blocks.next().await {
        digest.update(&block?);
    }
    Ok(digest.finalize().as_slice() == announced.as_slice())
}
