//! Named tasks in a file, resolved once to a plan, and run in order of dependency on all cores.
//!
//! ```yaml
//! name: wine
//! parameters: { depths: [4, 6] }
//! tasks:
//!   clean: { step: steps.wasm#clean, inputs: { raw: data/wine.csv } }
//!   train: { for_each: { depth: "{{ depths }}" }, step: steps.wasm#train, inputs: { rows: clean.rows }, parameters: { depth: "{{ depth }}" } }
//!   vote:  { step: steps.wasm#vote, inputs: { models: train.model, rows: clean.rows } }
//!   count: { program: wc.wasm, args: [-l], stdin: rows, stdout: lines, inputs: { rows: clean.rows }, outputs: { lines: text/plain } }
//! ```
//!
//! An input is an output of another task (`clean.rows`), a digest (`sha256:...`), a file or directory relative to the
//! pipeline's file, an input that the pipeline declares, or the part that a `for_each` goes over.
//!
//! - [`Pipeline::read`] and [`Pipeline::resolve`] make a [`Plan`], which says all that will be run.
//! - [`explain`] says of each task of a plan whether it is known, and if not, why.
//! - [`execute`] carries a plan out. A [`Schedule`] says what can be run; it has no threads, so that others can drive it too.

mod admission;
mod difference;
mod error;
mod execute;
mod explain;
mod file;
mod made;
mod needs;
mod parts;
mod plan;
mod progress;
mod resolve;
mod schedule;
mod when;

pub use admission::Admission;
pub use difference::Difference;
pub use error::{PipelineError, Place};
pub use execute::{Carrier, Done, End, Event, Executed, Execution, Skipped, TaskError, execute, execute_by};
pub use explain::{Explained, Fate, Miss, explain};
pub use file::Pipeline;
pub use needs::ExpectedMemory;
pub use parts::{PartsError, numbered};
pub use plan::{ForEach, Plan, PlanError, Source, Task, TaskOutput, Wire};
pub use resolve::{BuildCrate, Given, Role, Use};
pub use schedule::{Change, Ending, Misuse, Moved, Schedule, State};
pub use when::{Comparison, Operand, When, WhenError};

#[cfg(test)]
mod tests;
