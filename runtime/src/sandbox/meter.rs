use wasmtime::ResourceLimiter;

use super::vfs::Stop;
use crate::step::Limit;

/// Maximum number of elements of a table. A Rust program has one for each function whose address it takes.
const MAX_TABLE: usize = 1 << 20;
/// The address space of a 32-bit guest, in bytes.
const ADDRESSABLE: u64 = 4 << 30;

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
