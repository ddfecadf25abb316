//! Dispatches requests: control requests are answered at once, cells are queued for the interpreter's thread, and other
//! requests are queued for the assistant's thread, which answers while a cell runs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::assistance::Assistance;
use super::comms::Comms;
use super::history::History;
use super::interpreter::Interpreter;
use super::kernel_info;
use super::message::{Channel, Header, Message, Origin};
use super::publications::Publications;
use super::questions::Questions;
use super::request::{DeleteSubshell, InputReply, ShutdownRequest, content};
use super::shell::Shell;
use crate::output::CellError;

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

/// The outgoing queues of a kernel. The transport must always drain both queues.
#[derive(Debug)]
pub struct Outlets<R> {
    /// Messages for all clients.
    pub publications: Publications,
    /// Messages for single clients.
    pub replies: UnboundedReceiver<Reply<R>>,
    /// Set when the kernel has replied to a shutdown request.
    pub stopped: watch::Receiver<Option<Stopped>>,
}

/// A running kernel. Dropping it interrupts the running cell and ends its threads.
#[derive(Debug)]
pub struct Kernel<R> {
    desk: Arc<Desk<R>>,
    cells: mpsc::Sender<Request<R>>,
    questions: mpsc::Sender<Ask<R>>,
    /// Closed, without a message, when the interpreter's thread has ended.
    ended: Option<oneshot::Receiver<()>>,
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

impl<R: Clone + Send + Sync + 'static> Kernel<R> {
    /// Starts the threads. Fails if the system can't create them.
    pub fn start(origin: Origin, interpreter: impl Interpreter, history: History) -> std::io::Result<(Self, Outlets<R>)> {
        Self::start_after(0, origin, interpreter, history)
    }

    /// Like [`start`](Self::start), but continues the numbering after `number` executed cells.
    pub fn start_after(
        number: u32,
        origin: Origin,
        interpreter: impl Interpreter,
        history: History,
    ) -> std::io::Result<(Self, Outlets<R>)> {
        let origin = Arc::new(origin);
        let publications = Publications::new(origin.clone());
        let (replies, replies_out) = unbounded_channel();
        let (stopped, stopped_out) = watch::channel(None);
        let (cells, requests) = mpsc::channel();
        let (questions, asked) = mpsc::channel();
        let desk = Arc::new(Desk {
            origin,
            publications: publications.clone(),
            questions: Questions::default(),
            comms: Comms::default(),
            history: Mutex::new(history),
            subshells: Mutex::default(),
            replies,
            stopped,
            running: Mutex::default(),
            arrivals: AtomicU64::new(0),
        });
        desk.status("starting", None);
        let mut assistance = Assistance::new(desk.clone(), interpreter.assistant());
        std::thread::Builder::new().name("assistant".into()).spawn(move || {
            while let Ok(ask) = asked.recv() {
                match ask {
                    Ask::Answer(request) => assistance.answer(*request),
                    Ask::Tell => assistance.tell_all(),
                }
            }
        })?;
        let mut shell = Shell::new(desk.clone(), interpreter, questions.clone(), number);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("interpreter".into()).spawn(move || {
            while let Ok(request) = requests.recv()
                && !shell.is_stopped()
            {
                shell.answer(request);
            }
            drop(shell);
            drop::<oneshot::Sender<()>>(end);
        })?;
        let outlets = Outlets {
            publications,
            replies: replies_out,
            stopped: stopped_out,
        };
        let kernel = Self {
            desk,
            cells,
            questions,
            ended: Some(ended),
        };
        Ok((kernel, outlets))
    }

    /// Submits a request without blocking.
    pub fn submit(&self, channel: Channel, route: R, message: Message) {
        let parent = Arc::new(message.header.clone());
        match channel {
            Channel::Control => self.control(route, &message, &parent),
            Channel::Stdin => self.desk.answered(&message),
            Channel::Shell => self.shell(route, message, parent),
        }
    }

    /// Queues cells for the interpreter and other requests for the assistant.
    fn shell(&self, route: R, message: Message, parent: Arc<Header>) {
        if let Some(unknown) = parent.subshell().filter(|id| !self.desk.subshells().contains(*id)) {
            let what = format!("subshell {unknown} not found: it was deleted or belongs to another kernel");
            return self.desk.attend(&parent, || {
                self.desk
                    .reply(Channel::Shell, route, &parent, error_content("SubshellNotFound", &what));
            });
        }
        let is_for_interpreter = matches!(parent.msg_type.as_str(), "execute_request" | "shutdown_request");
        let request = Request {
            route,
            message,
            parent,
            arrival: self.desk.arrivals.fetch_add(1, Ordering::Relaxed),
        };
        // The threads only end with the kernel.
        match is_for_interpreter {
            true => drop(self.cells.send(request)),
            false => drop(self.questions.send(Ask::Answer(Box::new(request)))),
        }
    }

