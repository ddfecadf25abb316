use std::collections::BTreeMap;

use super::ExpectedMemory;
use super::made::{Made, Names, TaskInput};
use super::plan::instance;
use super::{Admission, Done, End, Ending, Execution, Plan, Schedule, Task, TaskError, TaskState, When};
use crate::run::Runtime;
use crate::step::Artifact;

/// The state of an execution.
pub(super) struct Progress<'a> {
    pub(super) schedule: Schedule,
    pub(super) admission: Admission,
    /// The expected memory of tasks; `None` if only one runs at a time.
    pub(super) needs: Option<ExpectedMemory<'a>>,
    pub(super) made: Made,
    /// The tasks of the plan, followed by the instances of expanded tasks.
    pub(super) nodes: Vec<Node<'a>>,
    /// Whether no more tasks are started.
    pub(super) stopped: bool,
    /// The error that ended the execution, if its state is no longer valid.
    pub(super) failed: Option<TaskError>,
}

pub(super) struct Node<'a> {
    pub(super) task: &'a Task,
    pub(super) name: String,
    pub(super) part: Option<(String, Artifact)>,
    pub(super) instances: Vec<usize>,
    pub(super) end: Option<End>,
}

/// A task to execute, with its inputs.
pub(super) struct Job<'a> {
    pub(super) node: usize,
    pub(super) need: u64,
    pub(super) task: &'a Task,
    pub(super) name: String,
    pub(super) conditions: Vec<(&'a When, Option<Artifact>)>,
    pub(super) part: Part,
    pub(super) given: Option<BTreeMap<String, TaskInput>>,
}

/// The role of a job in a `for_each`.
pub(super) enum Part {
    /// An ordinary task or an instance.
    None,
    /// Determines the parts of this artifact.
    Over(Option<Artifact>),
}

/// The result of a job.
pub(super) enum Became {
    Ended(End),
    Expanded(Vec<(String, Artifact)>),
}

impl<'a> Progress<'a> {
    pub(super) fn new(runtime: &'a Runtime, plan: &'a Plan, names: &Names, execution: &Execution) -> Self {
        let node = |task: &'a Task| Node {
            task,
            name: task.name.clone(),
            part: None,
            instances: Vec::new(),
            end: None,
        };
        let mut progress = Self {
            schedule: Schedule::new(names.waits_for(plan)),
            admission: Admission::new(execution.memory),
            needs: (execution.jobs.get() > 1).then(|| ExpectedMemory::new(runtime)),
            made: Made::default(),
            nodes: plan.tasks().iter().map(node).collect(),
            stopped: false,
            failed: None,
        };
        let ready: Vec<usize> = progress.schedule.ready().collect();
        progress.admit(&ready);
        progress
    }

    pub(super) fn admit(&mut self, ready: &[usize]) {
        for node in ready {
            let task = self.nodes[*node].task;
            let need = self.needs.as_mut().map_or(0, |needs| needs.of(task));
            self.admission.add(*node, need);
        }
    }

    /// Returns the next task to execute.
    pub(super) fn take(&mut self, names: &Names) -> Option<Job<'a>> {
        if self.stopped {
            return None;
        }
        let (index, need) = self.admission.pick()?;
        let node = &self.nodes[index];
        let (task, name) = (node.task, node.name.clone());
        let part = node.part.as_ref().map(|(_, artifact)| artifact);
        let job = Job {
            node: index,
            need,
            task,
            name,
            conditions: match part {
                None => self.made.looked_at(names, task),
                Some(_) => Vec::new(),
            },
            part: match (&task.for_each, part) {
                (Some(each), None) => Part::Over(self.made.output(names, &each.over).cloned()),
                _ => Part::None,
            },
            given: self.made.inputs(names, task, part),
        };
        // this can't fail: the schedule reported the task as ready
        let _ = self.schedule.start(index);
        Some(job)
    }

    pub(super) fn is_over(&self) -> bool {
        self.failed.is_some() || self.admission.running() == 0 && (self.stopped || self.admission.is_empty())
    }

    /// Ends the execution with an error.
    pub(super) fn fail(&mut self, error: TaskError) {
        self.stopped = true;
        self.failed.get_or_insert(error);
    }

    /// Adds an instance of a task for each part. Returns the task itself if there are no parts, as it has ended then.
    pub(super) fn expand(&mut self, group: usize, parts: Vec<(String, Artifact)>) -> Option<usize> {
        if parts.is_empty() {
            return Some(group);
        }
        let instances = self.schedule.expand(group, parts.len()).unwrap_or_default();
        let task = self.nodes[group].task;
        for part in parts {
            self.nodes.push(Node {
                task,
                name: instance(&task.name, &part.0),
                part: Some(part),
                instances: Vec::new(),
                end: None,
            });
        }
        self.nodes[group].instances = instances.clone().collect();
        self.admit(&instances.collect::<Vec<_>>());
        None
    }

    /// Returns the outputs of a task's instances, if all succeeded.
    pub(super) fn together(&self, group: usize) -> Option<Vec<(String, BTreeMap<String, Artifact>)>> {
        let made = |index: &usize| {
            let node = &self.nodes[*index];
            match (&node.end, &node.part) {
                (Some(End::Ran(ran)), Some((part, _))) if ran.record.outcome.succeeded() => {
                    Some((part.clone(), ran.record.outputs.clone()))
                }
                _ => None,
            }
        };
        self.nodes[group].instances.iter().map(made).collect()
    }

    /// Marks a group as succeeded, with these outputs.
    pub(super) fn whole(&mut self, group: usize, outputs: BTreeMap<String, Artifact>) {
        self.made.insert(group, outputs);
        let change = self.schedule.finish(group, Ending::Succeeded).unwrap_or_default();
        self.admit(&change.ready);
    }

    /// Returns the results of the tasks in plan order, with instances in place of their task.
    pub(super) fn report(mut self, plan: &Plan) -> Vec<Done> {
        let mut report = Vec::with_capacity(self.nodes.len());
        for index in 0..plan.tasks().len() {
            let instances = std::mem::take(&mut self.nodes[index].instances);
            if instances.is_empty() && self.schedule.state(index) != Some(TaskState::Succeeded)
                || self.nodes[index].end.is_some()
            {
                report.push(self.done(index));
            }
            report.extend(instances.into_iter().map(|index| self.done(index)));
        }
        report
    }

    pub(super) fn done(&mut self, index: usize) -> Done {
        let node = &mut self.nodes[index];
        Done {
            task: std::mem::take(&mut node.name),
            end: node.end.take().unwrap_or(End::NotStarted),
        }
    }
}
