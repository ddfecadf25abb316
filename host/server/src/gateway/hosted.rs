//! One kernel of the host: its threads when it has any, its clients, its journal.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lockstep_kernel::jupyter::{Channel, Header, History, Kernel, Message, Origin, Outlets, Publication, Reply, Stopped};
use lockstep_kernel::websocket::Encoded;
use lockstep_view::error::{Error, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::audience::{Address, Audience, Seat, SessionId};
use super::journal::{Journal, Request};
use super::queue::Outgoing;
use super::running::{Ground, Noted};
use super::specs::NAME;

/// How long a running cell may take to end once the kernel is to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The variable in a kernel's `env` that says where its notebook is.
const WORKING_DIRECTORY: &str = "KERNEL_WORKING_DIR";

/// A kernel.
pub struct Hosted {
    pub id: String,
    ground: Arc<Ground>,
    /// Whether a kernel may come that is to have the same session: its notebook is known, or its client has chosen its id.
    is_named: bool,
    origin: Origin,
    journal: Arc<Mutex<Journal>>,
    state: Mutex<State>,
    /// Told when a client has asked the kernel to shut down.
    stopped: UnboundedSender<(String, Stopped)>,
}

struct State {
    life: Life,
    /// How many kernels there were of this id: what an earlier one still says is for nobody.
    generation: u64,
    execution_state: String,
    last_activity: SystemTime,
    audience: Audience,
    /// What is carried out one after the other, since an earlier process of the host did so; and what was asked meanwhile.
    replay: Replay,
}

enum Life {
    /// It has no threads until somebody needs it.
    Asleep,
    Awake(Kernel<Address>),
    /// It is being restarted: what is asked meanwhile waits.
    Restarting(Vec<(Channel, Address, Message)>),
    Gone,
}

#[derive(Default)]
struct Replay {
    waiting: VecDeque<Request>,
    /// The request that the next one waits for.
    running: Option<String>,
}

/// What is told of a kernel.
#[derive(Clone)]
pub struct Model {
    pub id: String,
    pub last_activity: SystemTime,
    pub execution_state: String,
    pub connections: usize,
}

impl Model {
    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "name": NAME,
            "last_activity": humantime::format_rfc3339_micros(self.last_activity).to_string(),
            "execution_state": self.execution_state,
            "connections": self.connections,
        })
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
            state: Mutex::new(State {
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

    /// What the session is known by.
    pub fn session(&self) -> PathBuf {
        self.journal().place().notebook.clone()
    }

    pub fn has_requests(&self) -> bool {
        self.journal().has_requests()
    }

    pub fn model(&self) -> Model {
        let state = self.state();
        Model {
            id: self.id.clone(),
            last_activity: state.last_activity,
            execution_state: state.execution_state.clone(),
            connections: state.audience.connections(),
        }
    }

    /// Gives it threads if it has none.
    pub fn wake(self: &Arc<Self>) -> Result<()> {
        self.wake_in(&mut self.state())
    }

    fn wake_in(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if !matches!(state.life, Life::Asleep) {
            return Ok(());
        }
        let failed = |e: std::io::Error| Error::host(format_args!("kernel {} can't start: {e}", self.id));
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

    /// The directory that paths in cells are relative to: the notebook's, if that is on this machine.
    fn directory(&self) -> PathBuf {
        if let Some(reach) = &self.ground.reach {
            return reach.clone();
        }
        let asked = self.journal().env().get(WORKING_DIRECTORY).map(PathBuf::from);
        asked.filter(|path| path.is_absolute() && path.is_dir()).unwrap_or_else(|| {
            let own = self.ground.directory.join("work");
            // Without it, directives that name files say that these are not there.
            let _ = std::fs::create_dir_all(&own);
            own
        })
    }

    /// Seats a client. It gets what was kept for its session.
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

    /// Whoever sent the execute request has its answer.
    pub fn settle(&self, request: &str) {
        // What can't be written now is settled with the next one, or run again.
        let _ = self.journal().settle(request);
    }

    /// Takes in a request of a client.
    pub fn submit(self: &Arc<Self>, channel: Channel, from: &Address, message: Message) -> Result<()> {
        let mut state = self.state();
        self.wake_in(&mut state)?;
        state.last_activity = SystemTime::now();
        if channel == Channel::Shell && message.header.msg_type == "execute_request" {
            let added = self.journal().add(&from.session, &message);
            let added = added.map_err(|e| Error::host(format_args!("the host can't keep what is to be run: {e}")));
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

    /// A new kernel with a new session under the same id.
    pub async fn restart(self: &Arc<Self>) -> Result<()> {
        let before = {
            let mut state = self.state();
            if matches!(state.life, Life::Restarting(_) | Life::Gone) {
                return Ok(());
            }
            state.generation += 1;
            state.replay = Replay::default();
            // Not told to clients: JupyterLab takes it for a kernel that has died. The new kernel's `starting` is.
            "restarting".clone_into(&mut state.execution_state);
            std::mem::replace(&mut state.life, Life::Restarting(Vec::new()))
        };
        if let Life::Awake(kernel) = before {
            kernel.stop(STOP_TIMEOUT).await;
        }
        let begun = self.journal().restart();
        begun.map_err(|e| Error::host(format_args!("kernel {} can't begin anew: {e}", self.id)))?;
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

    /// Removes what there is of the kernel, which is to end; a session that may be taken up again stays if `session_stays`.
    pub fn forget(&self, session_stays: bool) {
        self.journal().remove(session_stays && self.is_named);
    }

    /// Ends the kernel.
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

    /// Passes on what the kernel says until it ends.
    async fn listen(self: Arc<Self>, mut outlets: Outlets<Address>, generation: u64) {
        loop {
            tokio::select! {
                biased;
                Some(reply) = outlets.replies.recv() => self.reply(reply, generation),
                said = outlets.publications.next() => match said {
                    Some(Publication::Message(message)) => self.publish(&message, generation),
                    // Whoever asked may have given up waiting.
                    Some(Publication::Flush(done)) => drop(done.send(())),
                    None => return,
                },
                Ok(()) = outlets.stopped.changed() => {
                    let stopped = *outlets.stopped.borrow();
                    if let Some(stopped) = stopped.filter(|_| self.state().generation == generation) {
                        // Nobody takes it when the host ends.
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
            // If that can't be written, it is run after a restart of the host, and answered twice.
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells all clients, and notes what that says of the kernel.
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

    /// Gives the kernel what it was asked before, in such portions as it was then: a cell that had started was not stopped by an error in one
    /// before it, so it waits for that one's end; the others wait in the kernel's own queue.
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

/// What no other process or start of a kernel is called.
fn unique() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// What a client tells of the surroundings that it wants for its kernel.
pub type Env = BTreeMap<String, String>;
