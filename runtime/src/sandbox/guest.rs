use std::sync::Arc;

use wasmtime::Memory;

use super::caller::Caller;
use super::clock::Clock;
use super::interrupt::Deadline;
use super::meter::Meter;
use super::random::Random;
use super::vfs::{Stop, Vfs};
use crate::step::Usage;

/// The work of host functions that costs no fuel: see `preview1::charge`.
pub(super) const FREE_WORK: u64 = 100_000_000;

/// The state of a run, for host functions.
pub(super) struct Guest {
    pub(super) vfs: Vfs,
    pub(super) args: Strings,
    pub(super) env: Strings,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) meter: Meter,
    pub(super) deadline: Arc<Deadline>,
    /// The guest's memory, after a host function has first used it.
    pub(super) memory: Option<Memory>,
    /// The handler of the guest's requests.
    pub(super) caller: Option<Box<dyn Caller>>,
    /// Number of requests answered.
    pub(super) calls: u32,
    /// The resources used for answering.
    pub(super) called: Usage,
    /// The work of host functions that is left before it costs fuel.
    pub(super) free_work: u64,
    /// The reason to end the run.
    pub(super) stop: Option<Stop>,
    /// The exit code.
    pub(super) exit: Option<u32>,
}

/// NUL-terminated strings, in the layout of argv and environ in guest memory.
pub(super) struct Strings {
    pub(super) count: u32,
    pub(super) bytes: Vec<u8>,
}

impl Strings {
    /// Concatenates strings. Truncates each at its first NUL, as in C.
    pub(super) fn new(strings: impl IntoIterator<Item = String>) -> Self {
        let mut all = Self {
            count: 0,
            bytes: Vec::new(),
        };
        for string in strings {
            all.count += 1;
            all.bytes.extend(string.bytes().take_while(|byte| *byte != 0));
            all.bytes.push(0);
        }
        all
    }
}
