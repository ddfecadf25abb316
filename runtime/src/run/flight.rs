use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::Digest;
use crate::sandbox::Interrupt;

/// Work in progress in this process, by digest, such as runs by their keys. A second request for the same work waits, and then finds
/// the result of the first.
#[derive(Default)]
pub(super) struct Flights {
    aloft: Mutex<BTreeSet<Digest>>,
    landed: Condvar,
}

/// Exclusive access to a key, released on drop.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    key: Digest,
}

impl Flights {
    /// Waits until no other flight has `key`, and takes it. Returns `None` if interrupted while waiting; the run, which sees the same
    /// interrupt, then starts and ends at once.
    pub(super) fn board(&self, key: Digest, interrupt: &Interrupt) -> Option<Flight<'_>> {
        let mut aloft = self.aloft();
        while !aloft.insert(key) {
            if interrupt.is_triggered() {
                return None;
            }
            let waited = self.landed.wait_timeout(aloft, Duration::from_millis(20));
            aloft = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(Flight { flights: self, key })
    }

    fn aloft(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.aloft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.aloft().remove(&self.key);
        self.flights.landed.notify_all();
    }
}
