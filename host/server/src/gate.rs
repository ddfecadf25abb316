//! Limits on running and queued work: jobs, and the cells of kernels in this process.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::{Limits, OwnLimits};
use lockstep_view::quantity;
use tokio::sync::Notify;

use super::answer::Refusal;
use super::fair::{Fair, Owner, Share};
use super::quotas::{Quota, Quotas};

/// Limits what runs and what waits: the number of jobs and cells, and the memory of their guests. Users take turns.
#[derive(Debug)]
pub struct Gate {
    jobs: NonZeroUsize,
    turns: Fair,
    memory: Fair,
    waiting: Arc<Mutex<Waiting>>,
    /// Maximum number of waiting jobs.
    most: usize,
    /// The limits of runs that set none. No run has more time.
    limits: Limits,
    quotas: RwLock<Quotas>,
    closing: AtomicBool,
    /// What ends the jobs in progress.
    stops: Arc<Mutex<BTreeMap<u64, Arc<Stop>>>>,
    next: AtomicU64,
}

#[derive(Default, Debug)]
struct Waiting {
    all: usize,
    by_owner: BTreeMap<Owner, usize>,
}

/// Ends a job: its guests, and its waiting.
#[derive(Default, Debug)]
pub struct Stop {
    pub interrupt: Interrupt,
    waiting: Notify,
}

impl Stop {
    pub fn trigger(&self) {
        self.interrupt.trigger();
        self.waiting.notify_waiters();
    }

    /// Waits until it is triggered.
    pub async fn triggered(&self) {
        let mut told = std::pin::pin!(self.waiting.notified());
        // from here on, no notification is missed
        told.as_mut().enable();
        if !self.interrupt.is_triggered() {
            told.await;
        }
    }
}

/// A job's place among those that wait; given back on drop.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Mutex<Waiting>>,
    owner: Owner,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        waiting.all -= 1;
        if let Some(own) = waiting.by_owner.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                waiting.by_owner.remove(&self.owner);
            }
        }
    }
}

/// Permission to run; given back on drop.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    stops: Arc<Mutex<BTreeMap<u64, Arc<Stop>>>>,
    _share: Share,
}

/// Permission to run a cell, with its memory; given back on drop.
#[derive(Debug)]
pub struct CellTurn {
    _turn: Share,
    _memory: Share,
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.stops).remove(&self.number);
    }
}

impl Gate {
    /// Creates a gate for `jobs` concurrent jobs and `most` waiting ones, whose guests have `memory` bytes together.
    pub fn new(jobs: usize, most: usize, memory: u64, limits: Limits, quotas: Quotas) -> Self {
        let jobs = NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN);
        Self {
            jobs,
            turns: Fair::new(jobs.get() as u64),
            memory: Fair::new(memory),
            waiting: Arc::default(),
            most,
            limits,
            quotas: RwLock::new(quotas),
            closing: AtomicBool::new(false),
            stops: Arc::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Returns the maximum number of concurrent jobs, and of concurrent tasks of a plan.
    pub fn jobs(&self) -> NonZeroUsize {
        self.jobs
    }

    /// Returns the quota of a user.
    pub fn quota(&self, owner: &Owner) -> Quota {
        self.quotas.read().unwrap_or_else(PoisonError::into_inner).of(owner)
    }

    /// Replaces the quotas of all users. What runs or waits already stays.
    pub fn set_quotas(&self, quotas: Quotas) {
        *self.quotas.write().unwrap_or_else(PoisonError::into_inner) = quotas;
    }

    /// Returns the limits of a run of `owner` with these own limits. Without one of its own, a run gets no more memory than its user may have.
    pub fn limits(&self, owner: &Owner, own: &OwnLimits) -> Limits {
        let mut limits = self.limits.clone();
        limits.memory = limits.memory.min(self.quota(owner).memory());
        self.within(own.or(&limits))
    }

    /// Returns the limits with no more time than the host allows.
    pub fn within(&self, mut limits: Limits) -> Limits {
        let most = self.limits.time;
        limits.time = limits.time.map_or(most, |own| Some(most.map_or(own, |most| own.min(most))));
        limits
    }

    /// Takes a place in the queue. Fails if the queue is full, if the user's quota is reached or if the host shuts down.
    pub fn place(&self, owner: &Owner) -> Result<Place, Refusal> {
        if self.is_closing() {
            return Err(ending());
        }
        let mut waiting = locked(&self.waiting);
        let free = self.jobs.get().saturating_sub(self.turns.used() as usize);
        if waiting.all >= self.most.saturating_add(free) {
            return Err(Refusal::busy(format_args!(
                "the queue is full: {} runs are waiting",
                self.most
            )));
        }
        let own = waiting.by_owner.get(owner).copied().unwrap_or(0);
        let quota = self.quota(owner);
        // as for the host, what can start at once does not count
        let running = self.turns.used_by(owner) as usize;
        let free = free.min(quota.running().saturating_sub(running));
        if own >= quota.queued().saturating_add(free) {
            return Err(Refusal::quota(
                "queued",
                format_args!("{} of your jobs are waiting", quota.queued()),
            ));
        }
        Ok(self.enter(&mut waiting, owner))
    }

    /// Takes a place for work that was accepted before.
    pub fn place_again(&self, owner: &Owner) -> Place {
        self.enter(&mut locked(&self.waiting), owner)
    }

    fn enter(&self, waiting: &mut Waiting, owner: &Owner) -> Place {
        waiting.all += 1;
        *waiting.by_owner.entry(owner.clone()).or_default() += 1;
        Place {
            waiting: self.waiting.clone(),
            owner: owner.clone(),
        }
    }

    /// Waits for a turn. `None` if the work is stopped or the host shuts down.
    pub async fn turn(&self, place: Place, stop: &Arc<Stop>) -> Option<Turn> {
        let running = self.quota(&place.owner).running() as u64;
        let share = tokio::select! {
            biased;
            () = stop.triggered() => None,
            share = self.turns.take(&place.owner, 1, running) => share,
        }?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.stops).insert(number, stop.clone());
        Some(Turn {
            number,
            stops: self.stops.clone(),
            _share: share,
        })
    }

