//! A host function beyond WASI: a guest sends a request to its caller, and gets the result as files.
//!
//! The import is `lockstep` `call`: `(request: *const u8, request_len: u32, number: *mut u32) -> errno`. Only the [`Caller`] interprets
//! the request. The result is then at `/call/<number>`, read-only. The virtual clock does not advance during a call.

use bytes::Bytes;
use wasmtime::{Caller as Context, Linker};

use super::caller::{Asking, Unanswered};
use super::guest::Guest;
use super::preview1::{self, Pointer};
use super::vfs::{Errno, Result, Stop};

/// The module name of the import.
const MODULE: &str = "lockstep";
/// The name of the import.
const NAME: &str = "call";
/// Maximum size of a request, in bytes.
const MAX_REQUEST: u32 = 1 << 20;
/// The work of a call beside that of the run that it starts.
const WORK: u64 = 300_000;

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
            meter: &mut self.meter,
            deadline: &self.deadline,
            stop: None,
        };
        let answer = caller.call(request, &mut asking);
        let stop = asking.stop;
        // first: the usage of an interrupted call is unknown, so the outcome must not be deterministic
        self.deadline.check()?;
        let answer = answer.map_err(|unanswered| match unanswered {
            Unanswered::Interrupted(by) => Stop::Interrupted(by),
            Unanswered::Host(source) => Stop::Host(source),
        })?;
        self.called.include(&answer.usage);
        self.vfs.add_work(WORK.saturating_add(answer.usage.fuel));
        if let Some(stop) = stop {
            return Err(stop.into());
        }
        let number = self.calls;
        self.calls += 1;
        self.vfs.put_answer(number, answer.files)?;
        Ok(number)
    }
}
