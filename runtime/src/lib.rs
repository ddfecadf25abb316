//! The Lockstep runtime: executes runs, and provides everything that a run needs.
//!
//! A *run* is a pure function: the same module, step, parameters, inputs and seed give byte-identical outputs. This crate
//! is independent of Jupyter, HTTP, Kubernetes and terminals. It does not read the environment, the home directory or the wall clock;
//! callers pass them in.
//!
//! Its modules, each of which uses only those above it:
//!
//! - [`digest`]: digests and the canonical encoding that is hashed
//! - [`step`]: interfaces, parameters, artifacts, outcomes, limits
//! - [`sandbox`]: the deterministic environment that a guest runs in; the only module that uses wasmtime
//! - [`store`]: content-addressed artifacts and records
//! - [`run`]: run key, cache lookup, execute, record
//! - [`pipeline`]: named tasks in a file, resolved to a plan, explained and executed on all cores
//! - [`bundle`]: a plan and everything it needs in one file, which can be replayed anywhere

pub mod bundle;
pub mod digest;
pub mod pipeline;
pub mod run;
pub mod sandbox;
pub mod step;
pub mod store;
