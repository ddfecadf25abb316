//! How much output a client is sent: as Jupyter's server limits it, since behind a gateway it doesn't.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(3);
/// Messages in a window.
const MESSAGES: usize = 3 * 1000;
/// Bytes of text in a window.
const BYTES: usize = 3 * 1_000_000;

/// What the client is told once, in place of what it does not get.
pub const NOTICE: &str = "The cell writes more than 1000 messages or 1 MB a second: some of its output is not shown, so that the page stays alive. \
                          The whole text is in the store: `lockstep log`.\n";

/// Types of messages that are dropped beyond the limits. All others are few, or a client can't do without them.
const LIMITED: [&str; 4] = ["stream", "display_data", "update_display_data", "comm_msg"];

/// What was sent within the window.
#[derive(Debug, Default)]
pub struct Rate {
    sent: VecDeque<(Instant, usize)>,
    bytes: usize,
    exceeded: bool,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Send,
    Drop,
    /// The first one that is dropped.
    DropAndTell,
}

impl Rate {
    /// Judges a message of `len` bytes.
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
        // goes on only once there is some room again
        let share = if told { 8 } else { 10 };
        self.exceeded = messages * 10 > MESSAGES * share || bytes * 10 > BYTES * share;
        if !self.exceeded {
            self.sent.push_back((now, len));
            self.bytes = bytes;
            return Verdict::Send;
        }
        if told { Verdict::Drop } else { Verdict::DropAndTell }
    }

    /// A cell has ended: the next one has the whole window.
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
