//! Pending requests.

use std::collections::VecDeque;

use super::Request;
use crate::jupyter::Message;

/// The number of remembered message ids, to detect duplicates.
const REMEMBERED: usize = 4096;

/// Pending requests, in order of arrival.
#[derive(Debug)]
pub(super) struct Asked<R>(VecDeque<Waiting<R>>);

#[derive(Debug)]
struct Waiting<R> {
    request: Request<R>,
    /// Whether the host may have received it.
    sent: bool,
    /// Whether the user was told that the reply is delayed.
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

    /// Returns all requests for sending, and marks them as sent.
    pub fn send_all(&mut self) -> Vec<&Request<R>> {
        let send = |waiting: &'_ mut Waiting<R>| waiting.sent = true;
        self.0.iter_mut().for_each(send);
        self.0.iter().map(|waiting| &waiting.request).collect()
    }

    /// Removes messages without a reply, which are not sent again.
    pub fn forget_unanswerable(&mut self) {
        self.0
            .retain(|waiting| waiting.request.message.header.msg_type.ends_with("_request"));
    }

    /// Returns the client to send `answer` to. A reply completes its request.
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

    /// Removes and returns the requests that were not sent.
    pub fn take_unsent(&mut self) -> Vec<Request<R>> {
        let (sent, unsent) = std::mem::take(&mut self.0).into_iter().partition(|waiting| waiting.sent);
        self.0 = sent;
        unsent.into_iter().map(|waiting| waiting.request).collect()
    }

    /// Removes and returns all requests.
    pub fn take(&mut self) -> Vec<Request<R>> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|waiting| waiting.request)
            .collect()
    }

    /// Returns the cells sent to the host that the user was not yet told about, each once.
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

/// The ids of the latest messages.
#[derive(Debug, Default)]
pub(super) struct Seen(VecDeque<String>);

impl Seen {
    /// Returns the last id; empty if there is none.
    pub fn last(&self) -> String {
        self.0.back().cloned().unwrap_or_default()
    }

    /// Adds a message id. Returns whether it is new.
    pub fn is_new(&mut self, id: &str) -> bool {
        // duplicates are usually recent, so search backwards
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
