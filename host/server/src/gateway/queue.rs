//! Outgoing queue of a client, bounded in bytes. A client that does not read is disconnected; nothing waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_kernel::websocket::Encoded;
use tokio::sync::Notify;

/// Maximum size of a queue in bytes, in addition to initially buffered messages and one message of any size.
const ROOM: usize = 8 << 20;
/// Bytes of recently sent messages to keep, for resumable clients.
const RECENT: usize = 4 << 20;

/// A message for a client.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub message: Arc<Encoded>,
    /// The execute request that is settled once the client has received this message.
    pub settles: Option<String>,
}

/// Reason for closing a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The queue is full.
    TooSlow,
    /// The kernel has shut down; queued messages are sent first.
    Gone,
    /// The same session has connected again.
    Replaced,
}

/// Outgoing queue of a client.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    room: usize,
    ending: Option<Ending>,
    /// Recently sent messages, for resumable clients.
    recent: Option<VecDeque<Outgoing>>,
    recent_bytes: usize,
}

impl Queue {
    /// Creates a queue with buffered messages. If `resumable`, it also keeps recently sent messages.
    pub fn new(kept: VecDeque<Outgoing>, resumable: bool) -> Self {
        let bytes = kept.iter().map(|outgoing| outgoing.message.len()).sum();
        let queue = Self::default();
        *queue.state() = QueueState {
            waiting: kept,
            bytes,
            room: ROOM + bytes,
            recent: resumable.then(VecDeque::new),
            ..QueueState::default()
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

    /// Waits for the next message. Only one task may call this.
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

    /// Takes the recently sent messages, which may be lost, and the unsent ones.
    pub fn leftovers(&self) -> (VecDeque<Outgoing>, VecDeque<Outgoing>) {
        let mut state = self.state();
        state.bytes = 0;
        let recent = state.recent.take().unwrap_or_default();
        (recent, std::mem::take(&mut state.waiting))
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn forget(&mut self) {
        while self.recent_bytes > RECENT
            && let Some(oldest) = self.recent.as_mut().and_then(VecDeque::pop_front)
        {
            self.recent_bytes -= oldest.message.len();
        }
    }
}
