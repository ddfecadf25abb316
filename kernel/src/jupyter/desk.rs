//! The state that all threads of a kernel share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jupyter_protocol::{ExecutionState, InputReply, ReplyStatus, ShutdownReply, Status};
use lockstep_runtime::sandbox::Interrupt;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::comms::Comms;
use super::content::json_of;
use super::history::History;
use super::message::{Channel, Header, Message, Origin};
use super::publications::Publications;
use super::questions::Questions;
use super::request::content;

/// The maximum time that a reply waits for earlier publications to slow subscribers.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A reply and its destination. `R` is the transport's address of a client.
#[derive(Debug)]
pub struct Reply<R> {
    /// The channel of the request.
    pub channel: Channel,
    /// The address given with the request.
    pub route: R,
    /// The reply.
    pub message: Message,
}

/// A kernel that was asked to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether the client will start a new kernel.
    pub restart: bool,
}

/// A request, with its place in the order of arrival.
#[derive(Debug)]
pub(super) struct Request<R> {
    pub route: R,
    pub message: Message,
    pub parent: Arc<Header>,
    pub arrival: u64,
}

/// A command to the assistant's thread.
#[derive(Debug)]
pub(super) enum Ask<R> {
    /// Answer a request.
    Answer(Box<Request<R>>),
    /// Send the variables to the open comms, after a cell.
    Tell,
}

/// The state shared by all threads.
#[derive(Debug)]
pub(super) struct Desk<R> {
    pub origin: Arc<Origin>,
    pub publications: Publications,
    pub questions: Questions,
    pub comms: Comms,
    history: Mutex<History>,
    subshells: Mutex<BTreeSet<String>>,
    replies: UnboundedSender<Reply<R>>,
    stopped: watch::Sender<Option<Stopped>>,
    running: Mutex<Option<Running>>,
    /// The number of requests received on shell.
    arrivals: AtomicU64,
}

/// The cell that is running.
#[derive(Debug)]
pub(super) struct Running {
    pub parent: Arc<Header>,
    pub interrupt: Interrupt,
}

impl<R> Desk<R> {
    pub fn new(
        origin: Arc<Origin>,
        publications: Publications,
        history: History,
        replies: UnboundedSender<Reply<R>>,
        stopped: watch::Sender<Option<Stopped>>,
    ) -> Self {
        Self {
            origin,
            publications,
            questions: Questions::default(),
            comms: Comms::default(),
            history: Mutex::new(history),
            subshells: Mutex::default(),
            replies,
            stopped,
            running: Mutex::default(),
            arrivals: AtomicU64::new(0),
        }
    }

    pub fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn subshells(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.subshells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stopped(&self) -> Option<Stopped> {
        *self.stopped.borrow()
    }

    /// Answers a request beside the running cell, between its own busy and idle.
    pub fn attend(&self, parent: &Arc<Header>, answer: impl FnOnce()) {
        self.status(ExecutionState::Busy, Some(parent));
        answer();
        self.status(ExecutionState::Idle, Some(parent));
        // Clients use the last status, so publish busy again while a cell runs. The lock makes the cell's own idle come after.
        if let Some(running) = &*self.running() {
            self.status(ExecutionState::Busy, Some(&running.parent));
        }
    }

    /// Handles a message on the stdin channel.
    pub fn answered(&self, message: &Message) {
        if message.header.msg_type == "input_reply"
            && let Ok(InputReply { value, .. }) = content(message)
        {
            self.questions.answer(value);
        }
    }

    /// Counts a request that was received on shell. Returns its place in the order of arrival.
    pub fn arrive(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::Relaxed)
    }

    /// Marks the kernel as stopped, unless it already is.
    pub fn stop(&self) {
        self.stopped.send_if_modified(|stopped| {
            stopped.get_or_insert(Stopped { restart: false });
            true
        });
    }

    /// Returns the number of requests received on shell.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    pub fn status(&self, execution_state: ExecutionState, parent: Option<&Arc<Header>>) {
        let content = json_of(Status { execution_state });
        self.publications.publish(self.origin.message("status", parent, content));
    }

    /// Sends a message to a client.
    pub fn send(&self, channel: Channel, route: R, message: Message) {
        // Sending fails if the transport has ended.
        let _ = self.replies.send(Reply { channel, route, message });
    }

    /// Sends a reply whose type matches the request's.
    pub fn reply(&self, channel: Channel, route: R, parent: &Arc<Header>, content: Value) {
        let kind = parent.msg_type.strip_suffix("_request").unwrap_or(&parent.msg_type);
        let message = self.origin.message(&format!("{kind}_reply"), Some(parent), content);
        self.send(channel, route, message);
    }

    pub fn reply_and_stop(&self, route: R, channel: Channel, parent: &Arc<Header>, restart: bool) {
        let content = json_of(ShutdownReply {
            restart,
            status: ReplyStatus::Ok,
            error: None,
        });
        self.publications
            .publish(self.origin.message("shutdown_reply", Some(parent), content.clone()));
        self.reply(channel, route, parent, content);
        self.status(ExecutionState::Idle, Some(parent));
        self.stopped.send_replace(Some(Stopped { restart }));
    }

    /// Waits until all publications are sent.
    pub fn flush(&self) {
        self.publications.flush(FLUSH_TIMEOUT);
    }

    pub fn interrupt(&self) {
        if let Some(Running { interrupt, .. }) = &*self.running() {
            interrupt.trigger();
        }
    }
}
