//! The queue of publications. It is bounded in bytes and batches text.
//!
//! Invariants: items leave in order. Text is appended to preceding text of the same stream and request. Text leaves after
//! [`GATHER`], at [`TEXT_SIZE`], or as soon as another item is queued.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use jupyter_protocol::{Stdio, StreamContent};
use tokio::sync::Notify;

use super::content::json_of;
use super::message::{Header, Message, Origin};
use crate::output::Stream;

/// How long the first text of a batch waits for more.
const GATHER: Duration = Duration::from_millis(20);

/// The maximum size of a batch of text, in bytes.
const TEXT_SIZE: usize = 64 * 1024;

/// The queue size in bytes above which the interpreter blocks.
const QUEUE_SIZE: usize = 1024 * 1024;

/// An item taken from the queue.
#[derive(Debug)]
pub enum Publication {
    /// A message for the subscribers.
    Message(Box<Message>),
    /// A request for notification when all earlier messages are sent.
    Flush(mpsc::Sender<()>),
}

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub struct Publications {
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    origin: Arc<Origin>,
    state: Mutex<State>,
    space: Condvar,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
enum Item {
    Text {
        parent: Arc<Header>,
        stream: Stream,
        text: String,
        since: Instant,
    },
    /// A message, with the key by which a later one replaces it in the queue.
    Message(Box<Message>, Option<String>),
    Flush(mpsc::Sender<()>),
}

impl Item {
    /// Returns a cheap estimate of the memory use.
    fn bytes(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Message(message, _) => 512 + weight(&message.content),
            Self::Flush(_) => 0,
        }
    }
}

fn weight(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 16 * items.len(),
        Value::Object(fields) => fields.iter().map(|(name, value)| 32 + name.len() + weight(value)).sum(),
        _ => 16,
    }
}

impl Publications {
    /// Creates an empty queue. `origin` creates the headers of text messages.
    pub fn new(origin: Arc<Origin>) -> Self {
        let queue = Queue {
            origin,
            state: Mutex::default(),
            space: Condvar::new(),
            added: Notify::new(),
        };
        Self { queue: Arc::new(queue) }
    }

    /// Adds a small message, such as status, without blocking.
    pub fn publish(&self, message: Message) {
        self.add(self.state(), Item::Message(Box::new(message), None));
    }

    /// Adds a message. Blocks while the queue is full.
    pub fn publish_output(&self, message: Message) {
        self.add(self.space(), Item::Message(Box::new(message), None));
    }

    /// Adds a message, replacing the last one in the queue if it has the same `key`.
    pub fn publish_latest(&self, key: String, message: Message) {
        let mut state = self.space();
        if let Some(Item::Message(_, Some(last))) = state.items.back()
            && *last == key
            && let Some(replaced) = state.items.pop_back()
        {
            state.bytes -= replaced.bytes();
        }
        self.add(state, Item::Message(Box::new(message), Some(key)));
    }

    /// Adds text. Blocks while the queue is full.
    pub fn publish_text(&self, parent: &Arc<Header>, stream: Stream, mut text: &str) {
        while !text.is_empty() {
            let (now, later) = text.split_at(text.floor_char_boundary(TEXT_SIZE));
            self.add_text(parent, stream, now);
            text = later;
        }
    }

    fn add_text(&self, parent: &Arc<Header>, stream: Stream, text: &str) {
        let mut state = self.space();
        if let Some(Item::Text {
            parent: of,
            stream: to,
            text: before,
            ..
        }) = state.items.back_mut()
            && Arc::ptr_eq(of, parent)
            && *to == stream
            && before.len() + text.len() <= TEXT_SIZE
        {
            before.push_str(text);
            let full = before.len() > TEXT_SIZE / 2;
            state.bytes += text.len();
            drop(state);
            if full {
                self.queue.added.notify_one();
            }
            return;
        }
        let item = Item::Text {
            parent: parent.clone(),
            stream,
            text: text.to_owned(),
            since: Instant::now(),
        };
        self.add(state, item);
    }

    /// Blocks until everything added so far is sent, or `timeout` expires.
    pub fn flush(&self, timeout: Duration) {
        let (done, flushed) = mpsc::channel();
        self.add(self.state(), Item::Flush(done));
        // Both errors, timeout and disconnect, mean that there is nothing left to wait for.
        let _ = flushed.recv_timeout(timeout);
    }

