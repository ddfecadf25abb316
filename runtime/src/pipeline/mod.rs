//! Pipelines: named tasks in a file, resolved to a plan and executed in dependency order on all cores.
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
//! An input is an output of another task (`clean.rows`), a digest (`sha256:...`), a file or directory relative to the pipeline file, an
//! input of the pipeline, or the current part of a `for_each`.
//!
//! - [`Pipeline::read`] and [`Pipeline::resolve`] create a [`Plan`], which describes everything that will run.
//! - [`explain`] shows for each task of a plan whether it is cached, and if not, why.
//! - [`execute`] executes a plan. A [`Schedule`] tracks which tasks can run. It has no threads, so other executors can use it too.

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
mod reference;
mod resolve;
mod schedule;
mod texts;
mod when;
pub mod yaml;

pub use admission::Admission;
pub use difference::Difference;
pub use error::{PipelineError, Position};
pub use execute::{Carrier, Done, End, Event, Executed, Execution, Skipped, TaskError, execute, execute_by};
pub use explain::{Explained, Fate, Miss, explain};
pub use file::Pipeline;
pub use needs::ExpectedMemory;
pub use parts::{PartsError, numbered};
pub use plan::{ForEach, Plan, PlanError, Source, Task, TaskOutput, Wire};
pub use resolve::{Arguments, BuildCrate, ParameterRole, Use};
pub use schedule::{Change, Ending, Misuse, Moved, Schedule, TaskState};
pub use when::{Comparison, Operand, When, WhenError};

#[cfg(test)]
mod tests;
