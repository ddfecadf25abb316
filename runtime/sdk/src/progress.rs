use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

/// Reports that `done` parts of `total` are done. Call it as often as you like: it writes only when the percentage changes.
///
/// Accepts any integers. The progress bar disappears when everything is done.
///
/// Writes the terminal escape sequence for progress (OSC 9;4) to stderr, which the caller of the step displays as a bar.
pub fn progress(done: impl TryInto<u64>, total: impl TryInto<u64>) {
    static SHOWN: AtomicU8 = AtomicU8::new(u8::MAX);
    let percent = percent(done.try_into().unwrap_or(0), total.try_into().unwrap_or(0));
    if SHOWN.swap(percent, Ordering::Relaxed) != percent {
        let sequence = match percent {
            100 => "\x1b]9;4;0\x1b\\".to_string(),
            percent => format!("\x1b]9;4;1;{percent}\x1b\\"),
        };
        // ignore a closed stderr
        let _ = std::io::stderr().write_all(sequence.as_bytes());
    }
}

fn percent(done: u64, total: u64) -> u8 {
    (u128::from(done.min(total)) * 100)
        .checked_div(u128::from(total))
        .unwrap_or(100) as u8
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percents_are_whole_and_bounded() {
        assert_eq!(percent(0, 3), 0);
        assert_eq!(percent(1, 3), 33);
        assert_eq!(percent(9, 3), 100);
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
