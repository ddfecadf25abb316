use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::When;
use crate::digest::{Digest, canonical_json};
use crate::run::{Input, Run};
use crate::step::{Artifact, GuestPath, Limits, OwnLimits};

/// The version of the format that this code writes and reads.
const VERSION: u32 = 1;

/// A pipeline whose modules, parameters and outside inputs are pinned to digests. The digests of what tasks make for one
/// another are known when they have been made.
///
/// Its file is canonical JSON. Whatever holds the same plan carries out the same runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this format: 1.
    version: u32,
    /// The pipeline's name.
    pub name: String,
    /// Its tasks; each comes after those that it waits for.
    tasks: Vec<Task>,
    /// What of the tasks' outputs the pipeline declares as its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Source>,
}

/// A step's place in a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name: `train`, `train[3]` for one of several instances, `prepare/train` for one of a pipeline within the pipeline.
    pub name: String,
    /// The run, without the inputs that are known only when others have run.
    pub run: Run,
    /// Those inputs, and where they come from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wires: BTreeMap<String, Wire>,
    /// What the pipeline's file calls the inputs that were pinned, for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What it is run for each part of, when that is known only when another task has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// It is skipped unless all of these hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<When>,
    /// How often it is run again after an outcome that another time may be different.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The limits that it sets itself.
    #[serde(default, skip_serializing_if = "OwnLimits::is_empty")]
    pub limits: OwnLimits,
}

/// An input that is known when other tasks have run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// Where it comes from.
    pub from: Source,
    /// Where the guest finds it, when that is not `/in/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<GuestPath>,
}

/// Where something comes from that is known when other tasks have run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An output of a task; of a task that is run for each part, a directory with an entry for each instance.
    Output(TaskOutput),
    /// A directory with these outputs as its entries.
    Gathered(BTreeMap<String, TaskOutput>),
    /// The part that the instance is run for.
    Part,
    /// Known from the start: what a pipeline hands on of what it was given.
    Pinned(Artifact),
}

/// An output of a task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskOutput {
    /// The task that makes it.
    pub task: String,
    /// Its output.
    pub output: String,
}

/// What a task is run for each part of: the entries of a directory, or pieces of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// The directory or table.
    pub over: TaskOutput,
    /// How many rows of a table make a part; its record batches when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// Why a plan can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is not a plan, or can't be written as one.
    #[error("not a plan: {0}")]
    Json(#[from] serde_json::Error),
    /// It was made by a newer version.
    #[error("the plan has version {0}; this lockstep reads version {VERSION}: use a newer lockstep")]
    Version(u32),
    /// Two of its tasks have one name.
    #[error("two tasks of the plan are called `{0}`")]
    Twice(String),
    /// A task waits for one that does not come before it.
    #[error("task `{task}` of the plan waits for `{on}`, which does not come before it")]
    Order {
        /// the task
        task: String,
        /// the other
        on: String,
    },
    /// An input is both pinned and wired.
    #[error("task `{task}` of the plan has two inputs called `{input}`")]
    Input {
        /// the task
        task: String,
        /// the input
        input: String,
    },
}

impl Plan {
    pub(super) fn new(name: String, tasks: Vec<Task>, outputs: BTreeMap<String, Source>) -> Self {
        Self {
            version: VERSION,
            name,
            tasks,
            outputs,
        }
    }

    /// A plan of one task that carries out `run`.
    pub fn of_run(name: &str, run: Run) -> Self {
        Self::of_runs(name, [(name.to_owned(), run, OwnLimits::default())])
    }

    /// A plan of tasks that carry out these runs, none of which waits for another. Their names must differ.
    pub fn of_runs(name: &str, runs: impl IntoIterator<Item = (String, Run, OwnLimits)>) -> Self {
        let task = |(name, run, limits)| Task {
            name,
            run,
            wires: BTreeMap::new(),
            files: BTreeMap::new(),
            for_each: None,
            when: Vec::new(),
            retries: 0,
            limits,
        };
        Self::new(name.to_owned(), runs.into_iter().map(task).collect(), BTreeMap::new())
    }

