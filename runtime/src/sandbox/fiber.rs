//! Guests run on fibers, so that they can be interrupted: after every slice of fuel, a guest yields, and continues unless the run must end.
//! Slices depend on nothing but the guest, and it can't observe them. A check for interrupts costs nothing beyond that for fuel.

use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use memmap2::MmapMut;
use rustix::mm::{MprotectFlags, mprotect};
use wasmtime::{StackCreator, StackMemory, Store};

use super::guest::Guest;
use super::vfs::Stop;

/// The native stack of a guest, in bytes. Generous, because interpreters use it for recursion.
pub(super) const GUEST_STACK: usize = 16 << 20;
/// Additional stack for host functions, in bytes.
pub(super) const HOST_STACK: usize = 2 << 20;

/// The fuel of a slice. An instruction takes at most some 200 ns, if it touches new memory, so that a slice takes at most 50 ms. Most take
/// a hundredth of this; to yield takes some 100 ns.
const SLICE: u64 = 250_000;

/// Gives a guest this much fuel, in slices.
pub(super) fn set_fuel(store: &mut Store<Guest>, fuel: u64) -> wasmtime::Result<()> {
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(SLICE))
}

/// Executes a guest until it ends, or until `check` fails.
pub(super) fn drive<T>(guest: impl Future<Output = T>, mut check: impl FnMut() -> Result<(), Stop>) -> Result<T, Stop> {
    let mut guest = pin!(guest);
    // it is never pending for another reason than the end of a slice
    let mut context = Context::from_waker(Waker::noop());
    loop {
        check()?;
        if let Poll::Ready(end) = guest.as_mut().poll(&mut context) {
            return Ok(end);
        }
    }
}

/// Maximum number of idle stacks kept for later runs. Each costs only the pages that its runs have touched.
const MAX_IDLE: usize = 64;
/// The size of the guard below a stack, in bytes: a multiple of the page size of every supported system.
const GUARD: usize = 64 << 10;

/// Native stacks of guests. They are used again, as mapping a new one takes longer than a trivial run.
#[derive(Clone, Default)]
pub(super) struct Stacks(Arc<Mutex<Vec<MmapMut>>>);

/// A stack in use: its memory, with the guard at the start.
struct Stack {
    memory: Option<MmapMut>,
    stacks: Stacks,
}

impl Stacks {
    fn idle(&self) -> MutexGuard<'_, Vec<MmapMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: a new mapping is page-aligned and zero, and no access to its guard is allowed. One that is used again has the size of all stacks
// of the engine; the engine does not ask for zeroed stacks, and guests can't read them.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let used = self.idle().pop().filter(|memory| !zeroed && memory.len() == GUARD + size);
        let memory = match used {
            Some(memory) => memory,
            None => {
                let mut memory = MmapMut::map_anon(GUARD + size)?;
                // SAFETY: the range is within the mapping, which nothing else uses yet
                unsafe { mprotect(memory.as_mut_ptr().cast(), GUARD, MprotectFlags::empty()) }?;
                memory
            }
        };
        let stacks = self.clone();
        Ok(Box::new(Stack {
            memory: Some(memory),
            stacks,
        }))
    }
}

impl Stack {
    fn addresses(&self) -> Range<*mut u8> {
        let addresses = self.memory.as_ref().map(|memory| memory.as_ptr_range());
        addresses.map_or(std::ptr::null_mut()..std::ptr::null_mut(), |all| {
            all.start.cast_mut()..all.end.cast_mut()
        })
    }
}

// SAFETY: the memory is that of `Stacks::new_stack`, and belongs to this value until it is dropped.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.addresses().end
    }

    fn range(&self) -> Range<usize> {
        let all = self.addresses();
        all.start as usize + GUARD..all.end as usize
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.addresses().start;
        start..start.wrapping_add(GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut idle = self.stacks.idle();
        if idle.len() < MAX_IDLE {
            idle.extend(self.memory.take());
        }
    }
}
