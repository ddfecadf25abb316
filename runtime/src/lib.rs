//! The Lockstep runtime: the run, and everything a run needs.
//!
//! A *run* is a pure function: the same module, step, parameters, inputs and seed give byte-identical outputs. This crate
//! knows nothing of Jupyter, HTTP, Kubernetes or terminals; it reads no environment, no home directory and no wall clock
//! (they are passed in).
//!
//! Its rooms, each using only those above it:
//!
//! - [`digest`]: digests and the canonical encoding that is hashed
//! - [`step`]: interfaces, parameters, artifacts, outcomes, limits
//! - [`sandbox`]: the deterministic world that a guest runs in; the only place that names wasmtime
//! - [`store`]: content-addressed artifacts and records
//! - [`run`]: run key, cache lookup, execute, record
//! - [`pipeline`]: named tasks in a file, resolved to a plan, explained and run on all cores
//! - [`bundle`]: a plan with all that it needs, as one file that anyone can carry out again

pub mod bundle;
pub mod digest;
pub mod pipeline;
pub mod run;
pub mod sandbox;
pub mod step;
pub mod store;
