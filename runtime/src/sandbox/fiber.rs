//! Guests run on fibers, so that they can be interrupted: after every slice of fuel, a guest yields, and continues unless the run must end.
//! Slices depend on nothing but the guest, and it can't observe them. A check for interrupts costs nothing beyond that for fuel.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wasmtime::Store;

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
