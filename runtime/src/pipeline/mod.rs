//! Named tasks in a file, resolved once and run in order of dependency.
//!
//! ```yaml
//! name: wine
//! parameters: { depth: 6 }
//! tasks:
//!   clean: { step: steps.wasm#clean, inputs: { raw: data/wine.csv } }
//!   train: { step: steps.wasm#train, inputs: { rows: clean.rows }, parameters: { depth: "{{ depth }}" } }
//!   count: { program: wc.wasm, args: [-l], stdin: rows, stdout: lines, inputs: { rows: clean.rows }, outputs: { lines: text/plain } }
//! ```
//!
//! An input is an output of another task (`clean.rows`), a digest (`sha256:...`), or a file or directory, relative to the
//! pipeline's file.

mod error;
mod file;
mod resolve;

use std::collections::BTreeMap;

use crate::run::{Ran, Reuse, Run, RunError, Runtime};
use crate::sandbox::{Interrupt, Stream};
use crate::step::{Artifact, Limits};

pub use error::{PipelineError, Place};
pub use file::Pipeline;

/// A pipeline whose modules, parameters and outside inputs are pinned to digests. The digests of what tasks make for one
/// another are known when they have been made.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// Its tasks; each comes after those whose outputs it reads.
    pub tasks: Vec<Task>,
}

/// A step's place in a plan.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The run, but for the inputs that other tasks make.
    run: Run,
    /// Those inputs, and where they come from.
    wires: BTreeMap<String, Wire>,
}

/// An output of a task, as an input of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wire {
    /// The task that makes it.
    pub task: String,
    /// Its output.
    pub output: String,
}

impl Task {
    /// The inputs that other tasks make.
    pub fn wires(&self) -> &BTreeMap<String, Wire> {
        &self.wires
    }
}

/// What happens while a plan is carried out.
#[derive(Debug)]
pub enum Event<'a> {
    /// A task starts.
    Started {
        /// the task
        task: &'a str,
    },
    /// A task wrote to stdout or stderr.
    Log {
        /// the task
        task: &'a str,
        /// where it wrote
        stream: Stream,
        /// what
        bytes: &'a [u8],
    },
    /// A task ended.
    Finished {
        /// the task
        task: &'a str,
        /// what it came to
        ran: &'a Ran,
    },
}

/// Carries out `plan`, task by task; what has been run before is found in the cache, unless `reuse` forbids it. Ends with the first task that does not
/// succeed, which is then the last of the list.
pub fn execute(
    runtime: &Runtime,
    plan: &Plan,
    reuse: Reuse,
    limits: &Limits,
    interrupt: &Interrupt,
    on: &mut dyn FnMut(Event),
) -> Result<Vec<(String, Ran)>, RunError> {
    let mut made: BTreeMap<(&str, &str), Artifact> = BTreeMap::new();
    let mut done = Vec::new();
    for task in &plan.tasks {
        let mut run = task.run.clone();
        for (input, wire) in &task.wires {
            if let (Some(slot), Some(artifact)) = (run.inputs.get_mut(input), made.get(&(&wire.task, &wire.output))) {
                slot.artifact = artifact.clone();
            }
        }
        on(Event::Started { task: &task.name });
        let mut log = |stream: Stream, bytes: &[u8]| {
            on(Event::Log {
                task: &task.name,
                stream,
                bytes,
            })
        };
        let ran = runtime.run(&run, reuse, limits, interrupt, &mut log)?;
        on(Event::Finished {
            task: &task.name,
            ran: &ran,
        });
        let succeeded = ran.record.outcome.succeeded();
        for (output, artifact) in &ran.record.outputs {
            if let Some((output, _)) = task.run.outputs.get_key_value(output) {
                made.insert((&task.name, output), artifact.clone());
            }
        }
        done.push((task.name.clone(), ran));
        if !succeeded {
            break;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
