//! Limits on running and queued work.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_runtime::sandbox::Interrupt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;

/// Limits the number of concurrent runs, and of queued ones.
#[derive(Debug)]
pub struct Gate {
    jobs: NonZeroUsize,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    most: usize,
    closing: AtomicBool,
    /// Interrupts of the runs in progress.
    interrupts: Arc<Mutex<BTreeMap<u64, Interrupt>>>,
    next: AtomicU64,
}

/// Permission to run; released on drop.
#[derive(Debug)]
pub struct Turn {
    jobs: NonZeroUsize,
    /// Interrupts the runs of this turn.
    pub interrupt: Interrupt,
    number: u64,
    interrupts: Arc<Mutex<BTreeMap<u64, Interrupt>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.interrupts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}

impl Turn {
    /// Returns the maximum number of concurrent runs.
    pub fn jobs(&self) -> NonZeroUsize {
        self.jobs
    }
}

/// Counts a queued run until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub fn new(jobs: usize, most: usize) -> Self {
        Self {
            jobs: NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN),
            running: Arc::new(Semaphore::new(jobs.max(1))),
            waiting: AtomicUsize::new(0),
            most,
            closing: AtomicBool::new(false),
            interrupts: Arc::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Waits for a turn, for a run whose client waits. Fails if the queue is full or the host shuts down.
    pub async fn turn(&self) -> Result<Turn, Refusal> {
        self.check()?;
        self.enter(Interrupt::default()).await.ok_or_else(ending)
    }

    /// Fails if the queue is full or the host shuts down.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.is_closing() {
            return Err(ending());
        }
        match self.waiting.load(Ordering::Relaxed) >= self.most && self.running.available_permits() == 0 {
            true => Err(Refusal::busy(format_args!(
                "the queue is full: {} runs are waiting",
                self.most
            ))),
            false => Ok(()),
        }
    }

    /// Waits for a turn, for accepted work. `None` if the work is cancelled or the host shuts down.
    pub async fn turn_unless(&self, cancelled: impl Future<Output = ()>, interrupt: Interrupt) -> Option<Turn> {
        tokio::select! {
            turn = self.enter(interrupt) => turn,
            () = cancelled => None,
        }
    }

    async fn enter(&self, interrupt: Interrupt) -> Option<Turn> {
        let permit = match self.running.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&self.waiting);
                self.running.clone().acquire_owned().await.ok()?
            }
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.interrupts().insert(number, interrupt.clone());
        Some(Turn {
            jobs: self.jobs,
            interrupt,
            number,
            interrupts: self.interrupts.clone(),
            _permit: permit,
        })
    }

    /// Returns the numbers of running and of queued runs.
    pub fn counts(&self) -> (usize, usize) {
        let running = self.jobs.get().saturating_sub(self.running.available_permits());
        (running, self.waiting.load(Ordering::Relaxed))
    }

    /// Stops handing out turns.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.running.close();
    }

    /// Interrupts all runs in progress.
    pub fn interrupt(&self) {
        self.interrupts().values().for_each(Interrupt::trigger);
    }

    fn interrupts(&self) -> MutexGuard<'_, BTreeMap<u64, Interrupt>> {
        self.interrupts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

fn ending() -> Refusal {
    Refusal::busy("the host is shutting down")
}
