//! A host function beyond WASI: a guest sends a request to its caller, and gets the result as files.
//!
//! The import is `lockstep` `call`: `(request: *const u8, request_len: u32, number: *mut u32) -> errno`. Only the [`Caller`] interprets
//! the request. The result is then at `/call/<number>`, read-only. The virtual clock does not advance during a call.

use std::io;

use bytes::Bytes;
use wasmtime::{Caller as Context, Linker};

use super::guest::Guest;
use super::preview1::{self, Pointer};
use super::vfs::{Errno, Result, Stop, Vfs};
use super::{Node, Stream};
use crate::step::{GuestPath, Interruption, Usage};

/// The module name of the import.
const MODULE: &str = "lockstep";
/// The name of the import.
const NAME: &str = "call";
/// Maximum size of a request, in bytes.
const MAX_REQUEST: u32 = 1 << 20;

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
    /// The resources used. They count against the guest's limits.
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
    vfs: &'g mut Vfs,
    stop: Option<Stop>,
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

/// Returns whether this import exists.
pub(super) fn offers(module: &str, name: &str) -> bool {
    (module, name) == (MODULE, NAME)
}

/// Defines the function.
pub(super) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let call = |context: Context<'_, Guest>, request: Pointer, len: u32, number: Pointer| {
        preview1::call(context, |guest, ram| {
            if len > MAX_REQUEST {
                return Err(Errno::Invalid.into());
            }
            let request = Bytes::copy_from_slice(ram.bytes(request, len)?);
            ram.put_u32(number, guest.call(&request)?)
        })
    };
    linker.func_wrap(MODULE, NAME, call).map(drop)
}

impl Guest {
    /// Answers a request and returns the number of the answer.
    fn call(&mut self, request: &[u8]) -> Result<u32> {
        let caller = self.caller.as_mut().ok_or(Errno::NotSupported)?;
        let mut asking = Asking {
            vfs: &mut self.vfs,
            stop: None,
        };
        let answer = caller.call(request, &mut asking);
        if let Some(stop) = asking.stop {
            return Err(stop.into());
        }
        let answer = answer.map_err(|unanswered| match unanswered {
            Unanswered::Interrupted(by) => Stop::Interrupted(by),
            Unanswered::Host(source) => Stop::Host(source),
        })?;
        self.called.include(&answer.usage);
        let number = self.calls;
        self.calls += 1;
        self.vfs.put_answer(number, answer.files)?;
        Ok(number)
    }
}
