//! Progress bars on stderr. Nothing is shown if stderr is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a progress bar is drawn, even if nothing has changed.
const TICK: Duration = Duration::from_millis(200);

/// The position at which a [`new_fraction_bar`] is full. It is large enough that the bar moves smoothly.
pub(super) const FRACTION_STEPS: u64 = 10_000;

/// A progress bar that counts bytes up to `size`. `what` is the text before it.
pub(super) fn new_bytes_bar(what: &'static str, size: u64) -> ProgressBar {
    new_styled_bar(what, size, "{prefix:>10} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A progress bar from 0 to [`FRACTION_STEPS`], shown as a percentage and followed by the bar's message.
/// `what` is the text before it.
pub(super) fn new_fraction_bar(what: &'static str) -> ProgressBar {
    new_styled_bar(what, FRACTION_STEPS, "{prefix:>10} {bar:20} {percent:>3}% {wide_msg}")
}

fn new_styled_bar(what: &'static str, length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_prefix(what);
    bar.enable_steady_tick(TICK);
    bar
}
