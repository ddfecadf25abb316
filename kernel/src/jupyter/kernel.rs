//! The kernel's two sides: what is answered at once (control), and the queue to the interpreter's thread (shell).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::interpreter::Interpreter;
use super::kernel_info;
use super::message::{Channel, Header, Message, Origin};
use super::publications::Publications;
use super::request::ShutdownRequest;
use super::shell::Shell;

/// How long a reply waits for the publications before it, when subscribers are slow.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a request came from, and where its reply goes: `R` is the transport's own address of a client.
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

/// A running kernel. Dropping it interrupts the running cell and lets the interpreter's thread end.
#[derive(Debug)]
pub struct Kernel<R> {
    desk: Arc<Desk<R>>,
    shell: mpsc::Sender<Request<R>>,
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

/// What both sides share.
#[derive(Debug)]
pub(super) struct Desk<R> {
    pub origin: Arc<Origin>,
    pub publications: Publications,
    replies: UnboundedSender<Reply<R>>,
    stopped: watch::Sender<Option<Stopped>>,
    running: Mutex<Option<Running>>,
    /// How many requests have come in on shell.
    arrivals: AtomicU64,
}

/// The shell request that is being answered, and its interrupt if it is a cell.
#[derive(Debug)]
pub(super) struct Running {
    pub parent: Arc<Header>,
    pub interrupt: Option<Interrupt>,
}

impl<R: Send + 'static> Kernel<R> {
    /// Starts the interpreter's thread. Fails when the system gives no thread.
    pub fn start(origin: Origin, interpreter: impl Interpreter) -> std::io::Result<(Self, Outlets<R>)> {
        let origin = Arc::new(origin);
        let publications = Publications::new(origin.clone());
        let (replies, replies_out) = unbounded_channel();
        let (stopped, stopped_out) = watch::channel(None);
        let (shell, requests) = mpsc::channel();
        let desk = Arc::new(Desk {
            origin,
            publications: publications.clone(),
            replies,
            stopped,
            running: Mutex::default(),
            arrivals: AtomicU64::new(0),
        });
        desk.status("starting", None);
        let mut thread = Shell::new(desk.clone(), interpreter);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("interpreter".into()).spawn(move || {
            while let Ok(request) = requests.recv()
                && !thread.is_stopped()
            {
                thread.answer(request);
            }
            drop(thread);
            drop::<oneshot::Sender<()>>(end);
        })?;
        let outlets = Outlets {
            publications,
            replies: replies_out,
            stopped: stopped_out,
        };
        let ended = Some(ended);
        Ok((Self { desk, shell, ended }, outlets))
    }

    /// Takes in a request. Returns at once.
    pub fn submit(&self, channel: Channel, route: R, message: Message) {
        let parent = Arc::new(message.header.clone());
        match channel {
            Channel::Shell => {
                let arrival = self.desk.arrivals.fetch_add(1, Ordering::Relaxed);
                // The thread ends only together with the kernel.
                let _ = self.shell.send(Request {
                    route,
                    message,
                    parent,
                    arrival,
                });
            }
            Channel::Control => self.control(route, &message, &parent),
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
        self.desk.status("busy", Some(parent));
        let reply = match parent.msg_type.as_str() {
            "kernel_info_request" => kernel_info::reply(),
            "interrupt_request" => {
                self.desk.interrupt();
                json!({ "status": "ok" })
            }
            "shutdown_request" => {
                let request: ShutdownRequest = serde_json::from_value(message.content.clone()).unwrap_or_default();
                self.desk.interrupt();
                self.desk.reply_and_stop(route, Channel::Control, parent, request.restart);
                return;
            }
            unknown => unknown_request(unknown),
        };
        self.desk.reply(Channel::Control, route, parent, reply);
        self.desk.status("idle", Some(parent));
        // Those who go by the last status they saw must not take a running cell for an idle kernel. The lock is held meanwhile,
        // so that the cell's own idle comes after.
        if let Some(running) = &*self.desk.running() {
            self.desk.status("busy", Some(&running.parent));
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

    pub fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    /// How many requests have come in on shell so far.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    pub fn status(&self, state: &str, parent: Option<&Arc<Header>>) {
        let content = json!({ "execution_state": state });
        self.publications.publish(self.origin.message("status", parent, content));
    }

    /// Replies with the reply type that belongs to the request's.
    pub fn reply(&self, channel: Channel, route: R, parent: &Arc<Header>, content: Value) {
        let kind = parent.msg_type.strip_suffix("_request").unwrap_or(&parent.msg_type);
        let message = self.origin.message(&format!("{kind}_reply"), Some(parent), content);
        // Nobody takes replies any more when the transport has ended.
        let _ = self.replies.send(Reply { channel, route, message });
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
        if let Some(Running {
            interrupt: Some(interrupt),
            ..
        }) = &*self.running()
        {
            interrupt.trigger();
        }
    }
}

/// The answer to what this kernel does not know, so that no client waits for ever.
pub(super) fn unknown_request(msg_type: &str) -> Value {
    error_content("UnknownRequest", &format!("this kernel does not answer {msg_type}"))
}

pub(super) fn error_content(ename: &str, evalue: &str) -> Value {
    json!({ "status": "error", "ename": ename, "evalue": evalue, "traceback": [format!("{ename}: {evalue}")] })
}
