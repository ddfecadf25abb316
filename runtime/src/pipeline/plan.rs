use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::When;
use crate::digest::{Digest, canonical_json};
use crate::run::{Input, Run};
use crate::step::{Artifact, GuestPath, Limits, OwnLimits};

/// The supported version of the format.
const VERSION: u32 = 1;

/// A pipeline whose modules, parameters and external inputs are pinned to digests. Digests of task outputs are known only after the
/// tasks have run.
///
/// Its file is canonical JSON. Equal plans have equal runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this format: 1.
    version: u32,
    /// The pipeline's name.
    pub name: String,
    /// Its tasks, each after its dependencies.
    tasks: Vec<Task>,
    /// The pipeline's outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Source>,
    /// The tasks whose `for_each` goes over nothing. They have no instances, and are not among the tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<String>,
}

/// A task of a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name: `train`, `train[3]` for an instance, `prepare/train` for a task of a nested pipeline.
    pub name: String,
    /// The run, without the inputs that come from other tasks.
    pub run: Run,
    /// The inputs that come from other tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wires: BTreeMap<String, Wire>,
    /// The names of pinned inputs in the pipeline file, for display.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What the task iterates over, if that is the output of another task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Conditions. The task is skipped unless all are met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<When>,
    /// Maximum number of retries after an outcome that may differ next time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The task's own limits.
    #[serde(default, skip_serializing_if = "OwnLimits::is_empty")]
    pub limits: OwnLimits,
}

/// An input that is known only after other tasks have run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// Its source.
    pub from: Source,
    /// The guest's path, if it is not `/in/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<GuestPath>,
}

/// The source of an input or output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An output of a task; for a task with `for_each`, a directory with one entry per instance.
    Output(TaskOutput),
    /// A directory with these outputs as its entries.
    Gathered(BTreeMap<String, TaskOutput>),
    /// The current part of a `for_each`.
    Part,
    /// A known artifact: an input of the pipeline.
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

/// The parts that a task iterates over: the entries of a directory, the items of a list or pieces of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// The directory, list or table.
    pub over: TaskOutput,
    /// The number of rows per part of a table; if absent, the parts are its record batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// The error of reading, writing or checking a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The JSON is not a plan, or a plan can't be written as JSON.
    #[error("invalid plan: {0}")]
    Json(#[from] serde_json::Error),
    /// The plan was written by a newer version.
    #[error("the plan has version {0}; this lockstep reads version {VERSION}: use a newer lockstep")]
    Version(u32),
    /// Two tasks have the same name.
    #[error("duplicate task `{0}` in the plan")]
    Twice(String),
    /// A task or output depends on a task that does not precede it.
    #[error("`{task}` depends on task `{on}`, which does not precede it in the plan")]
    Order {
        /// the task or output
        task: String,
        /// the dependency
        on: String,
    },
    /// An input is both pinned and wired.
    #[error("task `{task}` of the plan has two inputs named `{input}`")]
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
            empty: Vec::new(),
        }
    }

    /// Creates a plan with one task that executes `run`.
    pub fn of_run(name: &str, run: Run) -> Self {
        Self::of_runs(name, [(name.to_owned(), run, OwnLimits::default())])
    }

    /// Creates a plan of independent tasks that execute these runs. Their names must differ.
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

    /// Returns the part of the plan that consists of the tasks that are a `goal`, and their dependencies. It has no outputs.
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

    /// Returns the same plan, with `limits` filled into tasks that do not set their own.
    pub fn within(mut self, limits: &Limits) -> Self {
        for task in &mut self.tasks {
            task.limits = OwnLimits::from(&task.limits.or(limits));
        }
        self
    }

    /// Creates a plan of these tasks and outputs. Each task must come after its dependencies.
    pub fn of_tasks(name: &str, tasks: Vec<Task>, outputs: BTreeMap<String, Source>) -> Result<Self, PlanError> {
        let plan = Self::new(name.to_owned(), tasks, outputs);
        plan.check()?;
        Ok(plan)
    }

    /// Parses a plan, and checks the order of its tasks.
    pub fn read(json: &[u8]) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_slice(json)?;
        if plan.version != VERSION {
            return Err(PlanError::Version(plan.version));
        }
        plan.check()?;
        Ok(plan)
    }

    /// Returns the plan as canonical JSON.
    pub fn write(&self) -> Result<Vec<u8>, PlanError> {
        Ok(canonical_json(self)?)
    }

    /// Returns the digest of the plan as canonical JSON.
    pub fn digest(&self) -> Result<Digest, PlanError> {
        Ok(Digest::of(self.write()?))
    }

    /// Returns the tasks, each after its dependencies.
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
    /// Returns the dependencies of this task. They may contain duplicates.
    pub fn waits_for(&self) -> impl Iterator<Item = &str> {
        let wires = self.wires.values().flat_map(|wire| wire.from.tasks());
        let each = self.for_each.iter().map(|each| each.over.task.as_str());
        let when = self.when.iter().filter_map(When::task);
        wires.chain(each).chain(when)
    }

    /// Returns the run with its wired inputs.
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
    /// Returns the tasks that produce it.
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

/// Returns the name of an instance of the task `name`.
pub(super) fn instance(name: &str, part: &str) -> String {
    format!("{name}[{part}]")
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
