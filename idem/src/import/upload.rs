//! Uploads a file. Each attempt continues where the server's copy ends, so the connection may break any
//! number of times.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::TryStreamExt;
use indicatif::ProgressBar;
use reqwest::Body;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::bar;
use super::remote::{Failure, Received, Remote};

/// How many bytes of the file are read at a time.
const READ_BYTES: usize = 256 << 10;
/// The upload of the file fails after this many attempts in a row that upload nothing.
const ATTEMPTS_MAX: u32 = 10;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// An attempt to upload fails if the connection accepts no byte for this long. It is checked only so often,
/// so it may take twice as long.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Uploads the file to the URL path `path` of the server, with new attempts after failures, until the server
/// has all `size` bytes or accepts no more. Shows a progress bar.
///
/// # Errors
/// If a failure is permanent, or [`ATTEMPTS_MAX`] attempts in a row upload nothing.
pub(super) async fn upload_file(remote: &Remote, file: &Path, path: &str, size: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        path.starts_with('/'),
        "the server returned an upload URL that is not a path on itself: {path}"
    );
    let bar = bar::new_bytes_bar("uploading", size);
    let mut uploaded = 0;
    let mut attempts = 0;
    loop {
        let (wait, error) = match upload_rest_once(remote, file, path, size, &bar).await {
            Ok(Received::Closed) => break,
            Ok(Received::Bytes(received)) if received >= size => break,
            Ok(Received::Bytes(received)) if received > uploaded => {
                uploaded = received;
                attempts = 0;
                continue;
            }
            Ok(Received::Bytes(received)) => {
                (Duration::ZERO, anyhow!("the server has {received} of {size} bytes"))
            }
            Err(Failure::Temporary { error, wait }) => (wait, error),
            Err(Failure::Permanent(error)) => return Err(error),
        };
        // Only the server knows how much a broken attempt uploaded. If it cannot be asked, the attempt counts
        // as if it had uploaded nothing.
        if let Ok(Received::Bytes(received)) = remote.query_received_bytes(path).await
            && received > uploaded
        {
            uploaded = received;
            attempts = 0;
        }
        attempts += 1;
        if attempts >= ATTEMPTS_MAX {
            return Err(error.context(format!("the upload made no progress in {ATTEMPTS_MAX} attempts")));
        }
        bar.suspend(|| eprintln!("upload interrupted, trying again: {error:#}"));
        tokio::time::sleep(wait.max(backoff_pause(attempts))).await;
    }
    bar.finish_and_clear();
    Ok(())
}

/// How long to wait after this many failed attempts, at least 1: twice as long each time, up to
/// [`BACKOFF_MAX`].
pub(super) fn backoff_pause(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(BACKOFF_MAX)
}

/// Asks the server how much of the payload it has, and makes one attempt to upload the rest of the file.
async fn upload_rest_once(
    remote: &Remote,
    file: &Path,
    path: &str,
    size: u64,
    bar: &ProgressBar,
) -> Result<Received, Failure> {
    let from = match remote.query_received_bytes(path).await? {
        Received::Bytes(received) if received < size => received,
        complete => return Ok(complete),
    };
    let sent = Arc::new(AtomicU64::new(0));
    let body = open_file_as_body(file, from, size - from, bar, &sent).await.map_err(Failure::Permanent)?;
    tokio::select! {
        received = remote.upload_payload_part(path, from, size - from, body) => received,
        () = wait_until_stalled(&sent) => {
            Err(Failure::temporary_failure(anyhow!("the connection accepted no data for {} s", STALL_MAX.as_secs())))
        },
    }
}

/// A request body that reads `length` bytes of the file from offset `from` on while it is sent. `sent` counts
/// the bytes that the connection has accepted.
async fn open_file_as_body(
    file: &Path,
    from: u64,
    length: u64,
    bar: &ProgressBar,
    sent: &Arc<AtomicU64>,
) -> anyhow::Result<Body> {
    let context = || format!("cannot read {}", file.display());
    let mut reader = File::open(file).await.with_context(context)?;
    reader.seek(SeekFrom::Start(from)).await.with_context(context)?;
    bar.set_position(from);
    bar.reset_eta();
    let (bar, sent) = (bar.clone(), Arc::clone(sent));
    let stream = ReaderStream::with_capacity(reader.take(length), READ_BYTES).inspect_ok(move |bytes| {
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        bar.inc(bytes.len() as u64);
    });
    Ok(Body::wrap_stream(stream))
}

/// Looks at `sent` every [`STALL_MAX`], and returns once it has not changed since the last time.
async fn wait_until_stalled(sent: &AtomicU64) {
    let mut before = sent.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(STALL_MAX).await;
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_maximum() {
        let waits: Vec<_> = (1..=8).map(|attempts| backoff_pause(attempts).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(backoff_pause(u32::MAX), BACKOFF_MAX);
    }
}
