//! Progress bars on stderr, shown only in a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a bar that counts steps of `title`. Its message is the current step.
pub fn steps(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} {bar:24} {pos}/{len} {wide_msg}");
    ticking(style.unwrap_or_else(|_| ProgressStyle::default_bar()), title)
}

/// Returns a spinner for `title`. Its message is the current step.
pub fn spinner(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}");
    ticking(style.unwrap_or_else(|_| ProgressStyle::default_spinner()), title)
}

/// Returns a bar that counts bytes.
pub fn bytes(title: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {prefix} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}");
    ticking(style.unwrap_or_else(|_| ProgressStyle::default_bar()), title)
}

/// Returns a bar for the progress of the guest `title`, in percent.
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
