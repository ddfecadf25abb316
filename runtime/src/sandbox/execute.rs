use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use wasmtime::{Store, Trap, WasmBacktrace};

use super::clock::Clock;
use super::guest::{FREE_WORK, Guest, Strings};
use super::interrupt::Deadline;
use super::meter::Meter;
use super::random::Random;
use super::vfs::{Found, Setup, Stop, Vfs};
use super::workers::soon;
use super::{
    Finished, Interrupt, Made, Module, SandboxError, Stream, World, backtrace, check_outputs, fiber, huge_pages, says,
};
use crate::step::{Failure, Interruption, Limit, Limits, Outcome, Usage};

/// Maximum number of pending log writes; with more, the guest waits.
const WAITING_WRITES: usize = 64;

/// A message from the guest's thread to the caller's.
enum Event {
    Log(Stream, Box<[u8]>),
    End(Result<Finished, Box<dyn Any + Send>>),
}

impl Module {
    /// Runs the module in `world` until it ends, reaches a limit or is interrupted. A guest stops within milliseconds, unless it is
    /// executing a single `memory.fill` or `memory.copy` instruction.
    pub fn run(&self, world: World<'_>, limits: &Limits, interrupt: &Interrupt) -> Result<Finished, SandboxError> {
        let mut kept = world.outputs;
        kept.extend(world.stdout.clone());
        check_outputs(&kept.iter().map(String::as_str).collect())?;
        let deadline = Arc::new(Deadline::new(interrupt));
        let pause = world.caller.as_ref().map(|caller| caller.pause()).unwrap_or_default();
        let (events, received) = sync_channel(WAITING_WRITES);
        let written = events.clone();
        let vfs = Vfs::new(Setup {
            files: world.files,
            stdin: world.stdin,
            asks: interrupt.asks(),
            stdout: world.stdout.clone(),
            storage: world.storage,
            output_limit: limits.output,
            log_limit: limits.log,
            // sending fails only if the caller is gone, which ends the run
            log: Box::new(move |stream, bytes| drop(written.send(Event::Log(stream, bytes.into())))),
        })?;
        let guest = Guest {
            vfs,
            args: Strings::new(world.args),
            env: Strings::new(world.env.into_iter().map(|(name, value)| format!("{name}={value}"))),
            clock: Clock::default(),
            random: Random::new(world.seed),
            meter: Meter::new(limits.memory),
            deadline: deadline.clone(),
            memory: None,
            caller: world.caller,
            calls: 0,
            free_work: FREE_WORK,
            called: Usage::default(),
            stop: None,
            exit: None,
        };
        let module = self.clone();
        let own_limits = limits.clone();
        let run = move || {
            let end = catch_unwind(AssertUnwindSafe(|| module.execute(guest, &kept, &own_limits)));
            drop(events.send(Event::End(end)));
        };
        self.workers().start(run).map_err(SandboxError::Thread)?;
        let _abandon = Abandon(&deadline);
        let mut extended = Duration::ZERO;
        let mut time_is_up = limits.time.and_then(|time| Instant::now().checked_add(time));
        loop {
            match next(&received, time_is_up) {
                Ok(Event::Log(stream, bytes)) => (world.log)(stream, &bytes),
                Ok(Event::End(Ok(finished))) => return Ok(finished),
                Ok(Event::End(Err(panic))) => resume_unwind(panic),
                Err(RecvTimeoutError::Timeout) => {
                    let paused = pause.total();
                    if paused > extended {
                        time_is_up = time_is_up.and_then(|time| time.checked_add(paused - extended));
                        extended = paused;
                    } else {
                        deadline.expire();
                        time_is_up = None;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(SandboxError::Thread(std::io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
    }

    /// Executes the run.
    fn execute(&self, guest: Guest, kept: &BTreeSet<String>, limits: &Limits) -> Finished {
        let on = self.instrumentation();
        let deadline = guest.deadline.clone();
        let mut store = Store::new(self.instance().module().engine(), guest);
        store.limiter(|guest| &mut guest.meter);
        let mut ended = if on.fuel {
            fiber::set_fuel(&mut store, limits.fuel)
        } else {
            Ok(())
        };
        if ended.is_ok() {
            ended = fiber::drive(self.call(&mut store), || deadline.check()).unwrap_or_else(|stop| {
                store.data_mut().stop = Some(stop);
                Err(wasmtime::Error::msg("the run was interrupted"))
            });
        }
        let fuel = if on.fuel {
            limits.fuel - store.get_fuel().unwrap_or(0)
        } else {
            0
        };
        let mut guest = store.into_data();
        let backtrace = backtrace_of(&ended, &guest);
        let (mut outcome, host_error) = judge(ended, &mut guest, limits);
        let mut written = BTreeMap::new();
        if outcome.succeeded() {
            // the record lists the paths
            let (found, path_bytes) = match guest.vfs.outputs(kept) {
                Ok((found, path_bytes)) => (Ok(found), path_bytes),
                Err(name) => (Err(Failure::MissingOutput { name }), 0),
            };
            match (guest.meter.settle(guest.vfs.held() + path_bytes), found) {
                (Err(_), _) => outcome = Outcome::Failed(at_limit(Limit::Memory, limits)),
                (Ok(()), Err(failure)) => outcome = Outcome::Failed(failure),
                (Ok(()), Ok(found)) => written = found,
            }
        }
        let mut finished = Finished {
            usage: usage(&guest, fuel, &outcome, limits),
            outcome,
            outputs: BTreeMap::new(),
            backtrace,
            host_error,
        };
        if finished.outcome.succeeded() {
            match land(guest.vfs, written, &guest.deadline) {
                Ok(outputs) => finished.outputs = outputs,
                Err(Stop::Interrupted(by)) => finished.outcome = Outcome::Interrupted { by },
                Err(Stop::Limit(limit)) => finished.outcome = Outcome::Failed(at_limit(limit, limits)),
                Err(Stop::Host(source)) => (finished.outcome, finished.host_error) = by_host(source),
            }
        }
        finished
    }

    async fn call(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        let instance = self.instance().instantiate_async(&mut *store).await?;
        huge_pages::advise(store, &instance);
        if let Some(based) = self.based() {
            based.put_onto(store, &instance).await?;
        }
        let start = instance.get_module_export(&mut *store, self.start());
        match start.and_then(wasmtime::Extern::into_func) {
            Some(start) => start.typed::<(), ()>(&*store)?.call_async(store, ()).await,
            None => Err(wasmtime::Error::msg("the export `_start` is missing")),
        }
    }
}

/// Ends the run if its caller panics.
struct Abandon<'d>(&'d Deadline);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.expire();
        }
    }
}

fn next(received: &Receiver<Event>, until: Option<Instant>) -> Result<Event, RecvTimeoutError> {
    if let Some(event) = soon(|| received.try_recv().ok()) {
        return Ok(event);
    }
    match until {
        None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(until) => received.recv_timeout(until.saturating_duration_since(Instant::now())),
    }
}

/// Determines the outcome, apart from missing outputs.
fn judge(ended: wasmtime::Result<()>, guest: &mut Guest, limits: &Limits) -> (Outcome, Option<String>) {
    let limit = |limit: Limit| at_limit(limit, limits);
    let failure = match (guest.stop.take(), guest.exit, ended) {
        (Some(Stop::Interrupted(by)), ..) => return (Outcome::Interrupted { by }, None),
        (Some(Stop::Host(source)), ..) => return by_host(source),
        (Some(Stop::Limit(reached)), ..) => limit(reached),
        (None, Some(0), _) | (None, None, Ok(())) => return (Outcome::Succeeded, None),
        (None, Some(code), _) => Failure::Exit {
            code,
            message: says::message(guest.vfs.stderr_tail()),
        },
        // not the whole chain, which contains a backtrace
        (None, None, Err(error)) if guest.meter.host_failed => return by_host(error.root_cause()),
        (None, None, Err(error)) => match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Failure::Stack,
            Some(Trap::OutOfFuel) => limit(Limit::Fuel),
            _ if guest.meter.reached => limit(Limit::Memory),
            Some(Trap::UnreachableCodeReached) => says::panic(guest.vfs.stderr_tail()).unwrap_or_else(|| trap("unreachable")),
            Some(known) => trap(rule(*known)),
            // the instance can't be created although it is within all limits
            None => return by_host(error.root_cause()),
        },
    };
    (Outcome::Failed(failure), None)
}

fn at_limit(limit: Limit, limits: &Limits) -> Failure {
    let value = limit.of(limits);
    Failure::Limit { limit, value }
}

fn trap(rule: &str) -> Failure {
    Failure::Trap { rule: rule.to_owned() }
}

fn by_host(source: impl std::fmt::Display) -> (Outcome, Option<String>) {
    let by = Interruption::Host;
    (Outcome::Interrupted { by }, Some(format!("{source:#}")))
}

/// Returns the name of the violated rule, as in the tests of the WebAssembly specification.
fn rule(trap: Trap) -> &'static str {
    match trap {
        Trap::MemoryOutOfBounds => "out of bounds memory access",
        Trap::TableOutOfBounds => "undefined element",
        Trap::IndirectCallToNull => "uninitialized element",
        Trap::BadSignature => "indirect call type mismatch",
        Trap::IntegerOverflow => "integer overflow",
        Trap::IntegerDivisionByZero => "integer divide by zero",
        Trap::BadConversionToInteger => "invalid conversion to integer",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::NullReference => "null reference",
        _ => "another rule",
    }
}