    /// Closes the queue: nothing more is added and writers no longer block. Queued items can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.queue.space.notify_all();
        self.queue.added.notify_one();
    }

    /// Returns the next item to send; `None` once the queue is closed and empty. Only one task may call this.
    pub async fn next(&self) -> Option<Publication> {
        loop {
            match self.take() {
                Ok(taken) => return taken,
                Err(wait) => {
                    // Check the queue again, notified or not.
                    let _ = tokio::time::timeout(wait, self.queue.added.notified()).await;
                }
            }
        }
    }

    /// Takes the next item if it is ready, else returns how long to wait for one.
    fn take(&self) -> Result<Option<Publication>, Duration> {
        let mut state = self.state();
        match state.items.front() {
            None if state.closed => return Ok(None),
            None => return Err(Duration::MAX),
            Some(Item::Text { since, text, .. }) => {
                let more_may_come = state.items.len() == 1 && !state.closed && text.len() <= TEXT_SIZE / 2;
                let wait = GATHER.saturating_sub(since.elapsed());
                if more_may_come && !wait.is_zero() {
                    return Err(wait);
                }
            }
            Some(_) => {}
        }
        let Some(item) = state.items.pop_front() else {
            return Ok(None);
        };
        state.bytes -= item.bytes();
        drop(state);
        self.queue.space.notify_all();
        Ok(Some(match item {
            Item::Text {
                parent, stream, text, ..
            } => {
                let name = match stream {
                    Stream::Stdout => Stdio::Stdout,
                    Stream::Stderr => Stdio::Stderr,
                };
                let content = json_of(StreamContent { name, text });
                Publication::Message(Box::new(self.queue.origin.message("stream", Some(&parent), content)))
            }
            Item::Message(message, _) => Publication::Message(message),
            Item::Flush(done) => Publication::Flush(done),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.queue.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the queue is not full. Returns the locked state.
    fn space(&self) -> MutexGuard<'_, State> {
        let full = |state: &mut State| state.bytes > QUEUE_SIZE && !state.closed;
        let state = self.queue.space.wait_while(self.state(), full);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, mut state: MutexGuard<'_, State>, item: Item) {
        if state.closed {
            return;
        }
        state.bytes += item.bytes();
        state.items.push_back(item);
        drop(state);
        self.queue.added.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn queue() -> (Publications, Arc<Header>) {
        let origin = Arc::new(Origin::new("test", || std::time::SystemTime::UNIX_EPOCH));
        (Publications::new(origin), Arc::new(Header::default()))
    }

    fn texts(queue: &Publications) -> Vec<String> {
        queue.close();
        std::iter::from_fn(|| queue.take().unwrap())
            .filter_map(|publication| match publication {
                Publication::Message(message) => Some(*message),
                Publication::Flush(_) => None,
            })
            .map(|message| message.content["text"].as_str().unwrap_or("-").to_owned())
            .collect()
    }

    #[test]
    fn text_is_joined_per_stream_and_request() {
        let (queue, parent) = queue();
        let other = Arc::new(Header::default());
        queue.publish_text(&parent, Stream::Stdout, "a");
        queue.publish_text(&parent, Stream::Stdout, "b");
        queue.publish_text(&parent, Stream::Stderr, "c");
        queue.publish_text(&other, Stream::Stderr, "d");
        queue.publish(queue.queue.origin.message("status", None, json!({})));
        queue.publish_text(&other, Stream::Stderr, "e");
        assert_eq!(texts(&queue), ["ab", "c", "d", "-", "e"]);
    }

    #[test]
    fn long_text_is_split_on_character_boundaries() {
        let (queue, parent) = queue();
        let long = "é".repeat(TEXT_SIZE);
        queue.publish_text(&parent, Stream::Stdout, &format!("x{long}"));
        let pieces = texts(&queue);
        assert!(pieces.iter().all(|piece| piece.len() <= TEXT_SIZE));
        assert_eq!(pieces.concat(), format!("x{long}"));
    }

    #[test]
    fn the_writer_waits_for_the_reader() {
        let (queue, parent) = queue();
        let writer = {
            let (queue, parent) = (queue.clone(), parent.clone());
            std::thread::spawn(move || {
                (0..64).for_each(|_| queue.publish_text(&parent, Stream::Stdout, &"x".repeat(TEXT_SIZE)))
            })
        };
        std::thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_finished());
        assert!(queue.state().bytes <= QUEUE_SIZE + TEXT_SIZE);
        while !writer.is_finished() {
            let _ = queue.take();
        }
        writer.join().unwrap();
        let state = queue.state();
        assert_eq!(state.items.iter().map(Item::bytes).sum::<usize>(), state.bytes);
    }
}
