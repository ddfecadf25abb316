//! What answers the calls of a guest.

use std::io;

use super::vfs::{Stop, Vfs};
use super::{Node, Stream};
use crate::step::{GuestPath, Interruption, Usage};

/// Handles a guest's requests, on the guest's thread.
pub trait Caller: Send {
    /// Answers a request. Must be deterministic.
    fn call(&mut self, request: &[u8], guest: &mut Asking<'_>) -> std::result::Result<Answer, Unanswered>;
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The content of `/call/<number>`.
    pub files: Node,
    /// The resources used, and the limits reached, also if the request failed. They count as the guest's own.
    pub usage: Usage,
}

/// The reason why there is no answer. It ends the guest.
#[derive(Debug)]
pub enum Unanswered {
    /// The request was interrupted.
    Interrupted(Interruption),
    /// A host error.
    Host(io::Error),
}

/// The guest that sent the request.
pub struct Asking<'g> {
    pub(super) vfs: &'g mut Vfs,
    pub(super) stop: Option<Stop>,
}

impl Asking<'_> {
    /// Returns the node at a path of the guest; `None` if there is no readable one.
    pub fn node(&mut self, path: &GuestPath) -> Option<Node> {
        match self.vfs.node_at(path) {
            Ok(node) => node,
            Err(stop) => {
                self.stop.get_or_insert(stop);
                None
            }
        }
    }

    /// Writes to the guest's own stdout or stderr.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.stop.is_none()
            && let Err(stop) = self.vfs.write_stream(stream, bytes)
        {
            self.stop = Some(stop);
        }
    }
}
