//! Recipients of a kernel's messages: connected clients, and sessions whose client is disconnected.
//!
//! Invariants: each client gets messages in the kernel's order; nothing waits for a client; the buffer of a disconnected session is bounded
//! ([`ROOM`]), and so is the number of such sessions ([`SESSIONS`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use lockstep_kernel::jupyter::{Message, Origin};
use lockstep_kernel::websocket::{Encoded, IOPUB};
use serde_json::json;

use super::queue::{Ending, Outgoing, Queue};
use super::rate::{NOTICE, Rate, Verdict};

/// Output buffered for a disconnected session, in bytes. Larger than the queue of a connected one.
const ROOM: usize = 10 << 20;
/// Maximum number of disconnected sessions. The oldest is dropped first.
const SESSIONS: usize = 4;

/// Notice in place of output that exceeds the buffer.
const LOST: &str = "No client was connected while this kernel wrote more than 10 MiB: the rest is not shown. The full output is in the store: `lockstep log`.\n";

/// Session ID from the client. Clients without one share a session.
pub type SessionId = Option<String>;

/// Destination of a reply: the requesting connection, or else its session.
#[derive(Debug, Clone, Default)]
pub struct Address {
    pub session: SessionId,
    pub connection: u64,
}

/// A connected client's address and queue.
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

/// Buffer of a disconnected session.
#[derive(Default)]
struct Away {
    /// Number of its last connection.
    since: u64,
    kept: VecDeque<Outgoing>,
    /// Number of leading messages that were sent already, and may have been lost.
    written: usize,
    bytes: usize,
    told: bool,
}

impl Audience {
    /// Adds a client. Its queue starts with the buffered messages of its session: those after the message `after`, if given.
    pub fn join(&mut self, session: SessionId, after: Option<&str>) -> Seat {
        self.connections += 1;
        let connection = self.connections;
        if session.is_some() {
            self.replace(&session);
        }
        let away = self.away.remove(&session).unwrap_or_default();
        let queue = Arc::new(Queue::new(away.since_message(after), after.is_some()));
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

    /// Closes an older connection of the session, whose client disappeared.
    fn replace(&mut self, session: &SessionId) {
        let older = self.clients.iter().find(|(_, client)| client.session == *session);
        if let Some((&connection, client)) = older {
            client.queue.end(Ending::Replaced);
            self.leave(connection);
        }
    }

    /// Removes a client. Buffers the messages that it did not receive.
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
        for outgoing in written.into_iter().chain(waiting) {
            if away.has_room(&outgoing.message) {
                away.keep(outgoing);
            }
        }
        match self.away.get_mut(&client.session) {
            // clients without an ID share a session
            Some(before) => away.kept.into_iter().for_each(|outgoing| before.keep(outgoing)),
            None => drop(self.away.insert(client.session, away)),
        }
    }

    /// Drops sessions beyond the maximum. Returns the requests whose replies are dropped with them.
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

    /// Starts to buffer for a session that was connected before a restart of the host.
    pub fn expect(&mut self, session: &SessionId) {
        self.away.entry(session.clone()).or_default();
    }

    /// Sends a message to all clients.
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

    /// Sends a reply or an input request to the requesting client.
    pub fn reply(&mut self, to: &Address, outgoing: Outgoing) {
        let of_session = |client: &&Client| client.session == to.session;
        let client = self.clients.get(&to.connection);
        match client.or_else(|| self.clients.values().rev().find(of_session)) {
            Some(client) => client.queue.push(outgoing),
            None => self.away.entry(to.session.clone()).or_default().keep(outgoing),
        }
    }

    /// Closes all connections after their queued messages.
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
    /// Whether the buffer has room. The limit for other messages than output is higher; only a hostile kernel reaches it.
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

