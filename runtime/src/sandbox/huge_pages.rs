//! Huge pages for large guests. With the usual pages of 4 KiB, page faults take more time than reading a large input.

use wasmtime::{Instance, Store};

use super::guest::Guest;

/// The address space reserved for a memory, in bytes: all that a 32-bit guest can address, so that memory grows in place.
pub(super) const RESERVED: usize = 4 << 30;

/// The address in a guest's memory from which it has huge pages. Small guests start faster with small pages.
#[cfg(target_os = "linux")]
const SMALL: usize = 32 << 20;

/// Lets the operating system use huge pages for a guest's memory beyond [`SMALL`].
#[cfg(target_os = "linux")]
pub(super) fn advise(store: &mut Store<Guest>, instance: &Instance) {
    use rustix::mm::{Advice, madvise};
    let Some(memory) = instance.get_memory(&mut *store, "memory") else {
        return;
    };
    let start = memory.data_ptr(&*store).wrapping_add(SMALL);
    // SAFETY: `target::config` reserves this range for the memory, which starts at a page. The advice does not change content. Failure has
    // no consequence: not every system has huge pages.
    let _ = unsafe { madvise(start.cast(), RESERVED - SMALL, Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn advise(_store: &mut Store<Guest>, _instance: &Instance) {}
