use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::vfs::Stop;
use crate::step::Interruption;

/// Interrupts runs, from any thread. Stays triggered.
#[derive(Clone, Default, Debug)]
pub struct Interrupt {
    triggered: Arc<AtomicBool>,
    asks: bool,
    /// Of the runs that wait for this one.
    pauses: Vec<Pause>,
}

/// Time that does not count against the time limit of a run, because the run waits for the compiler.
#[derive(Clone, Default, Debug)]
pub struct Pause(Arc<Mutex<Paused>>);

#[derive(Default, Debug)]
struct Paused {
    since: Option<Instant>,
    before: Duration,
}

impl Pause {
    /// Returns the length of all pauses so far.
    pub fn total(&self) -> Duration {
        let paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paused.before + paused.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn set(&self, is_paused: bool) {
        let before = self.total();
        let since = is_paused.then(Instant::now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Paused { since, before };
    }
}

impl Interrupt {
    /// Returns the same interrupt, which also ends a run that reads past the end of its stdin. The caller can then run it again with
    /// more input.
    pub fn asking(&self) -> Self {
        Self {
            asks: true,
            ..self.clone()
        }
    }

    /// Returns the same interrupt for a run whose stdin is complete.
    pub fn not_asking(&self) -> Self {
        Self {
            asks: false,
            ..self.clone()
        }
    }

    /// Returns the same interrupt for a run that another run waits for.
    pub fn pausing(mut self, waiting: Pause) -> Self {
        self.pauses.push(waiting);
        self
    }

    /// Calls `act` while the runs that wait are paused.
    pub fn paused<T>(&self, act: impl FnOnce() -> T) -> T {
        self.pauses.iter().for_each(|pause| pause.set(true));
        let result = act();
        self.pauses.iter().for_each(|pause| pause.set(false));
        result
    }

    /// Returns whether reading past the end of stdin ends a run.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// Ends all current and future runs with a clone of this interrupt.
    pub fn trigger(&self) {
        self.triggered.store(true, Ordering::SeqCst);
    }

    /// Returns whether it was triggered.
    pub fn is_triggered(&self) -> bool {
        self.triggered.load(Ordering::SeqCst)
    }
}

/// Ends one run when its [`Interrupt`] is triggered or its time limit is reached.
pub(super) struct Deadline {
    interrupt: Interrupt,
    time_is_up: AtomicBool,
}

impl Deadline {
    pub(super) fn new(interrupt: &Interrupt) -> Self {
        Self {
            interrupt: interrupt.clone(),
            time_is_up: AtomicBool::new(false),
        }
    }

    /// Ends the run because of its time limit.
    pub(super) fn expire(&self) {
        self.time_is_up.store(true, Ordering::SeqCst);
    }

    /// Returns an error if the run must end. Long host functions call it regularly.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.interrupt.is_triggered() {
            Err(Stop::Interrupted(Interruption::Caller))
        } else if self.time_is_up.load(Ordering::SeqCst) {
            Err(Stop::Interrupted(Interruption::Time))
        } else {
            Ok(())
        }
    }

    /// Like [`check`](Self::check), for loops over a storage.
    pub(super) fn check_io(&self) -> std::io::Result<()> {
        self.check().map_err(|_| std::io::Error::other("the run was interrupted"))
    }
}
