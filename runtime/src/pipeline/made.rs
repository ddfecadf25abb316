use std::collections::{BTreeMap, HashMap};

use super::{Operand, Plan, Source, Task, TaskOutput, When};
use crate::run::Runtime;
use crate::step::{Artifact, MediaType};
use crate::store::{Store, StoreError};

/// The indices of a plan's tasks, by name.
pub(super) struct Names<'p>(HashMap<&'p str, usize>);

/// The outputs of tasks, by task index and output name.
#[derive(Default)]
pub(super) struct Made(HashMap<usize, BTreeMap<String, Artifact>>);

/// An input of a task: an artifact, or the entries of a directory.
pub(super) enum TaskInput {
    Artifact(Artifact),
    Gathered(BTreeMap<String, Artifact>),
}

impl<'p> Names<'p> {
    pub(super) fn of(plan: &'p Plan) -> Self {
        let tasks = plan.tasks().iter().enumerate();
        Self(tasks.map(|(index, task)| (task.name.as_str(), index)).collect())
    }

    pub(super) fn index(&self, task: &str) -> Option<usize> {
        self.0.get(task).copied()
    }

    /// Returns the indices of the dependencies of each task.
    pub(super) fn waits_for(&self, plan: &Plan) -> impl Iterator<Item = Vec<usize>> {
        plan.tasks()
            .iter()
            .map(|task| task.waits_for().filter_map(|on| self.index(on)).collect())
    }
}

impl Made {
    pub(super) fn insert(&mut self, task: usize, outputs: BTreeMap<String, Artifact>) {
        self.0.insert(task, outputs);
    }

    pub(super) fn output(&self, names: &Names, output: &TaskOutput) -> Option<&Artifact> {
        self.0.get(&names.index(&output.task)?)?.get(&output.output)
    }

    /// Returns the wired inputs of `task` for `part`; `None` if one is not available.
    pub(super) fn inputs(&self, names: &Names, task: &Task, part: Option<&Artifact>) -> Option<BTreeMap<String, TaskInput>> {
        let wires = task.wires.iter();
        wires
            .map(|(name, wire)| Some((name.clone(), self.given(names, &wire.from, part)?)))
            .collect()
    }

    pub(super) fn given(&self, names: &Names, source: &Source, part: Option<&Artifact>) -> Option<TaskInput> {
        Some(match source {
            Source::Output(output) => TaskInput::Artifact(self.output(names, output)?.clone()),
            Source::Part => TaskInput::Artifact(part?.clone()),
            Source::Pinned(artifact) => TaskInput::Artifact(artifact.clone()),
            Source::Gathered(outputs) => {
                let entry = |(name, output): (&String, &TaskOutput)| Some((name.clone(), self.output(names, output)?.clone()));
                TaskInput::Gathered(outputs.iter().map(entry).collect::<Option<_>>()?)
            }
        })
    }

    /// Returns the conditions of `task`, with the outputs that they read.
    pub(super) fn looked_at<'t>(&self, names: &Names, task: &'t Task) -> Vec<(&'t When, Option<Artifact>)> {
        let output = |when: &When| match &when.left {
            Operand::Output { of, .. } => self.output(names, of).cloned(),
            Operand::Value(_) => None,
        };
        task.when.iter().map(|when| (when, output(when))).collect()
    }
}

impl TaskInput {
    /// Returns the artifact. Creates a directory from its entries.
    pub(super) fn artifact(&self, store: &Store) -> Result<Artifact, StoreError> {
        match self {
            Self::Artifact(artifact) => Ok(artifact.clone()),
            Self::Gathered(entries) => store.put_together(entries),
        }
    }
}

/// Returns the artifacts of inputs.
pub(super) fn gather(store: &Store, given: &BTreeMap<String, TaskInput>) -> Result<BTreeMap<String, Artifact>, StoreError> {
    let inputs = given.iter();
    inputs
        .map(|(name, given)| Ok((name.clone(), given.artifact(store)?)))
        .collect()
}

/// Returns the first condition that is not met.
pub(super) fn failing<'t>(
    runtime: &Runtime,
    conditions: &[(&'t When, Option<Artifact>)],
) -> Result<Option<&'t When>, super::TaskError> {
    for (when, artifact) in conditions {
        let content = match (&when.left, artifact) {
            (Operand::Output { of, .. }, Some(artifact)) => {
                let bytes = runtime.store.get(&artifact.digest)?;
                Some(super::when::content(of, &artifact.media_type, &bytes)?)
            }
            _ => None,
        };
        if !when.holds(content.as_ref())? {
            return Ok(Some(when));
        }
    }
    Ok(None)
}

/// Combines the outputs of a task's instances into one directory per output.
pub(super) fn gathered(
    store: &Store,
    outputs: &BTreeMap<String, MediaType>,
    instances: &[(String, BTreeMap<String, Artifact>)],
) -> Result<BTreeMap<String, Artifact>, StoreError> {
    let of = |output: &String| {
        let entries = instances.iter();
        let entries = entries.filter_map(|(part, made)| Some((part.clone(), made.get(output)?.clone())));
        store.put_together(&entries.collect())
    };
    outputs.keys().map(|output| Ok((output.clone(), of(output)?))).collect()
}
