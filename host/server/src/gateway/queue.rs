//! What waits to be written to one client, bounded in bytes: a client that doesn't read loses its connection and nobody waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_kernel::websocket::Encoded;
use tokio::sync::Notify;

/// Bytes that may wait for one client, beside what was kept for it and one message of any size.
const ROOM: usize = 8 << 20;
/// Bytes that are kept of what was written last, for clients that say what they got.
const RECENT: usize = 4 << 20;

/// A message for a client.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub message: Arc<Encoded>,
    /// The execute request that is answered for certain once the client has this.
    pub settles: Option<String>,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// More waits for the client than may wait.
    TooSlow,
    /// The kernel is no more; what waits is written first.
    Gone,
    /// The same session has connected anew.
    Replaced,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    room: usize,
    ending: Option<Ending>,
    /// What was written, of a client that says what it got.
    recent: Option<VecDeque<Outgoing>>,
    recent_bytes: usize,
}

impl Queue {
    /// A queue that starts with what was kept for a client; one that is `resumable` remembers what was written last.
    pub fn new(kept: VecDeque<Outgoing>, resumable: bool) -> Self {
        let bytes = kept.iter().map(|outgoing| outgoing.message.len()).sum();
        let queue = Self::default();
        *queue.state() = State {
            waiting: kept,
            bytes,
            room: ROOM + bytes,
            recent: resumable.then(VecDeque::new),
            ..State::default()
        };
        queue
    }

    pub fn push(&self, outgoing: Outgoing) {
        let mut state = self.state();
        if state.bytes > state.room {
            state.ending.get_or_insert(Ending::TooSlow);
        }
        state.bytes += outgoing.message.len();
        state.waiting.push_back(outgoing);
        drop(state);
        self.added.notify_one();
    }

    pub fn end(&self, ending: Ending) {
        self.state().ending.get_or_insert(ending);
        self.added.notify_one();
    }

    /// The next message to write. One task takes.
    pub async fn next(&self) -> Result<Outgoing, Ending> {
        loop {
            if let Some(taken) = self.take() {
                return taken;
            }
            self.added.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Outgoing, Ending>> {
        let mut state = self.state();
        if let Some(ending) = state
            .ending
            .filter(|ending| *ending != Ending::Gone || state.waiting.is_empty())
        {
            return Some(Err(ending));
        }
        let outgoing = state.waiting.pop_front()?;
        let len = outgoing.message.len();
        state.bytes -= len;
        if let Some(recent) = &mut state.recent {
            recent.push_back(outgoing.clone());
            state.recent_bytes += len;
            state.forget();
        }
        Some(Ok(outgoing))
    }

    /// What was written and may be lost, and what was not written.
    pub fn leftovers(&self) -> (VecDeque<Outgoing>, VecDeque<Outgoing>) {
        let mut state = self.state();
        state.bytes = 0;
        let recent = state.recent.take().unwrap_or_default();
        (recent, std::mem::take(&mut state.waiting))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        while self.recent_bytes > RECENT
            && let Some(oldest) = self.recent.as_mut().and_then(VecDeque::pop_front)
        {
            self.recent_bytes -= oldest.message.len();
        }
    }
}