    /// Interrupts the running cell, if any.
    pub fn interrupt(&self) {
        self.desk.interrupt();
    }

    /// Interrupts the running cell and waits up to `timeout` until the interpreter is dropped. Queued requests are not
    /// answered.
    pub async fn stop(mut self, timeout: Duration) {
        let ended = self.ended.take();
        drop(self);
        if let Some(ended) = ended {
            // Either the channel closes or the timeout expires.
            let _ = tokio::time::timeout(timeout, ended).await;
        }
    }

    fn control(&self, route: R, message: &Message, parent: &Arc<Header>) {
        if parent.msg_type == "shutdown_request" {
            let request: ShutdownRequest = serde_json::from_value(message.content.clone()).unwrap_or_default();
            self.desk.status("busy", Some(parent));
            self.desk.interrupt();
            return self.desk.reply_and_stop(route, Channel::Control, parent, request.restart);
        }
        self.desk.attend(parent, || {
            let reply = self.control_reply(message, parent);
            self.desk.reply(Channel::Control, route, parent, reply);
        });
    }

    fn control_reply(&self, message: &Message, parent: &Arc<Header>) -> Value {
        match parent.msg_type.as_str() {
            "kernel_info_request" => kernel_info::reply(),
            "interrupt_request" => {
                self.desk.interrupt();
                json!({ "status": "ok" })
            }
            "create_subshell_request" => {
                let id = self.desk.origin.unique();
                self.desk.subshells().insert(id.clone());
                json!({ "status": "ok", "subshell_id": id })
            }
            "delete_subshell_request" => match content::<DeleteSubshell>(message) {
                Ok(request) if self.desk.subshells().remove(&request.subshell_id) => json!({ "status": "ok" }),
                Ok(request) => error_content("SubshellNotFound", &format!("subshell {} not found", request.subshell_id)),
                Err(invalid) => invalid,
            },
            "list_subshell_request" => json!({ "status": "ok", "subshell_id": *self.desk.subshells() }),
            unknown => unknown_request(unknown),
        }
    }
}

impl<R> Drop for Kernel<R> {
    fn drop(&mut self) {
        self.desk.stopped.send_if_modified(|stopped| {
            stopped.get_or_insert(Stopped { restart: false });
            true
        });
        self.desk.publications.close();
        self.desk.interrupt();
    }
}

impl<R> Desk<R> {
    pub fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subshells(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.subshells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stopped(&self) -> Option<Stopped> {
        *self.stopped.borrow()
    }

    /// Answers a request beside the running cell, between its own busy and idle.
    pub fn attend(&self, parent: &Arc<Header>, answer: impl FnOnce()) {
        self.status("busy", Some(parent));
        answer();
        self.status("idle", Some(parent));
        // Clients use the last status, so publish busy again while a cell runs. The lock makes the cell's own idle come after.
        if let Some(running) = &*self.running() {
            self.status("busy", Some(&running.parent));
        }
    }

    /// Handles a message on the stdin channel.
    fn answered(&self, message: &Message) {
        if message.header.msg_type == "input_reply"
            && let Ok(InputReply { value }) = content(message)
        {
            self.questions.answer(value);
        }
    }

    /// Returns the number of requests received on shell.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    pub fn status(&self, state: &str, parent: Option<&Arc<Header>>) {
        let content = json!({ "execution_state": state });
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
        let content = json!({ "status": "ok", "restart": restart });
        self.publications
            .publish(self.origin.message("shutdown_reply", Some(parent), content.clone()));
        self.reply(channel, route, parent, content);
        self.status("idle", Some(parent));
        self.stopped.send_replace(Some(Stopped { restart }));
    }

    /// Waits until all publications are sent.
    pub fn flush(&self) {
        self.publications.flush(FLUSH_TIMEOUT);
    }

    fn interrupt(&self) {
        if let Some(Running { interrupt, .. }) = &*self.running() {
            interrupt.trigger();
        }
    }
}

/// Returns the error for an unknown request, so that clients don't wait forever.
pub(super) fn unknown_request(msg_type: &str) -> Value {
    error_content("UnknownRequest", &format!("unsupported request {msg_type}"))
}

pub(super) fn error_content(ename: &str, evalue: &str) -> Value {
    failed(&CellError::new(ename, evalue))
}

/// Returns the content of an error reply.
pub(crate) fn failed(error: &CellError) -> Value {
    let CellError {
        ename,
        evalue,
        traceback,
    } = error;
    let traceback = match &traceback[..] {
        [] => vec![error.to_string()],
        lines => lines.to_vec(),
    };
    json!({ "status": "error", "ename": ename, "evalue": evalue, "traceback": traceback })
}
