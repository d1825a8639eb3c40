//! Progress on stderr, when it is a terminal; nothing at all when it is not.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(200);

/// The parts of [`share`]: fine enough that a long bar moves smoothly.
pub(super) const SHARE_PARTS: u64 = 10_000;

/// A bar over bytes.
pub(super) fn bytes(what: &'static str, size: u64) -> ProgressBar {
    styled(what, size, "{prefix:>10} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar over a share from 0 to [`SHARE_PARTS`], with a message of its own.
pub(super) fn share(what: &'static str) -> ProgressBar {
    styled(what, SHARE_PARTS, "{prefix:>10} {bar:20} {percent:>3}% {wide_msg}")
}

fn styled(what: &'static str, length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_prefix(what);
    bar.enable_steady_tick(TICK);
    bar
}
