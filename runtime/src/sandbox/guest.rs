use std::sync::Arc;

use wasmtime::{Memory, ResourceLimiter};

use super::caller::Caller;
use super::clock::Clock;
use super::interrupt::Deadline;
use super::random::Random;
use super::vfs::{Stop, Vfs};
use crate::step::Usage;

/// Maximum number of elements of a table. A Rust program has one for each function whose address it takes.
const MAX_TABLE: usize = 1 << 20;
/// The address space of a 32-bit guest, in bytes.
const ADDRESSABLE: u64 = 4 << 30;

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

/// Limits and measures the guest's memory.
pub(super) struct Meter {
    limit: usize,
    /// Peak size, in bytes.
    pub(super) peak: usize,
    /// Whether the guest requested more than the limit.
    pub(super) reached: bool,
    /// Whether the machine could not provide memory that the limit allows.
    pub(super) host_failed: bool,
    /// Whether the last request was within the module's own maximum.
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
