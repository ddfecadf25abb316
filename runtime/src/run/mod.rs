//! Runs: pure functions from digests to digests. Run key, cache lookup, execution, record.

mod again;
mod bind;
mod call;
mod code;
mod flight;
mod lineage;
mod log;
mod lookup;
mod record;
pub mod terminal;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::{Digest, RunKey, canonical_json};
use crate::sandbox::{CodeKey, CompileBudget, Engine, Finished, Interrupt, Module, SandboxError, Stream};
use crate::step::{self, Artifact, BaseError, GuestPath, InvalidGuestPath, Limits, MediaType};
use crate::store::{Store, StoreError};

use call::{Called, Steps};

pub use bind::{BindError, Names, bind, choose, parse_parameters};
pub use lineage::{Direction, Lineage};
use log::Log;
pub use log::{LogChunk, chunks};
pub use record::{Observed, Record, RecordError};

/// The version of the guest's environment: epoch and pace of the clocks, random generator, limits of the file system. Part of every
/// run key. Any change that a guest can observe must increment it.
const WORLD: u32 = 1;

/// Everything that a run depends on, and nothing else.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The module.
    pub module: Digest,
    /// The entry of the module.
    pub entry: Entry,
    /// Its inputs, by name.
    pub inputs: BTreeMap<String, Input>,
    /// The outputs that it must write, by name.
    pub outputs: BTreeMap<String, MediaType>,
    /// The modules whose steps it may call, by the names that it uses for them. Each call is a separate run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Digest>,
    /// The seed of its random numbers.
    pub seed: u64,
}

/// The entry of a module that is run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Entry {
    /// A step with a declared interface.
    Step {
        /// the step
        name: String,
        /// all parameters of the step
        parameters: BTreeMap<String, Value>,
    },
    /// A plain program.
    Program {
        /// its arguments, without the program's name
        args: Vec<String>,
        /// its environment
        env: BTreeMap<String, String>,
        /// the input that is its stdin
        stdin: Option<String>,
        /// the output that its stdout is stored as
        stdout: Option<String>,
    },
}

/// An input of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A file or a directory.
    pub artifact: Artifact,
    /// The guest's path, if it is not `/in/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<GuestPath>,
}

impl From<Artifact> for Input {
    fn from(artifact: Artifact) -> Self {
        Self { artifact, at: None }
    }
}

impl Entry {
    /// Returns the step's name, or the program's arguments, for display.
    pub fn title(&self) -> String {
        match self {
            Self::Step { name, .. } => name.clone(),
            Self::Program { args, .. } => args.join(" "),
        }
    }
}

impl Run {
    /// Returns the digest of everything that this run may depend on. Media types of inputs are excluded, as a guest can't see them,
    /// except for whether an input is a directory.
    pub fn key(&self) -> Result<RunKey, RunError> {
        #[derive(Serialize)]
        struct Keyed<'a> {
            lockstep: &'static str,
            world: u32,
            module: &'a Digest,
            entry: &'a Entry,
            inputs: BTreeMap<&'a str, KeyedInput<'a>>,
            outputs: &'a BTreeMap<String, MediaType>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            modules: &'a BTreeMap<String, Digest>,
            seed: u64,
        }
        #[derive(Serialize)]
        struct KeyedInput<'a> {
            digest: &'a Digest,
            directory: bool,
            at: &'a Option<GuestPath>,
        }
        let keyed = Keyed {
            lockstep: "run key",
            world: WORLD,
            module: &self.module,
            entry: &self.entry,
            inputs: self
                .inputs
                .iter()
                .map(|(name, Input { artifact, at })| {
                    (
                        name.as_str(),
                        KeyedInput {
                            digest: &artifact.digest,
                            directory: artifact.is_directory(),
                            at,
                        },
                    )
                })
                .collect(),
            outputs: &self.outputs,
            modules: &self.modules,
            seed: self.seed,
        };
        Ok(RunKey(Digest::of(canonical_json(&keyed).map_err(RunError::Encode)?)))
    }
}

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

/// A run that was executed, or found in the cache.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its record.
    pub record: Record,
    /// The record's digest.
    pub digest: Digest,
    /// Observations of the execution.
    pub observed: Observed,
    /// Whether it was found in the cache and not executed.
    pub cached: bool,
}

impl Ran {
    /// The media type of [`to_json`](Self::to_json), as in the outputs of a notebook.
    pub const MEDIA_TYPE: &'static str = "application/vnd.lockstep.run+json";

