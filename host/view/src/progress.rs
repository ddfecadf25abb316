//! Bars for lockstep's own work, on stderr and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts steps of `title`; its message says what is being done.
pub fn steps(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} {bar:24} {pos}/{len} {wide_msg}");
    ticking(style.unwrap_or_else(|_| ProgressStyle::default_bar()), title)
}

/// A spinner for `title`; its message says what is being done.
pub fn spinner(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}");
    ticking(style.unwrap_or_else(|_| ProgressStyle::default_spinner()), title)
}

/// A bar that counts bytes of `title`.
pub fn bytes(title: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {prefix} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}");
    ticking(style.unwrap_or_else(|_| ProgressStyle::default_bar()), title)
}

/// How much of a hundred percent the guest `title` has done.
pub fn percent(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3}%");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(100).with_style(style).with_prefix(title.to_owned())
}

fn ticking(style: ProgressStyle, title: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(style).with_prefix(title.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
