//! The way of a file to the server: from what has arrived, to its end, through any number of cuts.

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

const PIECE_BYTES: usize = 256 << 10;
/// Tries in a row that bring the payload no further.
const TRIES_MAX: u32 = 10;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A connection that takes no byte for so long is given up.
const STALL: Duration = Duration::from_secs(60);

/// Sends the file to `path` until the server has `size` bytes or takes no more.
pub(super) async fn send(remote: &Remote, file: &Path, path: &str, size: u64) -> anyhow::Result<()> {
    anyhow::ensure!(path.starts_with('/'), "the server names a place to send to that is not its own: {path}");
    let bar = bar::bytes("uploading", size);
    let mut best = 0;
    let mut tries = 0;
    loop {
        let (wait, said) = match send_once(remote, file, path, size, &bar).await {
            Ok(Received::Closed) => break,
            Ok(Received::Bytes(arrived)) if arrived >= size => break,
            Ok(Received::Bytes(arrived)) if arrived > best => {
                best = arrived;
                tries = 0;
                continue;
            }
            Ok(Received::Bytes(arrived)) => {
                (Duration::ZERO, anyhow!("{arrived} of {size} bytes have arrived"))
            }
            Err(Failure::Passing { error, wait }) => (wait, error),
            Err(Failure::Lasting(error)) => return Err(error),
        };
        // What a cut try brought is only known by asking; a server that cannot be asked brought nothing.
        if let Ok(Received::Bytes(arrived)) = remote.received(path).await
            && arrived > best
        {
            best = arrived;
            tries = 0;
        }
        tries += 1;
        if tries >= TRIES_MAX {
            return Err(said.context(format!("the upload made no progress in {TRIES_MAX} tries")));
        }
        bar.suspend(|| eprintln!("upload cut, going on: {said:#}"));
        tokio::time::sleep(wait.max(backoff(tries))).await;
    }
    bar.finish_and_clear();
    Ok(())
}

/// How long to wait behind so many tries.
pub(super) fn backoff(tries: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << (tries - 1).min(16)).min(BACKOFF_MAX)
}

/// Asks what has arrived and sends the rest.
async fn send_once(
    remote: &Remote,
    file: &Path,
    path: &str,
    size: u64,
    bar: &ProgressBar,
) -> Result<Received, Failure> {
    let from = match remote.received(path).await? {
        Received::Bytes(arrived) if arrived < size => arrived,
        done => return Ok(done),
    };
    let moved = Arc::new(AtomicU64::new(0));
    let body = body(file, from, size - from, bar, &moved).await.map_err(Failure::Lasting)?;
    tokio::select! {
        answer = remote.put(path, from, size - from, body) => answer,
        () = stalled(&moved) => Err(Failure::passing(anyhow!("no byte was taken for {} s", STALL.as_secs()))),
    }
}

/// The file from `from` on, counting what is taken.
async fn body(
    file: &Path,
    from: u64,
    length: u64,
    bar: &ProgressBar,
    moved: &Arc<AtomicU64>,
) -> anyhow::Result<Body> {
    let context = || format!("cannot read {}", file.display());
    let mut reader = File::open(file).await.with_context(context)?;
    reader.seek(SeekFrom::Start(from)).await.with_context(context)?;
    bar.set_position(from);
    bar.reset_eta();
    let (bar, moved) = (bar.clone(), Arc::clone(moved));
    let pieces = ReaderStream::with_capacity(reader.take(length), PIECE_BYTES).inspect_ok(move |piece| {
        moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        bar.inc(piece.len() as u64);
    });
    Ok(Body::wrap_stream(pieces))
}

/// Returns once nothing has moved for the length of a stall.
async fn stalled(moved: &AtomicU64) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(STALL).await;
        let now = moved.load(Ordering::Relaxed);
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
    fn waiting_doubles_up_to_a_bound() {
        let waits: Vec<_> = (1..=8).map(|tries| backoff(tries).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
