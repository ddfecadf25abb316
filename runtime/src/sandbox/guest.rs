use std::sync::Arc;

use wasmtime::{Memory, ResourceLimiter};

use super::caller::Caller;
use super::clock::Clock;
use super::interrupt::Deadline;
use super::random::Random;
use super::vfs::{Stop, Vfs};
use crate::step::{Limit, Usage};

/// Maximum number of elements of a table. A Rust program has one for each function whose address it takes.
const MAX_TABLE: usize = 1 << 20;
/// The address space of a 32-bit guest, in bytes.
const ADDRESSABLE: u64 = 4 << 30;

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

/// How many bytes the host holds for a guest before they count as memory of the guest.
const FREE_MEMORY: u64 = 16 << 20;
/// The size of an element of a table, in bytes.
const SIZE_OF_ELEMENT: u64 = 8;

/// Limits and measures the guest's memory: linear memory, and what the host holds for the guest beyond [`FREE_MEMORY`].
pub(super) struct Meter {
    limit: u64,
    /// Linear memory, in bytes.
    linear: u64,
    /// Tables, in bytes.
    tables: u64,
    /// What the file system holds, in bytes.
    files: u64,
    /// Peak size, in bytes.
    pub(super) peak: u64,
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
            limit: limit.min(ADDRESSABLE),
            linear: 0,
            tables: 0,
            files: 0,
            peak: 0,
            reached: false,
            host_failed: false,
            within_maximum: true,
        }
    }

    /// Notes how many bytes the file system holds. Fails if the guest then has too much memory.
    pub(super) fn settle(&mut self, files: u64) -> Result<(), Stop> {
        (self.files, self.within_maximum) = (files, true);
        match self.admit(self.linear, self.tables) {
            true => Ok(()),
            false => Err(Stop::Limit(Limit::Memory)),
        }
    }

    /// Returns whether the guest may have so much memory, and tables of this size.
    fn admit(&mut self, linear: u64, tables: u64) -> bool {
        let total = linear + (tables + self.files).saturating_sub(FREE_MEMORY);
        let allowed = total <= self.limit;
        self.reached |= !allowed;
        if allowed && self.within_maximum {
            (self.linear, self.tables) = (linear, tables);
            self.peak = self.peak.max(total);
        }
        allowed
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.within_maximum = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(self.admit(desired as u64, self.tables))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if self.within_maximum {
            self.host_failed = true;
            return Err(error);
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.within_maximum = maximum.is_none_or(|maximum| desired <= maximum);
        let more = SIZE_OF_ELEMENT * desired.saturating_sub(current) as u64;
        Ok(desired <= MAX_TABLE && self.admit(self.linear, self.tables + more))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_grow_failed(error)
    }
}