    /// Waits until a cell may run with `bytes` of memory. `None` if the host shuts down. A cell has no place in the queue, as a kernel runs one at
    /// a time, and it is not among what [`Self::interrupt`] ends: the next host runs it again.
    pub async fn cell(&self, owner: &Owner, bytes: u64) -> Option<CellTurn> {
        let turn = self.turns.take(owner, 1, self.quota(owner).running() as u64).await?;
        let memory = self.memory.take(owner, bytes, self.quota(owner).memory()).await?;
        Some(CellTurn {
            _turn: turn,
            _memory: memory,
        })
    }

    /// Waits until the guest of a run may have `bytes` of memory. `None` if the work is stopped, so that the run ends at once.
    pub async fn memory(&self, owner: &Owner, bytes: u64, stop: &Stop) -> Option<Share> {
        tokio::select! {
            biased;
            () = stop.triggered() => None,
            share = self.memory.take(owner, bytes, self.quota(owner).memory()) => share,
        }
    }

    /// Returns the number of running jobs and cells, and that of waiting jobs.
    pub fn counts(&self) -> (usize, usize) {
        (self.turns.used() as usize, locked(&self.waiting).all)
    }

    /// Waits until no job and no cell is running.
    pub async fn idle(&self) {
        while self.turns.used() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until no job is running.
    pub async fn jobs_ended(&self) {
        while !locked(&self.stops).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a job would wait.
    pub fn is_full(&self) -> bool {
        self.turns.used() >= self.jobs.get() as u64
    }

    /// Returns the memory in bytes that running guests may use.
    pub fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    /// Stops handing out turns.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.turns.close();
    }

    /// Interrupts all jobs in progress.
    pub fn interrupt(&self) {
        let stops: Vec<Arc<Stop>> = locked(&self.stops).values().cloned().collect();
        stops.iter().for_each(|stop| stop.trigger());
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Fails if the run or plan asks for more memory than its user may have.
    pub fn check_memory(&self, owner: &Owner, own: &OwnLimits) -> Result<(), Refusal> {
        let most = self.quota(owner).memory();
        match own.memory {
            Some(asked) if asked > most => Err(Refusal::quota(
                "memory",
                format_args!(
                    "a run with a memory limit of {} exceeds your {}",
                    quantity::bytes(asked),
                    quantity::bytes(most)
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refusal while the host shuts down.
pub fn ending() -> Refusal {
    Refusal::busy("the host is shutting down")
}
