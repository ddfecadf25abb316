//! What answers the calls of a guest.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::interrupt::Deadline;
use super::meter::Meter;
use super::vfs::{Fault, Stop, Vfs};
use super::{Large, Node, Pause, Stream};
use crate::digest::Digest;
use crate::step::{GuestPath, Interruption, Usage};

/// Handles a guest's requests, on the guest's thread.
pub trait Caller: Send {
    /// Answers a request. Must be deterministic.
    fn call(&mut self, request: &[u8], guest: &mut Asking<'_>) -> std::result::Result<Answer, Unanswered>;

    /// Returns the pauses of the guest.
    fn pause(&self) -> Pause {
        Pause::default()
    }
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

/// A file or directory that a guest passes to its caller.
#[derive(Debug)]
pub enum Given {
    /// An input of the guest.
    Input(Bytes),
    /// A large input of the guest.
    Large(Large),
    /// A file that the guest wrote. The storage has a copy.
    Stored {
        /// the digest of its bytes
        digest: Digest,
        /// the size in bytes
        size: u64,
    },
    /// A directory.
    Directory(BTreeMap<String, Given>),
}

/// The guest that sent the request.
pub struct Asking<'g> {
    pub(super) vfs: &'g mut Vfs,
    pub(super) meter: &'g mut Meter,
    pub(super) deadline: &'g Deadline,
    pub(super) stop: Option<Stop>,
}

impl Asking<'_> {
    /// Returns the file or directory at a path of the guest; `None` if it does not exist or is not readable, or if the guest must end.
    pub fn given(&mut self, path: &GuestPath) -> Option<Given> {
        match self.try_given(path) {
            Ok(given) => Some(given),
            Err(Fault::Errno(_)) => None,
            Err(Fault::Stop(stop)) => {
                self.stop.get_or_insert(self.deadline.check().err().unwrap_or(stop));
                None
            }
        }
    }

    fn try_given(&mut self, path: &GuestPath) -> super::vfs::Result<Given> {
        let (found, path_bytes) = self.vfs.find_readable(path)?;
        self.meter.settle(self.vfs.held() + path_bytes)?;
        let deadline = self.deadline;
        self.vfs.give(found, &mut || deadline.check_io())
    }

    /// Returns whether the guest must end.
    pub fn has_ended(&self) -> bool {
        self.stop.is_some() || self.deadline.check().is_err()
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
