//! A bar for work that takes long, on a terminal only: on standard error, gone when the work is done.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter work needs no bar.
const SILENT_BELOW: u64 = 10_000;
/// Redrawn so often a second.
const RATE: u8 = 10;

/// A bar for `total` records; `what` says in a word what is done with them.
pub(crate) fn bar(total: u64, what: &'static str) -> ProgressBar {
    if total < SILENT_BELOW {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(RATE)).with_message(what);
    let style = ProgressStyle::with_template("{msg:<10} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left");
    // The template above is one.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