    /// Returns the messages that the client did not receive: all unsent ones, and those sent after the message `after`.
    fn since_message(mut self, after: Option<&str>) -> VecDeque<Outgoing> {
        let got = after.and_then(|id| self.kept.iter().position(|kept| kept.message.msg_id() == id));
        let skipped = match (after, got) {
            (None, _) => self.written,
            (Some(_), Some(last)) => last + 1,
            (Some(_), None) => 0,
        };
        self.kept.split_off(skipped.min(self.kept.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn said(audience: &mut Audience, texts: &[&str]) {
        let origin = Origin::new("test", || SystemTime::UNIX_EPOCH);
        for text in texts {
            let mut message = origin.message("stream", None, json!({ "name": "stdout", "text": text }));
            (*text).clone_into(&mut message.header.msg_id);
            audience.publish(&message, &origin, Instant::now());
        }
    }

    fn ids(outgoing: &VecDeque<Outgoing>) -> Vec<&str> {
        outgoing.iter().map(|outgoing| outgoing.message.msg_id()).collect()
    }

    fn session(name: &str) -> SessionId {
        Some(name.to_owned())
    }

    #[tokio::test]
    async fn a_session_gets_what_was_not_written_and_what_came_meanwhile() {
        let mut audience = Audience::default();
        let seat = audience.join(session("a"), None);
        said(&mut audience, &["1", "2", "3"]);
        assert_eq!(seat.queue.next().await.unwrap().message.msg_id(), "1");
        audience.leave(seat.address.connection);
        said(&mut audience, &["4"]);
        let back = audience.join(session("a"), None);
        assert_eq!(ids(&back.queue.leftovers().1), ["2", "3", "4"]);
        assert_eq!(ids(&audience.join(session("b"), None).queue.leftovers().1), [""; 0]);
    }

    #[tokio::test]
    async fn a_client_that_says_what_it_got_gets_what_was_lost_on_the_way() {
        let mut audience = Audience::default();
        for (got, expected) in [("", vec!["1", "2", "3"]), ("1", vec!["2", "3"]), ("2", vec!["3"])] {
            let seat = audience.join(session(got), Some(""));
            said(&mut audience, &["1", "2", "3"]);
            seat.queue.next().await.unwrap();
            seat.queue.next().await.unwrap();
            audience.leave(seat.address.connection);
            let back = audience.join(session(got), Some(got));
            assert_eq!(ids(&back.queue.leftovers().1), expected);
            audience.leave(back.address.connection);
        }
    }

    #[test]
    fn the_same_session_replaces_its_connection_and_inherits_what_waits() {
        let mut audience = Audience::default();
        let before = audience.join(session("a"), None);
        said(&mut audience, &["1"]);
        let after = audience.join(session("a"), None);
        assert_eq!((audience.connections(), ids(&after.queue.leftovers().1)), (1, vec!["1"]));
        audience.reply(&before.address, reply("r"));
        assert_eq!(ids(&after.queue.leftovers().1), ["r"]);
    }

    fn reply(id: &str) -> Outgoing {
        let origin = Origin::new("test", || SystemTime::UNIX_EPOCH);
        let mut message = origin.message("execute_reply", None, json!({}));
        id.clone_into(&mut message.header.msg_id);
        Outgoing {
            message: Arc::new(Encoded::new("shell", &message)),
            settles: Some(id.to_owned()),
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_first_that_left_is_forgotten_first() {
        let mut audience = Audience::default();
        let seat = audience.join(session("a"), None);
        audience.leave(seat.address.connection);
        let megabyte = "x".repeat(1 << 20);
        said(&mut audience, &[megabyte.as_str(); 12]);
        audience.reply(&seat.address, reply("r"));
        let kept = audience.join(session("a"), None).queue.leftovers().1;
        let texts: Vec<String> = kept.iter().map(|outgoing| outgoing.message.text()).collect();
        // four megabytes twice in each: as text and as id
        assert!(texts.len() < 8 && texts.iter().any(|text| text.contains("is not shown")));
        assert_eq!(kept.back().unwrap().message.msg_id(), "r");

        let seats: Vec<Seat> = (0..6).map(|n| audience.join(session(&n.to_string()), None)).collect();
        for seat in &seats {
            audience.reply(&seat.address, reply(&seat.address.connection.to_string()));
            audience.leave(seat.address.connection);
        }
        let first: Vec<String> = seats[..2].iter().map(|seat| seat.address.connection.to_string()).collect();
        assert_eq!(audience.forget(), first);
    }
}
