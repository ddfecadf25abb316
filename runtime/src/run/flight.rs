use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::RunKey;
use crate::sandbox::Interrupt;

/// The runs being carried out in this process, so that the second of two equal ones waits and then finds the first's record.
#[derive(Default)]
pub(super) struct Flights {
    aloft: Mutex<BTreeSet<RunKey>>,
    landed: Condvar,
}

/// While it lives, no other flight has its key.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    key: RunKey,
}

impl Flights {
    /// Waits until no flight has `key`, and takes it. An interrupt ends the waiting with `None`: the run, which sees the same
    /// interrupt, is then carried out (and ends) at once.
    pub(super) fn board(&self, key: RunKey, interrupt: &Interrupt) -> Option<Flight<'_>> {
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

    fn aloft(&self) -> MutexGuard<'_, BTreeSet<RunKey>> {
        self.aloft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.aloft().remove(&self.key);
        self.flights.landed.notify_all();
    }
}
