//! Copies of kernels in the shared store, so that another machine or pod can resume a lost kernel.
//!
//! A background thread uploads copies, and a newer copy replaces a pending one, so cells don't wait for the shared store. A machine that
//! fails without [`Mirror::flush`] may leave a copy that is some cells behind. The results of those cells are in the store; the cells run
//! again, or their clients request them again.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_runtime::store::{Shared, Store};
use lockstep_view::error::{Error, Result};

/// Delay before a retry, if the shared store is unreachable.
const AGAIN: Duration = Duration::from_secs(2);

/// Copies of the kernels of a namespace.
pub struct Mirror {
    store: Store,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Pending copy of each kernel; `None` to remove it.
    newest: BTreeMap<String, Option<Bytes>>,
    /// Whether an upload is in progress.
    is_busy: bool,
}

impl Mirror {
    /// Creates a mirror in the shared store of `store`; `None` if there is none.
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
        thread.map_err(|e| Error::host(format_args!("can't start a thread: {e}")))?;
        Ok(Some(mirror))
    }

    /// Returns the copy of the kernel `kernel`.
    pub fn copy(&self, kernel: &str) -> Result<Option<Bytes>> {
        if let Some(newest) = self.waiting().newest.get(kernel) {
            return Ok(newest.clone());
        }
        Ok(self.shared().map_or(Ok(None), |shared| shared.note(&note(kernel)))?)
    }

    /// Sets the copy of the kernel `kernel`, or removes it. Returns without waiting.
    pub fn set(&self, kernel: &str, copy: Option<Bytes>) {
        self.waiting().newest.insert(kernel.to_owned(), copy);
        self.changed.notify_all();
    }

    /// Waits up to `patience` until all copies are uploaded. Returns whether they are.
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

    /// Waits a while for the next copy and uploads it.
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
            tracing::warn!("can't copy kernel {kernel} to the shared store, will retry: {error}");
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
            // with a timeout, so that the thread ends once the mirror is dropped
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

/// Name of the note with a kernel's copy.
pub fn note(kernel: &str) -> String {
    format!("kernels/{kernel}.json")
}
