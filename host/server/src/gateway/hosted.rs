//! A kernel of the host, with its threads, clients and journal.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lockstep_kernel::jupyter::{Channel, Header, History, Kernel, Message, Origin, Outlets, Publication, Reply, Stopped};
use lockstep_kernel::websocket::Encoded;
use lockstep_runtime::step::OwnLimits;
use lockstep_view::error::{Error, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::audience::{Address, Audience, Seat, SessionId};
use super::journal::{Journal, Request};
use super::queue::Outgoing;
use super::running::{Ground, Noted};
use super::specs::NAME;

/// Time for a running cell to end when its kernel stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A kernel.
pub struct Hosted {
    pub id: String,
    ground: Arc<Ground>,
    /// Whether a later kernel can resume the session: its notebook is known, or the client chose the kernel's ID.
    is_named: bool,
    origin: Origin,
    journal: Arc<Mutex<Journal>>,
    state: Mutex<KernelState>,
    /// Receives shutdown requests of clients.
    stopped: UnboundedSender<(String, Stopped)>,
}

struct KernelState {
    life: Life,
    /// Counts starts of this kernel; messages of earlier generations are ignored.
    generation: u64,
    execution_state: String,
    last_activity: SystemTime,
    audience: Audience,
    /// Requests of an earlier process of the host that run again, one by one, and requests that arrived meanwhile.
    replay: Replay,
}

enum Life {
    /// No threads until a client needs it.
    Asleep,
    Awake(Kernel<Address>),
    /// Restarting; holds the requests that arrived meanwhile.
    Restarting(Vec<(Channel, Address, Message)>),
    Gone,
}

#[derive(Default)]
struct Replay {
    waiting: VecDeque<Request>,
    /// The request in progress.
    running: Option<String>,
}

/// Jupyter's model of a kernel.
#[derive(Clone)]
pub struct Model {
    pub id: String,
    pub last_activity: SystemTime,
    pub execution_state: String,
    pub connections: usize,
    pub details: Details,
}

/// What the dashboard shows of a kernel.
#[derive(Clone, Default)]
pub struct Details {
    /// Path of its notebook on the client's machine.
    pub notebook: Option<String>,
    /// First line of the cell that runs.
    pub running: Option<String>,
    /// Memory that a cell may use, or that of the kernel's pod, in bytes.
    pub memory: Option<u64>,
}

impl Model {
    pub fn json(&self) -> Value {
        let mut model = json!({
            "id": self.id,
            "name": NAME,
            "last_activity": humantime::format_rfc3339_micros(self.last_activity).to_string(),
            "execution_state": self.execution_state,
            "connections": self.connections,
        });
        // not in Jupyter's model; for the host of a kernel's pod
        if let Some(running) = &self.details.running {
            model["running"] = json!(running);
        }
        model
    }
}

impl Hosted {
    pub fn new(
        id: &str,
        ground: &Arc<Ground>,
        journal: Journal,
        execution_state: &str,
        stopped: UnboundedSender<(String, Stopped)>,
    ) -> Self {
        let session = &journal.place().notebook;
        Self {
            id: id.to_owned(),
            ground: ground.clone(),
            is_named: session.is_absolute() || journal.env().contains_key(super::ID),
            origin: Origin::new(format!("{id}-host-{}", unique()), SystemTime::now),
            journal: Arc::new(Mutex::new(journal)),
            state: Mutex::new(KernelState {
                life: Life::Asleep,
                generation: 0,
                execution_state: execution_state.to_owned(),
                last_activity: SystemTime::now(),
                audience: Audience::default(),
                replay: Replay::default(),
            }),
            stopped,
        }
    }

    /// Returns the identity of the session.
    pub fn session(&self) -> PathBuf {
        self.journal().place().notebook.clone()
    }

    pub fn has_requests(&self) -> bool {
        self.journal().has_requests()
    }

    pub fn model(&self) -> Model {
        let journal = self.journal();
        let details = Details {
            notebook: journal.env().get(super::NOTEBOOK).cloned(),
            running: journal.running(),
            memory: Some(self.ground.gate.limits(&self.ground.owner, &OwnLimits::default()).memory),
        };
        drop(journal);
        let state = self.state();
        Model {
            id: self.id.clone(),
            last_activity: state.last_activity,
            execution_state: state.execution_state.clone(),
            connections: state.audience.connections(),
            details,
        }
    }

    /// Starts the kernel if it has no threads.
    pub fn wake(self: &Arc<Self>) -> Result<()> {
        self.wake_in(&mut self.state())
    }

    fn wake_in(self: &Arc<Self>, state: &mut KernelState) -> Result<()> {
        if !matches!(state.life, Life::Asleep) {
            return Ok(());
        }
        let failed = |e: std::io::Error| Error::host(format_args!("can't start kernel {}: {e}", self.id));
        let (requests, number) = self.journal().recover().map_err(failed)?;
        let noted = Noted::new(&self.ground, self.directory(), self.journal.clone());
        let history = History::open(&self.ground.directory.join("history.jsonl")).unwrap_or_default();
        let origin = Origin::new(format!("{}-{}", self.id, unique()), SystemTime::now);
        let (kernel, outlets) = Kernel::start_after(number, origin, noted, history).map_err(failed)?;
        state.generation += 1;
        state.life = Life::Awake(kernel);
        tokio::spawn(self.clone().listen(outlets, state.generation));
        for request in &requests {
            state.audience.expect(&request.session);
            let clear = self.message("clear_output", Some(&request.message().header), json!({ "wait": false }));
            state.audience.publish(&clear, &self.origin, Instant::now());
        }
        state.replay.waiting = requests;
        state.replay();
        Ok(())
    }

    /// Returns the working directory of cells: that of the notebook, if it is on this machine.
    fn directory(&self) -> PathBuf {
        if let Some(confined) = &self.ground.confined {
            return confined.files.clone();
        }
        let asked = self.journal().env().get(super::WORKING_DIRECTORY).map(PathBuf::from);
        asked.filter(|path| path.is_absolute() && path.is_dir()).unwrap_or_else(|| {
            let own = self.ground.directory.join("work");
            // after a failure, directives that name files report them as missing
            let _ = std::fs::create_dir_all(&own);
            own
        })
    }

    /// Adds a client. It gets the buffered messages of its session.
    pub fn join(self: &Arc<Self>, session: SessionId, after: Option<&str>) -> Result<Seat> {
        let mut state = self.state();
        self.wake_in(&mut state)?;
        Ok(state.audience.join(session, after))
    }

    pub fn leave(&self, seat: &Seat) {
        let mut state = self.state();
        state.audience.leave(seat.address.connection);
        let settled = state.audience.forget();
        state.last_activity = SystemTime::now();
        drop(state);
        settled.iter().for_each(|request| self.settle(request));
    }

    /// Marks an execute request as settled: the client has received the reply.
    pub fn settle(&self, request: &str) {
        // after a failure, the request is settled with the next one, or runs again
        let _ = self.journal().settle(request);
    }

    /// Handles a request of a client.
    pub fn submit(self: &Arc<Self>, channel: Channel, from: &Address, message: Message) -> Result<()> {
        let mut state = self.state();
        self.wake_in(&mut state)?;
        state.last_activity = SystemTime::now();
        if channel == Channel::Shell && message.header.msg_type == "execute_request" {
            let added = self.journal().add(&from.session, &message);
            let added = added.map_err(|e| Error::host(format_args!("the host can't save the request: {e}")));
            let Some(request) = added? else { return Ok(()) };
            if !state.replay.is_over() {
                state.replay.waiting.push_back(request);
                return Ok(());
            }
        }
        state.give(channel, from.clone(), message);
        Ok(())
    }

    /// Interrupts the running cell.
    pub fn interrupt(&self) {
        if let Life::Awake(kernel) = &self.state().life {
            kernel.interrupt();
        }
    }

    /// Restarts the kernel with a new session, under the same ID.
    pub async fn restart(self: &Arc<Self>) -> Result<()> {
        let before = {
            let mut state = self.state();
            if matches!(state.life, Life::Restarting(_) | Life::Gone) {
                return Ok(());
            }
            state.generation += 1;
            state.replay = Replay::default();
            // not sent to clients, as JupyterLab would report a dead kernel; they get `starting` of the new kernel
            "restarting".clone_into(&mut state.execution_state);
            std::mem::replace(&mut state.life, Life::Restarting(Vec::new()))
        };
        if let Life::Awake(kernel) = before {
            kernel.stop(STOP_TIMEOUT).await;
        }
        let begun = self.journal().restart();
        begun.map_err(|e| Error::host(format_args!("can't restart kernel {}: {e}", self.id)))?;
        let mut state = self.state();
        if let Life::Restarting(asked) = std::mem::replace(&mut state.life, Life::Asleep) {
            self.wake_in(&mut state)?;
            drop(state);
            for (channel, from, message) in asked {
                self.submit(channel, &from, message)?;
            }
        }
        Ok(())
    }

    /// Removes the kernel's files. If `session_stays`, a session that can be resumed is kept.
    pub fn forget(&self, session_stays: bool) {
        self.journal().remove(session_stays && self.is_named);
    }

    /// Notes that the host shuts down, and that this is no fault of the cell that is running.
    pub fn note_shutdown(&self) {
        if let Err(error) = self.journal().note_shutdown() {
            tracing::warn!("kernel {}: can't write its journal: {error}", self.id);
        }
    }

    /// Stops the kernel.
    pub async fn end(&self) {
        let life = {
            let mut state = self.state();
            state.generation += 1;
            let status = self.status("dead");
            state.tell(&status, &self.origin);
            state.audience.dismiss();
            std::mem::replace(&mut state.life, Life::Gone)
        };
        if let Life::Awake(kernel) = life {
            kernel.stop(STOP_TIMEOUT).await;
        }
    }

    /// Forwards the kernel's messages until it stops.
    async fn listen(self: Arc<Self>, mut outlets: Outlets<Address>, generation: u64) {
        loop {
            tokio::select! {
                biased;
                Some(reply) = outlets.replies.recv() => self.reply(reply, generation),
                said = outlets.publications.next() => match said {
                    Some(Publication::Message(message)) => self.publish(&message, generation),
                    // the requester may have timed out
                    Some(Publication::Flush(done)) => drop(done.send(())),
                    None => return,
                },
                Ok(()) = outlets.stopped.changed() => {
                    let stopped = *outlets.stopped.borrow();
                    if let Some(stopped) = stopped.filter(|_| self.state().generation == generation) {
                        // fails during shutdown of the host
                        let _ = self.stopped.send((self.id.clone(), stopped));
                    }
                }
            }
        }
    }

    fn publish(&self, message: &Message, generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            state.tell(message, &self.origin);
        }
    }

    fn reply(&self, reply: Reply<Address>, generation: u64) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        let asked = reply
            .message
            .parent
            .as_deref()
            .filter(|_| reply.message.header.msg_type == "execute_reply");
        let asked = asked.map(|header| header.msg_id.clone());
        let is_aborted = reply.message.content["status"] == "aborted";
        if let (Some(request), true) = (&asked, is_aborted) {
            // after a failure, the request runs after a restart of the host, and gets two replies
            let _ = self.journal().drop_request(request);
        }
        let message = Arc::new(Encoded::new(reply.channel.name(), &reply.message));
        let settles = asked.clone().filter(|_| !is_aborted);
        state.audience.reply(&reply.route, Outgoing { message, settles });
        if asked.is_some() && asked == state.replay.running {
            state.replay.running = None;
            state.replay();
        }
    }

    fn status(&self, state: &str) -> Message {
        self.message("status", None, json!({ "execution_state": state }))
    }

    fn message(&self, msg_type: &str, parent: Option<&Header>, content: Value) -> Message {
        self.origin.message(msg_type, parent.cloned().map(Arc::new).as_ref(), content)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, KernelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KernelState {
    /// Sends a message to all clients, and updates the kernel's state from it.
    fn tell(&mut self, message: &Message, origin: &Origin) {
        self.last_activity = SystemTime::now();
        if let Some(state) = message.content["execution_state"].as_str()
            && message.header.msg_type == "status"
        {
            state.clone_into(&mut self.execution_state);
        }
        self.audience.publish(message, origin, Instant::now());
    }

    fn give(&mut self, channel: Channel, from: Address, message: Message) {
        match &mut self.life {
            Life::Awake(kernel) => kernel.submit(channel, from, message),
            Life::Restarting(asked) => asked.push((channel, from, message)),
            Life::Asleep | Life::Gone => {}
        }
    }

    /// Submits requests of an earlier process in the original portions: a cell that had started was not aborted by an error in an earlier
    /// one, so it waits for the end of that one; the others wait in the kernel's queue.
    fn replay(&mut self) {
        while let Some(request) = self.replay.waiting.pop_front() {
            let from = Address {
                session: request.session.clone(),
                connection: 0,
            };
            self.give(Channel::Shell, from, request.message());
            let next = self.replay.waiting.front();
            if next.is_some_and(Request::has_started) || (request.has_started() && next.is_none()) {
                self.replay.running = Some(request.id().to_owned());
                return;
            }
        }
    }
}

impl Replay {
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }
}

/// Returns a random name for this start of a kernel.
fn unique() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Environment of a kernel, as requested by the client.
pub type Env = BTreeMap<String, String>;