    /// The part of the plan that leads to those tasks that are a `goal`: they, and all that they wait for. It has no outputs.
    pub fn up_to(&self, goal: impl Fn(&Task) -> bool) -> Self {
        let mut needed = BTreeSet::new();
        for task in self.tasks.iter().rev() {
            if goal(task) || needed.contains(task.name.as_str()) {
                needed.insert(task.name.as_str());
                needed.extend(task.waits_for());
            }
        }
        let tasks = self.tasks.iter().filter(|task| needed.contains(task.name.as_str()));
        Self::new(self.name.clone(), tasks.cloned().collect(), BTreeMap::new())
    }

    /// The same plan, whose tasks set themselves what they leave to `limits`.
    pub fn within(mut self, limits: &Limits) -> Self {
        for task in &mut self.tasks {
            task.limits = OwnLimits::from(&task.limits.or(limits));
        }
        self
    }

    /// A plan of these tasks and outputs, each of which comes after those that it waits for.
    pub fn of_tasks(name: &str, tasks: Vec<Task>, outputs: BTreeMap<String, Source>) -> Result<Self, PlanError> {
        let plan = Self::new(name.to_owned(), tasks, outputs);
        plan.check()?;
        Ok(plan)
    }

    /// Reads a plan, and checks that its tasks are in order.
    pub fn read(json: &[u8]) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_slice(json)?;
        if plan.version != VERSION {
            return Err(PlanError::Version(plan.version));
        }
        plan.check()?;
        Ok(plan)
    }

    /// The plan as canonical JSON.
    pub fn write(&self) -> Result<Vec<u8>, PlanError> {
        Ok(canonical_json(self)?)
    }

    /// The digest of the plan as canonical JSON.
    pub fn digest(&self) -> Result<Digest, PlanError> {
        Ok(Digest::of(self.write()?))
    }

    /// The tasks; each comes after those that it waits for.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn check(&self) -> Result<(), PlanError> {
        let mut known = BTreeSet::new();
        for task in &self.tasks {
            if let Some(on) = task.waits_for().find(|on| !known.contains(on)) {
                let (task, on) = (task.name.clone(), on.to_owned());
                return Err(PlanError::Order { task, on });
            }
            if let Some(input) = task.wires.keys().find(|input| task.run.inputs.contains_key(*input)) {
                let (task, input) = (task.name.clone(), input.clone());
                return Err(PlanError::Input { task, input });
            }
            if !known.insert(task.name.as_str()) {
                return Err(PlanError::Twice(task.name.clone()));
            }
        }
        for (name, source) in &self.outputs {
            if let Some(on) = source.tasks().find(|on| !known.contains(on)) {
                let (task, on) = (name.clone(), on.to_owned());
                return Err(PlanError::Order { task, on });
            }
        }
        Ok(())
    }
}

impl Task {
    /// The tasks that must have run before this one, some perhaps more than once.
    pub fn waits_for(&self) -> impl Iterator<Item = &str> {
        let wires = self.wires.values().flat_map(|wire| wire.from.tasks());
        let each = self.for_each.iter().map(|each| each.over.task.as_str());
        let when = self.when.iter().filter_map(When::task);
        wires.chain(each).chain(when)
    }

    /// The run, once its wired inputs are known.
    pub fn bind(&self, wired: BTreeMap<String, Artifact>) -> Run {
        let mut run = self.run.clone();
        for (name, artifact) in wired {
            let at = self.wires.get(&name).and_then(|wire| wire.at.clone());
            run.inputs.insert(name, Input { artifact, at });
        }
        run
    }
}

impl Source {
    /// The tasks that it comes from.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Output(output) => (Some(output), None),
            Self::Gathered(outputs) => (None, Some(outputs.values())),
            Self::Part | Self::Pinned(_) => (None, None),
        };
        one.into_iter()
            .chain(several.into_iter().flatten())
            .map(|output| output.task.as_str())
    }
}

/// The name of one instance of the task called `name`.
pub(super) fn instance(name: &str, part: &str) -> String {
    format!("{name}[{part}]")
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
