//! The room in a store, which a quota limits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_runtime::run::Ran;
use lockstep_runtime::store::Store;
use lockstep_view::quantity;

use super::answer::{Answer, Refusal};
use super::quotas::Quota;

/// A size is determined again after this time.
const SIZE_HOLDS: Duration = Duration::from_secs(10);

/// The room in a store.
pub struct Room {
    store: Store,
    /// Size of the store in bytes, and when it was determined.
    size: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            size: Mutex::default(),
        }
    }

    /// Fails if the store is as large as the user's quota. Reads the disk.
    pub fn check(&self, quota: &Quota) -> Answer<()> {
        let Some(most) = quota.store() else { return Ok(()) };
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match *size {
            // uploads may have been in the store already, so the size is determined again before anything is refused
            Some((at, bytes)) if at.elapsed() < SIZE_HOLDS && bytes < most => bytes,
            _ => {
                let bytes = self.store.size()?;
                *size = Some((Instant::now(), bytes));
                bytes
            }
        };
        match bytes < most {
            true => Ok(()),
            false => Err(Refusal::quota(
                "store",
                format_args!(
                    "your store has {}, and may have {}",
                    quantity::bytes(bytes),
                    quantity::bytes(most)
                ),
            )),
        }
    }

    /// Counts received bytes until the size of the store is determined again.
    pub fn received(&self, bytes: u64) {
        if let Some((_, size)) = &mut *self.size.lock().unwrap_or_else(PoisonError::into_inner) {
            *size = size.saturating_add(bytes);
        }
    }

    /// Counts the outputs of a run.
    pub fn ran(&self, ran: &Ran) {
        if !ran.cached {
            let outputs = ran.record.outputs.values().chain(&ran.record.log);
            self.received(outputs.map(|artifact| artifact.size).sum());
        }
    }
}
