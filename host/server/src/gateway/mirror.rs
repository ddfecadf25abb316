//! Copies of kernels in the shared store, so that another machine or pod can go on with one whose own is lost.
//!
//! A copy is put whole, by a thread of its own, and a newer one takes the place of one that still waits: cells don't wait for the shared
//! store. So a machine that ends at once, without [`Mirror::flush`], may leave a copy that is some cells behind; what those came to is in the
//! store, and they are run again or asked for again.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_runtime::store::{Shared, Store};
use lockstep_view::error::{Error, Result};

/// How long to wait before a shared store that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The copies of the kernels of a namespace.
pub struct Mirror {
    store: Store,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// What each kernel's copy is to say; nothing if there is to be none.
    newest: BTreeMap<String, Option<Bytes>>,
    /// One is being put.
    is_busy: bool,
}

impl Mirror {
    /// A mirror in the shared store behind `store`; `None` if there is none.
    pub fn behind(store: &Store) -> Result<Option<Arc<Self>>> {
        if store.shared().is_none() {
            return Ok(None);
        }
        let mirror = Arc::new(Self {
            store: store.clone(),
            waiting: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&mirror);
        let work = move || {
            while let Some(mirror) = weak.upgrade() {
                mirror.work();
            }
        };
        let thread = std::thread::Builder::new().name("mirror".to_owned()).spawn(work);
        thread.map_err(|e| Error::host(format_args!("the system gave no thread: {e}")))?;
        Ok(Some(mirror))
    }

    /// The copy of the kernel `kernel`.
    pub fn copy(&self, kernel: &str) -> Result<Option<Bytes>> {
        if let Some(newest) = self.waiting().newest.get(kernel) {
            return Ok(newest.clone());
        }
        Ok(self.shared().map_or(Ok(None), |shared| shared.note(&note(kernel)))?)
    }

    /// From now on, the copy of the kernel `kernel` is `copy`, or there is none. Returns at once.
    pub fn set(&self, kernel: &str, copy: Option<Bytes>) {
        self.waiting().newest.insert(kernel.to_owned(), copy);
        self.changed.notify_all();
    }

    /// Waits until all is put, no longer than `patience`. False if it is not.
    pub fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut waiting = self.waiting();
        while waiting.is_busy || !waiting.newest.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting = self
                .changed
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Puts the next copy, if one comes within a while.
    fn work(&self) {
        let Some((kernel, copy)) = self.next() else { return };
        let name = note(&kernel);
        let put = self.shared().map_or(Ok(()), |shared| match &copy {
            Some(copy) => shared.put_note(&name, copy.clone()),
            None => shared.remove_note(&name),
        });
        let mut waiting = self.waiting();
        waiting.is_busy = false;
        if let Err(error) = put {
            tracing::warn!("kernel {kernel} has no copy in the shared store for now: {error}");
            waiting.newest.entry(kernel).or_insert(copy);
            self.changed.notify_all();
            drop(waiting);
            std::thread::sleep(AGAIN);
            return;
        }
        self.changed.notify_all();
    }

    fn next(&self) -> Option<(String, Option<Bytes>)> {
        let mut waiting = self.waiting();
        if waiting.newest.is_empty() {
            // a mirror that nobody has any more is not waited in for ever
            waiting = self
                .changed
                .wait_timeout(waiting, AGAIN)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let next = waiting.newest.pop_first()?;
        waiting.is_busy = true;
        Some(next)
    }

    fn shared(&self) -> Option<&Shared> {
        self.store.shared()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The note that the copy of a kernel is.
pub fn note(kernel: &str) -> String {
    format!("kernels/{kernel}.json")
}
