//! Who gets what a kernel says: the clients that are connected, and those sessions whose client is away.
//!
//! Invariants: what one client gets is in the order in which the kernel said it; nobody waits for a client; what is kept for a session is
//! bounded ([`ROOM`]), and so is how many sessions are waited for ([`SESSIONS`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use lockstep_kernel::jupyter::{Message, Origin};
use lockstep_kernel::websocket::{Encoded, IOPUB};
use serde_json::json;

use super::queue::{Ending, Outgoing, Queue};
use super::rate::{NOTICE, Rate, Verdict};

/// Bytes of output that are kept for a session that is away.
const ROOM: usize = 4 << 20;
/// Sessions that are waited for; the one that left first is forgotten first.
const SESSIONS: usize = 4;

/// What a session without an output beyond its room is told.
const LOST: &str = "Nobody was connected to this kernel while it wrote more than 4 MiB: the rest is not shown. The whole text is in the store: `lockstep log`.\n";

/// A session's id as the client tells it. Clients that tell none share one.
pub type SessionId = Option<String>;

/// Where a reply goes: to the connection that asked, else to its session.
#[derive(Debug, Clone, Default)]
pub struct Address {
    pub session: SessionId,
    pub connection: u64,
}

/// A connection's place among the clients.
#[derive(Clone)]
pub struct Seat {
    pub address: Address,
    pub queue: Arc<Queue>,
}

#[derive(Default)]
pub struct Audience {
    clients: BTreeMap<u64, Client>,
    away: BTreeMap<SessionId, Away>,
    connections: u64,
}

struct Client {
    session: SessionId,
    queue: Arc<Queue>,
    rate: Rate,
}

/// What is kept for a session.
#[derive(Default)]
struct Away {
    /// Which connection it left with.
    since: u64,
    kept: VecDeque<Outgoing>,
    /// How many of those were written once, and may have been lost.
    written: usize,
    bytes: usize,
    told: bool,
}

impl Audience {
    /// Seats a client, who gets first what was kept for its session: all after the message `after`, if it says what it got last.
    pub fn join(&mut self, session: SessionId, after: Option<&str>) -> Seat {
        self.connections += 1;
        let connection = self.connections;
        if session.is_some() {
            self.replace(&session);
        }
        let queue = Arc::new(Queue::new(after.is_some()));
        if let Some(away) = self.away.remove(&session) {
            away.since_message(after).for_each(|outgoing| queue.push(outgoing));
        }
        let client = Client {
            session: session.clone(),
            queue: queue.clone(),
            rate: Rate::default(),
        };
        self.clients.insert(connection, client);
        Seat {
            address: Address { session, connection },
            queue,
        }
    }

    /// Ends an older connection of the session: its client has gone without a word.
    fn replace(&mut self, session: &SessionId) {
        let older = self.clients.iter().find(|(_, client)| client.session == *session);
        if let Some((&connection, client)) = older {
            client.queue.end(Ending::Replaced);
            self.leave(connection);
        }
    }

    /// A client has gone; what it has not got is kept.
    pub fn leave(&mut self, connection: u64) {
        let Some(client) = self.clients.remove(&connection) else {
            return;
        };
        let (written, waiting) = client.queue.leftovers();
        let mut away = Away {
            since: connection,
            written: written.len(),
            ..Away::default()
        };
        written.into_iter().chain(waiting).for_each(|outgoing| away.keep(outgoing));
        match self.away.get_mut(&client.session) {
            // of those who share a session each has got its own
            Some(before) => away.kept.into_iter().for_each(|outgoing| before.keep(outgoing)),
            None => drop(self.away.insert(client.session, away)),
        }
    }

    /// Forgets sessions beyond those that are waited for. Gives the requests whose answers are kept for nobody any more.
    pub fn forget(&mut self) -> Vec<String> {
        let mut settled = Vec::new();
        while self.away.len() > SESSIONS
            && let Some(first) = self.away.iter().min_by_key(|(_, away)| away.since).map(|(id, _)| id.clone())
            && let Some(away) = self.away.remove(&first)
        {
            settled.extend(away.kept.into_iter().filter_map(|outgoing| outgoing.settles));
        }
        settled
    }

    /// Waits for a session whose client is not here yet: it was here when the host ended.
    pub fn expect(&mut self, session: &SessionId) {
        self.away.entry(session.clone()).or_default();
    }

    /// Sends what every client sees.
    pub fn publish(&mut self, message: &Message, origin: &Origin, now: Instant) {
        let encoded = Arc::new(Encoded::new(IOPUB, message));
        let is_idle = message.header.msg_type == "status" && message.content["execution_state"] == "idle";
        let outgoing = |message: &Arc<Encoded>| Outgoing {
            message: message.clone(),
            settles: None,
        };
        let told = |text: &str| {
            let content = json!({ "name": "stderr", "text": text });
            Arc::new(Encoded::new(
                IOPUB,
                &origin.message("stream", message.parent.as_ref(), content),
            ))
        };
        for client in self.clients.values_mut() {
            match client.rate.judge(encoded.msg_type(), encoded.len(), now) {
                Verdict::Send => client.queue.push(outgoing(&encoded)),
                Verdict::Drop => {}
                Verdict::DropAndTell => client.queue.push(outgoing(&told(NOTICE))),
            }
            if is_idle {
                client.rate.reset();
            }
        }
        for away in self.away.values_mut() {
            match (away.has_room(&encoded), away.told) {
                (true, _) => away.keep(outgoing(&encoded)),
                (false, true) => {}
                (false, false) => {
                    away.told = true;
                    away.keep(outgoing(&told(LOST)));
                }
            }
        }
    }

    /// Sends a reply, or a question, to who asked.
    pub fn reply(&mut self, to: &Address, outgoing: Outgoing) {
        let of_session = |client: &&Client| to.session.is_some() && client.session == to.session;
        let client = self.clients.get(&to.connection);
        match client.or_else(|| self.clients.values().rev().find(of_session)) {
            Some(client) => client.queue.push(outgoing),
            None => self.away.entry(to.session.clone()).or_default().keep(outgoing),
        }
    }

    /// Ends all connections, after what they are still to get.
    pub fn dismiss(&mut self) {
        for client in self.clients.values() {
            client.queue.end(Ending::Gone);
        }
        self.away.clear();
    }

    pub fn connections(&self) -> usize {
        self.clients.len()
    }
}

impl Away {
    /// Whether output is kept. What a client can't do without always is, up to a bound that only a hostile kernel reaches.
    fn has_room(&self, message: &Encoded) -> bool {
        let is_output = matches!(
            message.msg_type(),
            "stream" | "display_data" | "update_display_data" | "comm_msg"
        );
        let room = if is_output { ROOM } else { 2 * ROOM };
        self.bytes + message.len() <= room
    }

    fn keep(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.message.len();
        self.kept.push_back(outgoing);
    }

    /// What the client has not got: all that was not written, and of what was written all after the message that it got last.
    fn since_message(self, after: Option<&str>) -> impl Iterator<Item = Outgoing> {
        let got = after.and_then(|id| self.kept.iter().position(|kept| kept.message.msg_id() == id));
        let skipped = match (after, got) {
            (None, _) => self.written,
            (Some(_), Some(last)) => last + 1,
            (Some(_), None) => 0,
        };
        self.kept.into_iter().skip(skipped)
    }
}
