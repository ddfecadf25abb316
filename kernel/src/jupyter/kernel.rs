//! The kernel's three sides: what is answered at once (control), the queue of cells to the interpreter's thread, and the queue of
//! questions to the assistant's thread, which answers while a cell runs.

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

/// How long a reply waits for the publications before it, when subscribers are slow.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a request came from, and where what answers it goes: `R` is the transport's own address of a client.
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
    /// The client will start another one in its place.
    pub restart: bool,
}

/// What comes out of a kernel. The transport must take from both queues all the time.
#[derive(Debug)]
pub struct Outlets<R> {
    /// For every client.
    pub publications: Publications,
    /// For one client each.
    pub replies: UnboundedReceiver<Reply<R>>,
    /// Becomes something when the kernel was asked to shut down and has replied.
    pub stopped: watch::Receiver<Option<Stopped>>,
}

/// A running kernel. Dropping it interrupts the running cell and lets its threads end.
#[derive(Debug)]
pub struct Kernel<R> {
    desk: Arc<Desk<R>>,
    cells: mpsc::Sender<Request<R>>,
    questions: mpsc::Sender<Ask<R>>,
    /// Nothing is sent; it hangs up when the interpreter's thread has ended.
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

/// What the assistant's thread is to do.
#[derive(Debug)]
pub(super) enum Ask<R> {
    /// Answer a request.
    Answer(Box<Request<R>>),
    /// Tell the open comms what the cell has changed that was executed.
    Tell,
}

/// What all sides share.
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
    /// How many requests have come in on shell.
    arrivals: AtomicU64,
}

/// The cell that is running.
#[derive(Debug)]
pub(super) struct Running {
    pub parent: Arc<Header>,
    pub interrupt: Interrupt,
}

impl<R: Clone + Send + Sync + 'static> Kernel<R> {
    /// Starts the threads. Fails when the system gives none.
    pub fn start(origin: Origin, interpreter: impl Interpreter, history: History) -> std::io::Result<(Self, Outlets<R>)> {
        Self::start_after(0, origin, interpreter, history)
    }

    /// The same for a session in which `number` cells were executed before: the numbers go on from there.
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

    /// Takes in a request. Returns at once.
    pub fn submit(&self, channel: Channel, route: R, message: Message) {
        let parent = Arc::new(message.header.clone());
        match channel {
            Channel::Control => self.control(route, &message, &parent),
            Channel::Stdin => self.desk.answered(&message),
            Channel::Shell => self.shell(route, message, parent),
        }
    }

    /// Cells go to the interpreter, one after the other; everything else is answered meanwhile.
    fn shell(&self, route: R, message: Message, parent: Arc<Header>) {
        if let Some(unknown) = parent.subshell().filter(|id| !self.desk.subshells().contains(*id)) {
            let what = format!("there is no subshell {unknown}: it was deleted, or is of another kernel");
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
        // The threads end only together with the kernel.
        match is_for_interpreter {
            true => drop(self.cells.send(request)),
            false => drop(self.questions.send(Ask::Answer(Box::new(request)))),
        }
    }

    /// Interrupts the cell that is running, if one is.
    pub fn interrupt(&self) {
        self.desk.interrupt();
    }

    /// Interrupts the running cell and waits until the interpreter has been dropped, no longer than `timeout`. Requests
    /// that are still queued are not answered.
    pub async fn stop(mut self, timeout: Duration) {
        let ended = self.ended.take();
        drop(self);
        if let Some(ended) = ended {
            // It hangs up, or it is too late.
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
                Ok(request) => error_content("SubshellNotFound", &format!("there is no subshell {}", request.subshell_id)),
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

    /// Answers something beside the running cell, between a busy and an idle of its own.
    pub fn attend(&self, parent: &Arc<Header>, answer: impl FnOnce()) {
        self.status("busy", Some(parent));
        answer();
        self.status("idle", Some(parent));
        // Those who go by the last status they saw must not take a running cell for an idle kernel. The lock is held meanwhile,
        // so that the cell's own idle comes after.
        if let Some(running) = &*self.running() {
            self.status("busy", Some(&running.parent));
        }
    }

    /// Takes in what came on the stdin channel.
    fn answered(&self, message: &Message) {
        if message.header.msg_type == "input_reply"
            && let Ok(InputReply { value }) = content(message)
        {
            self.questions.answer(value);
        }
    }

    /// How many requests have come in on shell so far.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    pub fn status(&self, state: &str, parent: Option<&Arc<Header>>) {
        let content = json!({ "execution_state": state });
        self.publications.publish(self.origin.message("status", parent, content));
    }

    /// Sends a client something that is no reply.
    pub fn send(&self, channel: Channel, route: R, message: Message) {
        // Nobody takes it any more when the transport has ended.
        let _ = self.replies.send(Reply { channel, route, message });
    }

    /// Replies with the reply type that belongs to the request's.
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

    /// Waits until what was published is on its way.
    pub fn flush(&self) {
        self.publications.flush(FLUSH_TIMEOUT);
    }

    fn interrupt(&self) {
        if let Some(Running { interrupt, .. }) = &*self.running() {
            interrupt.trigger();
        }
    }
}

/// The answer to what this kernel does not know, so that no client waits for ever.
pub(super) fn unknown_request(msg_type: &str) -> Value {
    error_content("UnknownRequest", &format!("this kernel does not answer {msg_type}"))
}

pub(super) fn error_content(ename: &str, evalue: &str) -> Value {
    failed(&CellError::new(ename, evalue))
}

/// The content of a reply that says what went wrong.
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
