use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

/// Says that `done` parts of `total` are done. Call it as often as you like: it writes only when the whole percent changes.
///
/// It is the terminals' own escape sequence for progress (OSC 9;4) on stderr, of which whoever runs the step makes a bar.
pub fn progress(done: usize, total: usize) {
    static SHOWN: AtomicU8 = AtomicU8::new(u8::MAX);
    let percent = percent(done, total);
    if SHOWN.swap(percent, Ordering::Relaxed) != percent {
        let sequence = match percent {
            100 => "\x1b]9;4;0\x1b\\".to_string(),
            percent => format!("\x1b]9;4;1;{percent}\x1b\\"),
        };
        // Nobody is left to tell when stderr is closed.
        let _ = std::io::stderr().write_all(sequence.as_bytes());
    }
}

fn percent(done: usize, total: usize) -> u8 {
    (done.min(total) as u128 * 100).checked_div(total as u128).unwrap_or(100) as u8
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
        assert_eq!(percent(usize::MAX, usize::MAX), 100);
    }
}
