//! Runs: pure functions from digests to digests.
//!
//! The stages of a run, each in a module of its name:
//!
//! 1. `bind`: names and values that a user supplied become a [`Run`]
//! 2. `built_in`: the built-in modules that a run may call are added
//! 3. `key`: a run's key is the digest of everything that it depends on
//! 4. `lookup`: finds the record of an earlier run with this key; changes nothing
//! 5. `execute`: executes the run. `load` compiles the module, `world` provides files and arguments, `call` executes the steps that the
//!    guest calls, `log` stores stdout and stderr
//! 6. `record`: the result, and observations beside it
//! 7. `publish`: stores the record, and copies it to the shared store
//! 8. `lineage`: which runs an artifact comes from

mod bind;
mod built_in;
mod call;
mod execute;
mod flight;
mod key;
mod lineage;
mod load;
mod log;
mod lookup;
mod publish;
mod ran;
mod record;
pub mod terminal;
mod world;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::Digest;
use crate::sandbox::{CodeKey, Engine, Interrupt, SandboxError, Stream};
use crate::step::{BaseError, GuestPath, InterfaceError, InvalidGuestPath, Limits};
use crate::store::{Store, StoreError};

pub use bind::{BindError, Names, bind, choose, parse_parameters};
pub use built_in::{UnknownBuiltIn, built_in};
pub use key::{Entry, Input, Run};
pub use lineage::{Direction, Lineage};
pub use log::{LogChunk, chunks};
pub use ran::Ran;
pub use record::{Observed, Record, RecordError};

/// The error of a run that could not be executed. A guest's failure is not an error: it is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A store error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An error of the module or the engine.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The name of an input is not a valid path.
    #[error(transparent)]
    Path(#[from] InvalidGuestPath),
    /// The paths of two inputs overlap.
    #[error("input paths overlap at {0}: bind each input to a path of its own")]
    Overlap(GuestPath),
    /// The run lacks the input that a program reads as stdin.
    #[error("stdin names input `{0}`, which was not supplied")]
    Stdin(String),
    /// The module's base can't be determined.
    #[error("can't run module {module}: {source}")]
    Base {
        /// the module
        module: Digest,
        /// the cause
        source: BaseError,
    },
    /// The names of the built-in modules that a module calls can't be read.
    #[error("can't run module {module}: {source}")]
    Calls {
        /// the module
        module: Digest,
        /// the cause
        source: InterfaceError,
    },
    /// A module calls an unknown built-in module.
    #[error("module {module} {source}")]
    UnknownBuiltIn {
        /// the module
        module: Digest,
        /// the cause
        source: UnknownBuiltIn,
    },
    /// A built-in module is damaged.
    #[error("the built-in module `{name}` can't be read: {source}; install lockstep again")]
    BuiltIn {
        /// the module
        name: &'static str,
        /// the cause
        source: io::Error,
    },
    /// JSON serialization failed.
    #[error("can't write the run as JSON: {0}")]
    Encode(serde_json::Error),
    /// A record in the store can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Executes runs, with an engine, a store and the caller's description of the machine.
#[derive(Clone)]
pub struct Runtime {
    /// Compiles and runs modules.
    pub engine: Engine,
    /// Stores modules, inputs, outputs and records.
    pub store: Store,
    machine: Arc<Machine>,
    code_key: Option<CodeKey>,
    flights: Arc<flight::Flights>,
    loading: Arc<flight::Flights>,
}

/// A description of the machine, for the observations beside records. Not hashed.
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The version of Lockstep.
    pub version: String,
    /// Returns the current time.
    pub clock: fn() -> SystemTime,
}

/// The use of cached results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Use a record of the same run.
    Records,
    /// Ignore cached results.
    Nothing,
    /// Ignore cached results, and write no record.
    Unrecorded,
}

impl Runtime {
    /// Creates a runtime with `engine` and `store`.
    pub fn new(engine: Engine, store: Store, machine: Machine) -> Self {
        Self {
            engine,
            store,
            machine: Arc::new(machine),
            code_key: None,
            flights: Arc::default(),
            loading: Arc::default(),
        }
    }

    /// Returns the same runtime for a piece of work: see [`Store::leased`].
    pub fn leased(&self) -> Self {
        Self {
            store: self.store.leased(),
            ..self.clone()
        }
    }

    /// Executes `run`, or finds it in the cache and replays its log. Concurrent requests for the same run execute it once.
    ///
    /// Calls `log` with the guest's stdout and stderr as they are written.
    pub fn run(
        &self,
        run: &Run,
        reuse: Reuse,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, RunError> {
        let run = &self.equip(run.clone())?;
        let key = run.key()?;
        if reuse != Reuse::Records {
            return self.execute(key, run, reuse, limits, interrupt, log);
        }
        let _flight = self.flights.board(key.0, interrupt);
        match self.recall(key, limits)? {
            Some(ran) => {
                self.replay_log(&ran.record, log)?;
                Ok(ran)
            }
            None => self.execute(key, run, reuse, limits, interrupt, log),
        }
    }

    /// Executes the run of `record` again, without the cache and under limits that don't change the result. Writes no record;
    /// [`keep`](Self::keep) does that if the result differs.
    pub fn again(&self, record: &Record, interrupt: &Interrupt) -> Result<Ran, RunError> {
        self.run(&record.run, Reuse::Unrecorded, &record.limits(), interrupt, &mut |_, _| ())
    }

    /// Calls `log` with the log of a record.
    pub fn replay_log(&self, record: &Record, log: &mut dyn FnMut(Stream, &[u8])) -> Result<(), RunError> {
        if let Some(artifact) = &record.log {
            let bytes = self.store.get(&artifact.digest)?;
            for chunk in log::chunks(&bytes) {
                log(chunk.stream, chunk.bytes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