/// Returns the backtrace of a trap; `None` after an exit or an interruption.
fn backtrace_of(ended: &wasmtime::Result<()>, guest: &Guest) -> Option<String> {
    let error = ended.as_ref().err()?;
    match (&guest.stop, guest.exit, error.downcast_ref::<WasmBacktrace>()) {
        (None, None, Some(backtrace)) => Some(backtrace::describe(backtrace)),
        _ => None,
    }
}

fn usage(guest: &Guest, fuel: u64, outcome: &Outcome, limits: &Limits) -> Usage {
    let mut reached = BTreeSet::new();
    if let Outcome::Failed(Failure::Limit { limit, .. }) = outcome {
        reached.insert(*limit);
    }
    if guest.meter.reached {
        reached.insert(Limit::Memory);
    }
    let mut usage = Usage {
        fuel: if *outcome == Outcome::Failed(Failure::Stack) {
            0
        } else {
            fuel
        },
        memory: guest.meter.peak,
        output: guest.vfs.peak(),
        log: guest.vfs.logged(),
        reached: reached.into_iter().map(|limit| (limit, limit.of(limits))).collect(),
    };
    usage.include(&guest.called);
    usage
}

/// Moves the outputs to the storage.
fn land(vfs: Vfs, written: BTreeMap<String, Found>, deadline: &Deadline) -> Result<BTreeMap<String, Made>, Stop> {
    let made = vfs.finish(written, &mut || deadline.check_io());
    made.map_err(|source| deadline.check().err().unwrap_or(Stop::Host(source)))
}