    /// Returns the run as JSON: `record` (its digest), `cached`, and the keys of [`Record::to_json`].
    pub fn to_json(&self) -> Value {
        let mut object = self.record.to_json(&self.observed);
        object["record"] = json!(self.digest);
        object["cached"] = json!(self.cached);
        object
    }

    /// Parses the result of [`to_json`](Self::to_json). Fails if the record does not match its digest.
    pub fn from_json(told: Value) -> Result<Self, RecordError> {
        RunJson::read(told)?.check()
    }
}

/// The JSON of a run.
#[derive(Deserialize)]
struct RunJson {
    record: Digest,
    cached: bool,
    key: RunKey,
    run: Run,
    outcome: step::Outcome,
    outputs: BTreeMap<String, Artifact>,
    #[serde(default)]
    called: Vec<Digest>,
    log: Option<Artifact>,
    usage: Option<step::Usage>,
    observed: Observed,
}

impl RunJson {
    fn read(told: Value) -> Result<Self, RecordError> {
        let digest = told["record"].as_str().and_then(|text| text.parse().ok());
        serde_json::from_value(told).map_err(|source| RecordError::Malformed {
            digest: digest.unwrap_or_else(|| Digest::of([])),
            source,
        })
    }

    fn check(self) -> Result<Ran, RecordError> {
        let record = Record {
            version: record::VERSION,
            key: self.key,
            run: self.run,
            outcome: self.outcome,
            outputs: self.outputs,
            called: self.called,
            log: self.log,
            usage: self.usage,
        };
        let found = record.digest()?;
        match found == self.record {
            true => Ok(Ran {
                record,
                digest: found,
                observed: self.observed,
                cached: self.cached,
            }),
            false => Err(RecordError::Corrupt {
                expected: self.record,
                found,
            }),
        }
    }
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
        let key = run.key()?;
        if reuse != Reuse::Records {
            return self.execute(key, run, reuse, limits, interrupt, log);
        }
        let _flight = self.flights.board(key.0, interrupt);
        match self.find(key, limits)? {
            Some(ran) => {
                self.replay_log(&ran.record, log)?;
                Ok(ran)
            }
            None => self.execute(key, run, reuse, limits, interrupt, log),
        }
    }

    /// Loads the base of other modules. It may be large, so the caller must trust it not to exhaust the compiler.
    pub fn load_base(&self, digest: &Digest) -> Result<Module, RunError> {
        self.load_once(digest, |wasm| self.load_alone(&wasm, digest, Some(&CompileBudget::large())))
    }

    /// Loads the module `digest`: compiles it if necessary, and links it to its base if it has one.
    pub fn load(&self, digest: &Digest) -> Result<Module, RunError> {
        self.load_once(digest, |wasm| {
            let based = |source| RunError::Base { module: *digest, source };
            let Some(base) = step::base(&wasm).map_err(based)? else {
                return self.load_alone(&wasm, digest, None);
            };
            let base = self.load_once(&base, |wasm| self.load_alone(&wasm, &base, None))?;
            Ok(self.engine.load_based(&wasm, digest, &base)?)
        })
    }

    /// Returns the loaded module `digest`. Concurrent requests call `load` once.
    fn load_once(&self, digest: &Digest, load: impl FnOnce(Bytes) -> Result<Module, RunError>) -> Result<Module, RunError> {
        if let Some(module) = self.engine.loaded(digest) {
            return Ok(module);
        }
        let _flight = self.loading.board(*digest, &Interrupt::default());
        match self.engine.loaded(digest) {
            Some(module) => Ok(module),
            None => load(self.store.get(digest)?),
        }
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

    fn execute(
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
        let module = self.load(&run.module)?;
        let mut kept = Log::new(&self.store);
        let mut write = |stream: Stream, bytes: &[u8]| {
            kept.push(stream, bytes);
            log(stream, bytes);
        };
        let called = Called::default();
        let mut world = self.world(run, &mut write)?;
        if !run.modules.is_empty() {
            world.caller = Some(Box::new(Steps {
                runtime: self.clone(),
                modules: run.modules.clone(),
                seed: run.seed,
                reuse,
                limits: limits.clone(),
                interrupt: interrupt.not_asking(),
                until: limits.time.and_then(|time| start.checked_add(time)),
                called: called.clone(),
            }));
        }
        let finished = module.run(world, limits, interrupt)?;
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

#[cfg(test)]
mod tests;
