use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::difference::differences;
use super::made::{Made, Names, failing, gather, gathered};
use super::parts::parts;
use super::plan::instance;
use super::{Difference, Plan, Task, TaskError};
use crate::digest::Digest;
use crate::run::{Entry, Ran, Record, Run, Runtime};
use crate::step::{Artifact, Limit, Limits};

/// The number of newest runs of a step among which the most similar one is searched.
const LOOKED_AT: usize = 32;

/// A task of a plan and its fate.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The task, or an instance of it.
    pub task: String,
    /// Its fate.
    #[serde(flatten)]
    pub fate: Fate,
}

impl Explained {
    fn empty(task: &str) -> Self {
        let (task, fate) = (task.to_owned(), Fate::Empty);
        Self { task, fate }
    }
}

/// What would happen to a task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "lowercase")]
pub enum Fate {
    /// It is in the cache.
    Hit {
        /// the record
        record: Digest,
        /// whether it succeeded
        succeeded: bool,
        /// its outputs
        outputs: BTreeMap<String, Artifact>,
    },
    /// It would run.
    Miss {
        /// the reason
        why: Miss,
    },
    /// Its fate depends on tasks that have not run yet.
    Waits {
        /// the tasks
        on: Vec<String>,
    },
    /// It would be skipped: a condition is not met, or a dependency fails or is skipped.
    Skipped {
        /// the reason
        because: String,
    },
    /// Its `for_each` goes over nothing, so that it has no instances.
    Empty,
    /// It can't run.
    Error {
        /// the error message
        message: String,
    },
}

/// The reason why a task would run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Miss {
    /// The step has never run.
    NoEarlierRun,
    /// The same run had a non-deterministic outcome.
    NotDeterministic {
        /// its record
        record: Digest,
        /// its outcome
        outcome: String,
    },
    /// The same run is known, but would have another outcome under these limits.
    Limit {
        /// its record
        record: Digest,
        /// the limit
        limit: Limit,
        /// its value if that run reached it, otherwise the usage
        was: u64,
        /// its current value
        is: u64,
    },
    /// The same run is known, but an output is missing.
    Gone {
        /// its record
        record: Digest,
    },
    /// The most similar earlier run of the step differs.
    Differs {
        /// its record
        record: Digest,
        /// the differences
        differences: Vec<Difference>,
    },
}

/// Explains for each task of `plan` whether it would run, and why. Runs nothing, but stores the parts of known tables and directories.
/// `limits` are the default limits of tasks.
pub fn explain(runtime: &Runtime, plan: &Plan, limits: &Limits) -> Result<Vec<Explained>, TaskError> {
    let names = Names::of(plan);
    let mut explaining = Explaining {
        runtime,
        limits,
        names: &names,
        made: Made::default(),
        open: vec![None; plan.tasks().len()],
        earlier: HashMap::new(),
        explained: plan.empty.iter().map(|task| Explained::empty(task)).collect(),
    };
    for (index, task) in plan.tasks().iter().enumerate() {
        explaining.task(index, task)?;
    }
    Ok(explaining.explained)
}

/// The records of one step, newest first.
type Earlier = Rc<Vec<(Digest, Record)>>;

struct Explaining<'a> {
    runtime: &'a Runtime,
    limits: &'a Limits,
    names: &'a Names<'a>,
    made: Made,
    /// By task: the reason why its outputs are unknown.
    open: Vec<Option<Open>>,
    earlier: HashMap<String, Earlier>,
    explained: Vec<Explained>,
}

impl Fate {
    /// Returns the reason why the task's outputs are unknown, if they are.
    fn open(&self) -> Option<Open> {
        match self {
            Self::Hit { succeeded: true, .. } | Self::Empty => None,
            Self::Miss { .. } | Self::Waits { .. } => Some(Open::Unknown),
            Self::Hit { .. } | Self::Skipped { .. } | Self::Error { .. } => Some(Open::Never),
        }
    }
}

/// The reason why the outputs of a task are unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Open {
    /// It has not run yet.
    Unknown,
    /// It will have no outputs.
    Never,
}

