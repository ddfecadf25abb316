//! What was asked and is not answered.

use std::collections::VecDeque;

use super::Request;
use crate::jupyter::Message;

/// How many messages are remembered, to know those that come twice.
const REMEMBERED: usize = 4096;

/// Requests in the order in which they came.
#[derive(Debug)]
pub(super) struct Asked<R>(VecDeque<Waiting<R>>);

#[derive(Debug)]
struct Waiting<R> {
    request: Request<R>,
    /// Whether the host may have it.
    sent: bool,
    /// Whether the user was told that its answer is late.
    told: bool,
}

impl<R> Default for Asked<R> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<R: Clone> Asked<R> {
    pub fn add(&mut self, request: Request<R>) {
        self.0.push_back(Waiting {
            request,
            sent: false,
            told: false,
        });
    }

    /// All of it, to be sent; from now on the host may have it.
    pub fn send_all(&mut self) -> Vec<&Request<R>> {
        let send = |waiting: &'_ mut Waiting<R>| waiting.sent = true;
        self.0.iter_mut().for_each(send);
        self.0.iter().map(|waiting| &waiting.request).collect()
    }

    /// What is sent and has no answer is not asked for again.
    pub fn forget_unanswerable(&mut self) {
        self.0
            .retain(|waiting| waiting.request.message.header.msg_type.ends_with("_request"));
    }

    /// Who is to get `answer`. A reply is the last that there is to a request.
    pub fn route_of(&mut self, answer: &Message) -> Option<R> {
        let parent = &answer.parent.as_ref()?.msg_id;
        let at = self
            .0
            .iter()
            .position(|waiting| waiting.request.message.header.msg_id == *parent)?;
        match answer.header.msg_type.ends_with("_reply") {
            true => self.0.remove(at).map(|waiting| waiting.request.route),
            false => self.0.get(at).map(|waiting| waiting.request.route.clone()),
        }
    }

    /// Takes out what the host can't have.
    pub fn take_unsent(&mut self) -> Vec<Request<R>> {
        let (sent, unsent) = std::mem::take(&mut self.0).into_iter().partition(|waiting| waiting.sent);
        self.0 = sent;
        unsent.into_iter().map(|waiting| waiting.request).collect()
    }

    /// Takes out all.
    pub fn take(&mut self) -> Vec<Request<R>> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|waiting| waiting.request)
            .collect()
    }

    /// The cells that are at the host, each given once.
    pub fn untold(&mut self) -> Vec<&Request<R>> {
        let late = |waiting: &&mut Waiting<R>| {
            waiting.sent && !waiting.told && waiting.request.message.header.msg_type == "execute_request"
        };
        let late = self.0.iter_mut().filter(late);
        late.map(|waiting| {
            waiting.told = true;
            &waiting.request
        })
        .collect()
    }
}

/// The messages that came last.
#[derive(Debug, Default)]
pub(super) struct Seen(VecDeque<String>);

impl Seen {
    /// The last one; empty if there is none.
    pub fn last(&self) -> String {
        self.0.back().cloned().unwrap_or_default()
    }

    /// Whether the message is new.
    pub fn is_new(&mut self, id: &str) -> bool {
        // what comes twice came a short while ago
        if self.0.iter().rev().any(|seen| seen == id) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(id.to_owned());
        true
    }
}
