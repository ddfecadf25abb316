use std::sync::Arc;

use wasmtime::{Memory, ResourceLimiter};

use super::call::Caller;
use super::clock::Clock;
use super::interrupt::Deadline;
use super::random::Random;
use super::vfs::{Stop, Vfs};
use crate::step::Usage;

/// The most elements that a table may have; a Rust program has as many as functions whose address it takes.
const MAX_TABLE: usize = 1 << 20;
/// All that a 32-bit guest can address.
const ADDRESSABLE: u64 = 4 << 30;

/// The state of one run that host functions work on.
pub(super) struct Guest {
    pub(super) vfs: Vfs,
    pub(super) args: Strings,
    pub(super) env: Strings,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) meter: Meter,
    pub(super) deadline: Arc<Deadline>,
    /// The guest's memory, once a host function had to do with it.
    pub(super) memory: Option<Memory>,
    /// Answers the guest's requests.
    pub(super) caller: Option<Box<dyn Caller>>,
    /// How many requests were answered.
    pub(super) calls: u32,
    /// What answering used.
    pub(super) called: Usage,
    /// Why the run had to end.
    pub(super) stop: Option<Stop>,
    /// The exit code.
    pub(super) exit: Option<u32>,
}

/// NUL-terminated strings, as argv and environ are laid out in guest memory.
pub(super) struct Strings {
    pub(super) count: u32,
    pub(super) bytes: Vec<u8>,
}

impl Strings {
    /// What comes after a NUL in a string is lost, as it is in C.
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

/// Watches over the guest's memory.
pub(super) struct Meter {
    limit: usize,
    /// The most it had, in bytes.
    pub(super) peak: usize,
    /// Whether it asked for more than the limit.
    pub(super) reached: bool,
    /// Whether the machine could not give what the limit allows.
    pub(super) host_failed: bool,
    /// Whether the module's own maximum allows what it asked for last.
    within_maximum: bool,
}

impl Meter {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: limit.min(ADDRESSABLE) as usize,
            peak: 0,
            reached: false,
            host_failed: false,
            within_maximum: true,
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.limit;
        self.within_maximum = maximum.is_none_or(|maximum| desired <= maximum);
        self.reached |= !allowed;
        if allowed && self.within_maximum {
            self.peak = self.peak.max(desired);
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if self.within_maximum {
            self.host_failed = true;
            return Err(error);
        }
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }
}