impl Explaining<'_> {
    fn task(&mut self, index: usize, task: &Task) -> Result<(), TaskError> {
        match self.before(task) {
            Ok(None) => self.known(index, task)?,
            Ok(Some(fate)) => self.say(index, task, fate),
            Err(error) => self.wrong(index, task, &error),
        }
        Ok(())
    }

    /// Returns the task's fate if it is determined without a cache lookup.
    fn before(&self, task: &Task) -> Result<Option<Fate>, TaskError> {
        if let Some(fate) = self.held_up(task) {
            return Ok(Some(fate));
        }
        let conditions = self.made.looked_at(self.names, task);
        let failing = failing(self.runtime, &conditions)?;
        Ok(failing.map(|when| Fate::Skipped {
            because: format!("condition not met: {when}"),
        }))
    }

    /// Explains a task whose inputs are all known.
    fn known(&mut self, index: usize, task: &Task) -> Result<(), TaskError> {
        let Some(each) = &task.for_each else {
            return self.one(index, task);
        };
        let over = self.made.output(self.names, &each.over).ok_or(TaskError::NotMade)?;
        match parts(&self.runtime.store, over, each.rows) {
            Ok(parts) => self.each(index, task, parts),
            Err(error) => {
                self.wrong(index, task, &error.into());
                Ok(())
            }
        }
    }

    /// Returns the fate of a task that depends on unknown outputs.
    fn held_up(&self, task: &Task) -> Option<Fate> {
        let index = |on: &str| self.names.index(on);
        let never = task
            .waits_for()
            .find(|on| index(on).is_some_and(|on| self.open[on] == Some(Open::Never)));
        if let Some(on) = never {
            let because = format!("`{on}` has no outputs");
            return Some(Fate::Skipped { because });
        }
        let unknown = |on: &&str| index(on).is_some_and(|on| self.open[on] == Some(Open::Unknown));
        let on: BTreeSet<&str> = task.waits_for().filter(unknown).collect();
        let on: Vec<String> = on.into_iter().map(str::to_owned).collect();
        (!on.is_empty()).then_some(Fate::Waits { on })
    }

    fn one(&mut self, index: usize, task: &Task) -> Result<(), TaskError> {
        let fate = self.fate(task, None)?;
        if let Fate::Hit {
            succeeded: true,
            outputs,
            ..
        } = &fate
        {
            self.made.insert(index, outputs.clone());
        }
        self.say(index, task, fate);
        Ok(())
    }

    fn each(&mut self, index: usize, task: &Task, parts: Vec<(String, Artifact)>) -> Result<(), TaskError> {
        if parts.is_empty() {
            self.explained.push(Explained::empty(&task.name));
        }
        let mut made = Vec::new();
        let mut open = None;
        for (part, artifact) in parts {
            let fate = self.fate(task, Some(&artifact))?;
            if let Fate::Hit {
                succeeded: true,
                outputs,
                ..
            } = &fate
            {
                made.push((part.clone(), outputs.clone()));
            }
            open = open.max(fate.open());
            let task = instance(&task.name, &part);
            self.explained.push(Explained { task, fate });
        }
        self.open[index] = open;
        if open.is_none() {
            self.made
                .insert(index, gathered(&self.runtime.store, &task.run.outputs, &made)?);
        }
        Ok(())
    }

    fn wrong(&mut self, index: usize, task: &Task, error: &TaskError) {
        let message = error.to_string();
        self.say(index, task, Fate::Error { message });
    }

    fn say(&mut self, index: usize, task: &Task, fate: Fate) {
        self.open[index] = fate.open();
        let task = task.name.clone();
        self.explained.push(Explained { task, fate });
    }

    fn fate(&mut self, task: &Task, part: Option<&Artifact>) -> Result<Fate, TaskError> {
        let given = self.made.inputs(self.names, task, part).ok_or(TaskError::NotMade)?;
        let run = self.runtime.equip(task.bind(gather(&self.runtime.store, &given)?))?;
        let limits = task.limits.or(self.limits);
        let key = run.key()?;
        if let Some(Ran { record, digest, .. }) = self.runtime.lookup(key, &limits)? {
            return Ok(Fate::Hit {
                record: digest,
                succeeded: record.outcome.succeeded(),
                outputs: record.outputs,
            });
        }
        let why = match self.runtime.newest_with(key)? {
            Some((digest, record)) => same_run(digest, &record, &limits),
            None => self.nearest(task, &run)?,
        };
        Ok(Fate::Miss { why })
    }

    /// Finds the most similar earlier run of the same step; the newest of several.
    fn nearest(&mut self, task: &Task, run: &Run) -> Result<Miss, TaskError> {
        let earlier = self.earlier(&run.entry.title())?;
        let alike = earlier.iter().filter(|(_, record)| is_alike(&record.run, run));
        let compared = alike.map(|(digest, record)| (digest, differences(task, &record.run, run)));
        Ok(
            match compared.min_by_key(|(_, differences)| differences.iter().map(Difference::weight).sum::<u32>()) {
                None => Miss::NoEarlierRun,
                Some((record, differences)) => Miss::Differs {
                    record: *record,
                    differences,
                },
            },
        )
    }

    fn earlier(&mut self, step: &str) -> Result<Earlier, TaskError> {
        if let Some(known) = self.earlier.get(step) {
            return Ok(known.clone());
        }
        let found = Rc::new(self.runtime.newest_of(step, LOOKED_AT)?);
        self.earlier.insert(step.to_owned(), found.clone());
        Ok(found)
    }
}

/// Returns whether two runs are comparable. Steps are identified by name, programs only by their inputs and outputs.
fn is_alike(was: &Run, is: &Run) -> bool {
    let step = matches!(is.entry, Entry::Step { .. });
    step || was.inputs.keys().eq(is.inputs.keys()) && was.outputs.keys().eq(is.outputs.keys())
}

/// Returns why a record with the same run key is not a cache hit.
fn same_run(digest: Digest, record: &Record, limits: &Limits) -> Miss {
    let usage = record.usage.as_ref().filter(|_| record.outcome.is_deterministic());
    let Some(usage) = usage else {
        return Miss::NotDeterministic {
            record: digest,
            outcome: record.outcome.to_string(),
        };
    };
    let used = [
        (Limit::Memory, usage.memory),
        (Limit::Fuel, usage.fuel),
        (Limit::Output, usage.output),
        (Limit::Log, usage.log),
    ];
    let refused = used.into_iter().find_map(|(limit, used)| {
        let is = limit.of(limits);
        match usage.reached.get(&limit) {
            Some(was) => (*was != is).then_some((limit, *was, is)),
            None => (used > is).then_some((limit, used, is)),
        }
    });
    match refused {
        None => Miss::Gone { record: digest },
        Some((limit, was, is)) => Miss::Limit {
            record: digest,
            limit,
            was,
            is,
        },
    }
}
