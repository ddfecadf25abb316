//! Executes a run in a sandbox, and makes its record.

use std::collections::BTreeMap;
use std::time::{Instant, UNIX_EPOCH};

use super::call::{Called, Steps};
use super::log::Log;
use super::{Observed, Ran, Record, Reuse, Run, RunError, Runtime, record};
use crate::digest::{Digest, RunKey};
use crate::sandbox::{Finished, Interrupt, Pause, SandboxError, Stream};
use crate::step::{Artifact, Interruption, Limits, Outcome, Usage};

impl Runtime {
    pub(super) fn execute(
        &self,
        key: RunKey,
        run: &Run,
        reuse: Reuse,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, RunError> {
        let started_ms = (self.machine.clock)()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_millis() as u64);
        let start = Instant::now();
        let module = match interrupt.paused(|| self.load_unless(&run.module, interrupt)) {
            Ok(module) => Some(module),
            Err(RunError::Sandbox(SandboxError::CompileInterrupted { .. })) => None,
            Err(error) => return Err(error),
        };
        // compiling is no part of the run
        let until = limits.time.and_then(|time| Instant::now().checked_add(time));
        let mut kept = Log::new(&self.store);
        let mut write = |stream: Stream, bytes: &[u8]| {
            kept.push(stream, bytes);
            log(stream, bytes);
        };
        let called = Called::default();
        let mut world = self.world(run, &mut write)?;
        if !run.modules.is_empty() {
            let pause = Pause::default();
            world.caller = Some(Box::new(Steps {
                runtime: self.clone(),
                modules: run.modules.clone(),
                seed: run.seed,
                reuse,
                limits: limits.clone(),
                interrupt: interrupt.not_asking().pausing(pause.clone()),
                until,
                pause,
                called: called.clone(),
            }));
        }
        let finished = match module {
            Some(module) => module.run(world, limits, interrupt)?,
            None => interrupted(),
        };
        let log = kept.finish()?;
        let observed = Observed {
            started_ms,
            wall_us: start.elapsed().as_micros() as u64,
            host: self.machine.name.clone(),
            version: self.machine.version.clone(),
            backtrace: finished.backtrace.clone(),
            host_error: finished.host_error.clone(),
            log: None,
        };
        let ran = self.ran(key, run, finished, called.take(), log, observed)?;
        if reuse != Reuse::Unrecorded {
            self.keep(&ran)?;
        }
        Ok(ran)
    }

    /// Creates the record of a finished run, without storing it.
    fn ran(
        &self,
        key: RunKey,
        run: &Run,
        finished: Finished,
        called: Vec<Digest>,
        log: Artifact,
        mut observed: Observed,
    ) -> Result<Ran, RunError> {
        let mut outputs = BTreeMap::new();
        for (name, made) in &finished.outputs {
            let media_type = run.outputs.get(name).cloned().unwrap_or_default();
            outputs.insert(name.clone(), self.artifact(made, media_type)?);
        }
        let deterministic = finished.outcome.is_deterministic();
        if !deterministic {
            observed.log = Some(log.clone());
        }
        let record = Record {
            version: record::VERSION,
            key,
            run: run.clone(),
            outcome: finished.outcome,
            outputs,
            called,
            log: deterministic.then_some(log),
            usage: deterministic.then_some(finished.usage),
        };
        Ok(Ran {
            digest: record.digest()?,
            record,
            observed,
            cached: false,
        })
    }
}

/// Returns the result of a run that was interrupted before it began.
fn interrupted() -> Finished {
    Finished {
        outcome: Outcome::Interrupted {
            by: Interruption::Caller,
        },
        usage: Usage::default(),
        outputs: BTreeMap::new(),
        backtrace: None,
        host_error: None,
    }
}
