//! Dispatches requests: control requests are answered at once, cells are queued for the interpreter's thread, and other
//! requests are queued for the assistant's thread, which answers while a cell runs.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use jupyter_protocol::ExecutionState;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::assistance::Assistance;
use super::content::{error_content, unknown_request};
use super::desk::{Ask, Desk, Reply, Request, Stopped};
use super::history::History;
use super::interpreter::Interpreter;
use super::kernel_info;
use super::message::{Channel, Header, Message, Origin};
use super::publications::Publications;
use super::request::{DeleteSubshell, ShutdownRequest, content};
use super::shell::Shell;

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
        let desk = Arc::new(Desk::new(origin, publications.clone(), history, replies, stopped));
        desk.status(ExecutionState::Starting, None);
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
            arrival: self.desk.arrive(),
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
            let request: ShutdownRequest = content(message).unwrap_or_default();
            self.desk.status(ExecutionState::Busy, Some(parent));
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
        self.desk.stop();
        self.desk.publications.close();
        self.desk.interrupt();
    }
}
