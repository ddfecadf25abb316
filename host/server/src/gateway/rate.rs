//! Rate limit of output, like that of Jupyter's server, which does not apply it to gateways.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(3);
/// Maximum number of messages in a window.
const MESSAGES: usize = 3 * 1000;
/// Maximum bytes of text in a window.
const BYTES: usize = 3 * 1_000_000;

/// Notice in place of dropped output.
pub const NOTICE: &str = "The cell writes more than 1000 messages or 1 MB per second: some output is not shown, to keep the page responsive. \
                          The full output is in the store: `lockstep log`.\n";

/// Types of messages that the limit applies to. All others are rare, or clients need them.
const LIMITED: [&str; 4] = ["stream", "display_data", "update_display_data", "comm_msg"];

/// Messages sent within the window.
#[derive(Debug, Default)]
pub struct Rate {
    sent: VecDeque<(Instant, usize)>,
    bytes: usize,
    exceeded: bool,
}

/// Decision about a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Send,
    Drop,
    /// First dropped message.
    DropAndTell,
}

impl Rate {
    /// Decides about a message of `len` bytes.
    pub fn judge(&mut self, msg_type: &str, len: usize, now: Instant) -> Verdict {
        if !LIMITED.contains(&msg_type) {
            return Verdict::Send;
        }
        while let Some((at, bytes)) = self.sent.front().copied()
            && now.duration_since(at) >= WINDOW
        {
            self.sent.pop_front();
            self.bytes -= bytes;
        }
        let len = if msg_type == "stream" { len } else { 0 };
        let (messages, bytes) = (self.sent.len() + 1, self.bytes + len);
        let told = self.exceeded;
        // hysteresis: resumes only below 80 % of the limit
        let share = if told { 8 } else { 10 };
        self.exceeded = messages * 10 > MESSAGES * share || bytes * 10 > BYTES * share;
        if !self.exceeded {
            self.sent.push_back((now, len));
            self.bytes = bytes;
            return Verdict::Send;
        }
        if told { Verdict::Drop } else { Verdict::DropAndTell }
    }

    /// Clears the window, after the end of a cell.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_sent_and_a_flood_is_not() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let megabyte = |rate: &mut Rate, at: u64| rate.judge("stream", 1_000_000, start + Duration::from_millis(at));
        assert_eq!(
            [0, 1, 2].map(|at| megabyte(&mut rate, at)),
            [Verdict::Send, Verdict::Send, Verdict::Send]
        );
        assert_eq!(megabyte(&mut rate, 3), Verdict::DropAndTell);
        assert_eq!(megabyte(&mut rate, 4), Verdict::Drop);
        assert_eq!(rate.judge("status", 100, start), Verdict::Send);
        assert_eq!(rate.judge("execute_result", 9_000_000, start), Verdict::Send);
        assert_eq!(megabyte(&mut rate, 3100), Verdict::Send);
        rate.reset();
        assert_eq!(megabyte(&mut rate, 3101), Verdict::Send);
    }

    #[test]
    fn many_small_messages_are_a_flood_too() {
        let mut rate = Rate::default();
        let now = Instant::now();
        let sent = (0..5000)
            .filter(|_| rate.judge("display_data", 10, now) == Verdict::Send)
            .count();
        assert_eq!(sent, MESSAGES);
    }
}
