use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::EngineWeak;

use super::vfs::Stop;
use crate::step::Interruption;

/// Interrupts runs, from any thread. Stays triggered.
#[derive(Clone, Default, Debug)]
pub struct Interrupt {
    shared: Arc<Shared>,
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

#[derive(Default)]
struct Shared {
    triggered: AtomicBool,
    runs: Mutex<Vec<(usize, EngineWeak)>>,
    next: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "triggered: {:?}", self.triggered)
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
        self.shared.triggered.store(true, Ordering::SeqCst);
        let runs = self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, engine) in &*runs {
            if let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
            }
        }
    }

    /// Returns whether it was triggered.
    pub fn is_triggered(&self) -> bool {
        self.shared.triggered.load(Ordering::SeqCst)
    }

    /// Makes [`trigger`](Self::trigger) wake the guests of this engine, until the returned value is dropped.
    fn watch(&self, engine: &wasmtime::Engine) -> Watch {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut runs = self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.push((id, engine.weak()));
        Watch(id, self.clone())
    }
}

struct Watch(usize, Interrupt);

impl Drop for Watch {
    fn drop(&mut self) {
        let mut runs = self.1.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(id, _)| *id != self.0);
    }
}

/// Ends one run when its [`Interrupt`] is triggered or its time limit is reached.
pub(super) struct Deadline {
    interrupt: Interrupt,
    time_is_up: AtomicBool,
    engine: wasmtime::Engine,
    _watch: Watch,
}

impl Deadline {
    pub(super) fn new(interrupt: &Interrupt, engine: &wasmtime::Engine) -> Self {
        Self {
            interrupt: interrupt.clone(),
            time_is_up: AtomicBool::new(false),
            engine: engine.clone(),
            _watch: interrupt.watch(engine),
        }
    }

    /// Ends the run because of its time limit.
    pub(super) fn expire(&self) {
        self.time_is_up.store(true, Ordering::SeqCst);
        self.engine.increment_epoch();
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
