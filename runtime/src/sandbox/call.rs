//! What a guest may ask of its caller beyond WASI: to carry out something and give it the result as files.
//!
//! It is one function, `lockstep` `call`: `(request: *const u8, request_len: u32, number: *mut u32) -> errno`. The request is
//! a text that only the [`Caller`] understands. What it gives is at `/call/<number>` afterwards, read-only. Nothing is said of
//! time: the virtual clock stands still during a call.

use std::io;

use bytes::Bytes;
use wasmtime::{Caller as Context, Linker};

use super::guest::Guest;
use super::preview1::{self, Pointer};
use super::vfs::{Errno, Result, Stop, Vfs};
use super::{Node, Stream};
use crate::step::{GuestPath, Interruption, Usage};

/// The import's module.
const MODULE: &str = "lockstep";
/// The import's name.
const NAME: &str = "call";
/// The longest request, in bytes.
const MAX_REQUEST: u32 = 1 << 20;

/// Carries out what a guest asks for, on the guest's thread.
pub trait Caller: Send {
    /// Answers a request, the same one always in the same way.
    fn call(&mut self, request: &[u8], guest: &mut Asking<'_>) -> std::result::Result<Answer, Unanswered>;
}

/// What a guest gets for its request.
#[derive(Debug)]
pub struct Answer {
    /// What is at `/call/<number>`.
    pub files: Node,
    /// What carrying it out used. Each of it counts against the guest's limits by itself.
    pub usage: Usage,
}

/// Why there is no answer: the guest is ended.
#[derive(Debug)]
pub enum Unanswered {
    /// Somebody interrupted it.
    Interrupted(Interruption),
    /// The machine failed.
    Host(io::Error),
}

/// The guest that asks.
pub struct Asking<'g> {
    vfs: &'g mut Vfs,
    stop: Option<Stop>,
}

impl Asking<'_> {
    /// What the guest has at a path; `None` if there is nothing that can be read.
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

/// Whether there is such an import.
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
    /// Has a request answered, and gives the answer's number.
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
