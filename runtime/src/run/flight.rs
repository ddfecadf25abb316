use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::Digest;
use crate::sandbox::Interrupt;

/// What is being worked on in this process by the digests that name it, such as runs by their keys, so that the second who wants the same waits and
/// then finds what the first has made.
#[derive(Default)]
pub(super) struct Flights {
    aloft: Mutex<BTreeSet<Digest>>,
    landed: Condvar,
}

/// While it lives, no other flight has its key.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    key: Digest,
}

impl Flights {
    /// Waits until no flight has `key`, and takes it. An interrupt ends the waiting with `None`: a run, which sees the same
    /// interrupt, is then carried out (and ends) at once.
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
