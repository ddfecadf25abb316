use std::fmt;

/// Tracks which tasks of a dependency graph can run. No I/O, no threads, no clock: the caller runs the ready tasks.
///
/// Tasks are identified by index. A task with `for_each` is [expanded](Self::expand) once its parts are known: its members are ready
/// immediately, and it is [whole](Change::whole) when all of them have ended.
#[derive(Debug, Default)]
pub struct Schedule {
    nodes: Vec<Node>,
    unfinished: usize,
}

/// The state of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// Waiting for dependencies.
    Waiting,
    /// Ready to run.
    Ready,
    /// Running, or its members are.
    Running,
    /// Succeeded.
    Succeeded,
    /// Failed.
    Failed,
    /// Skipped, because of its own condition or of this other task.
    Skipped(Option<usize>),
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its dependents can run.
    Succeeded,
    /// Its dependents are skipped.
    Failed,
    /// Its dependents are skipped.
    Skipped,
}

/// The consequences of the end of a task.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Change {
    /// Tasks that are now ready.
    pub ready: Vec<usize>,
    /// Tasks that are now skipped.
    pub skipped: Vec<usize>,
    /// The expanded task whose last member this was. Call [`Schedule::finish`] for it next.
    pub whole: Option<usize>,
}

#[derive(Debug)]
struct Node {
    state: TaskState,
    /// The number of unfinished dependencies.
    waits: usize,
    /// The tasks that depend on it.
    dependents: Vec<usize>,
    /// The expanded task that it belongs to.
    group: Option<usize>,
    /// The number of unfinished members.
    members: usize,
}

/// The error of an invalid state transition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("task {task} can't be {moved} in state {state:?}")]
pub struct Misuse {
    /// the task
    pub task: usize,
    /// the transition
    pub moved: Moved,
    /// its current state
    pub state: TaskState,
}

/// A state transition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// [`Schedule::start`]
    Started,
    /// [`Schedule::expand`]
    Expanded,
    /// [`Schedule::finish`]
    Finished,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Expanded => "expanded",
            Self::Finished => "finished",
        })
    }
}

impl Schedule {
    /// Creates a schedule from the dependencies of each task. Dependencies that do not precede their task are ignored.
    pub fn new(waits_for: impl IntoIterator<Item = Vec<usize>>) -> Self {
        let mut schedule = Self::default();
        for (task, mut others) in waits_for.into_iter().enumerate() {
            others.retain(|other| *other < task);
            others.sort_unstable();
            others.dedup();
            others.iter().for_each(|other| schedule.nodes[*other].dependents.push(task));
            let state = if others.is_empty() {
                TaskState::Ready
            } else {
                TaskState::Waiting
            };
            schedule.add(state, others.len(), None);
        }
        schedule
    }

    /// Returns the state of a task.
    pub fn state(&self, task: usize) -> Option<TaskState> {
        self.nodes.get(task).map(|node| node.state)
    }

    /// Returns the tasks that are ready.
    pub fn ready(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|task| self.nodes[*task].state == TaskState::Ready)
    }

    /// Returns whether every task has ended.
    pub fn is_over(&self) -> bool {
        self.unfinished == 0
    }

    /// Marks a ready task as running.
    pub fn start(&mut self, task: usize) -> Result<(), Misuse> {
        self.expect(task, TaskState::Ready, Moved::Started)?;
        self.nodes[task].state = TaskState::Running;
        Ok(())
    }

    /// Expands a running task into `count` members, which are ready. Returns their indices.
    pub fn expand(&mut self, task: usize, count: usize) -> Result<std::ops::Range<usize>, Misuse> {
        self.expect(task, TaskState::Running, Moved::Expanded)?;
        let first = self.nodes.len();
        (0..count).for_each(|_| self.add(TaskState::Ready, 0, Some(task)));
        self.nodes[task].members += count;
        Ok(first..first + count)
    }

    /// Ends a running task, or skips a ready one.
    pub fn finish(&mut self, task: usize, ending: Ending) -> Result<Change, Misuse> {
        let state = self.state(task).unwrap_or(TaskState::Waiting);
        let skips = ending == Ending::Skipped && state == TaskState::Ready;
        if self.nodes.get(task).is_none_or(|node| node.members > 0) || !(state == TaskState::Running || skips) {
            let moved = Moved::Finished;
            return Err(Misuse { task, moved, state });
        }
        let mut change = Change::default();
        let state = match ending {
            Ending::Succeeded => TaskState::Succeeded,
            Ending::Failed => TaskState::Failed,
            Ending::Skipped => TaskState::Skipped(None),
        };
        self.end(task, state);
        match ending {
            Ending::Succeeded => change.ready = self.release(task),
            Ending::Failed | Ending::Skipped => change.skipped = self.skip_after(task),
        }
        if let Some(group) = self.nodes[task].group {
            self.nodes[group].members -= 1;
            change.whole = (self.nodes[group].members == 0).then_some(group);
        }
        Ok(change)
    }

    fn release(&mut self, task: usize) -> Vec<usize> {
        let mut ready = Vec::new();
        for dependent in std::mem::take(&mut self.nodes[task].dependents) {
            let node = &mut self.nodes[dependent];
            node.waits -= 1;
            if node.waits == 0 && node.state == TaskState::Waiting {
                node.state = TaskState::Ready;
                ready.push(dependent);
            }
        }
        ready
    }

    /// Skips all tasks that depend on `task`, directly or indirectly.
    fn skip_after(&mut self, task: usize) -> Vec<usize> {
        let mut skipped = Vec::new();
        let mut ended = vec![task];
        while let Some(last) = ended.pop() {
            for dependent in std::mem::take(&mut self.nodes[last].dependents) {
                if self.nodes[dependent].state == TaskState::Waiting {
                    self.end(dependent, TaskState::Skipped(Some(task)));
                    skipped.push(dependent);
                    ended.push(dependent);
                }
            }
        }
        skipped.sort_unstable();
        skipped
    }

    fn end(&mut self, task: usize, state: TaskState) {
        self.nodes[task].state = state;
        self.unfinished -= 1;
    }

    fn add(&mut self, state: TaskState, waits: usize, group: Option<usize>) {
        self.unfinished += 1;
        self.nodes.push(Node {
            state,
            waits,
            dependents: Vec::new(),
            group,
            members: 0,
        });
    }

    fn expect(&self, task: usize, expected: TaskState, moved: Moved) -> Result<(), Misuse> {
        let state = self.state(task).unwrap_or(TaskState::Waiting);
        match state == expected {
            true => Ok(()),
            false => Err(Misuse { task, moved, state }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Random tasks: the dependencies, the ending and the number of members of each.
    fn tasks() -> impl Strategy<Value = Vec<(Vec<usize>, Ending, Option<usize>)>> {
        let ending = prop_oneof![8 => Just(Ending::Succeeded), 1 => Just(Ending::Failed), 1 => Just(Ending::Skipped)];
        let task = (
            proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
            ending,
            proptest::option::weighted(0.2, 0usize..4),
        );
        proptest::collection::vec(task, 1..40).prop_map(|tasks| {
            let waits = |at: usize, of: &[prop::sample::Index]| match at {
                0 => Vec::new(),
                at => of.iter().map(|index| index.index(at)).collect(),
            };
            let tasks = tasks.into_iter().enumerate();
            tasks
                .map(|(at, (of, ending, parts))| (waits(at, &of), ending, parts))
                .collect()
        })
    }

    /// Returns the expected ending of each task.
    fn expected(tasks: &[(Vec<usize>, Ending, Option<usize>)]) -> Vec<Ending> {
        let mut endings: Vec<Ending> = Vec::new();
        for (waits, ending, _) in tasks {
            let good = waits.iter().all(|other| endings[*other] == Ending::Succeeded);
            endings.push(if good { *ending } else { Ending::Skipped });
        }
        endings
    }

    /// Runs and finishes tasks in the order given by `choices`.
    fn drive(tasks: &[(Vec<usize>, Ending, Option<usize>)], choices: &[prop::sample::Index]) -> Result<(), TestCaseError> {
        let mut schedule = Schedule::new(tasks.iter().map(|(waits, ..)| waits.clone()));
        let mut open: Vec<usize> = schedule.ready().collect();
        let mut started = BTreeSet::new();
        let mut skipped = BTreeSet::new();
        let mut choices = choices.iter().cycle();
        while !open.is_empty() {
            let task = open.swap_remove(choices.next().map_or(0, |choice| choice.index(open.len())));
            prop_assert!(started.insert(task), "{task} ran twice");
            schedule.start(task).unwrap();
            let mut change = match tasks.get(task) {
                None => schedule.finish(task, Ending::Succeeded).unwrap(),
                Some((waits, ending, parts)) => {
                    for other in waits {
                        prop_assert_eq!(
                            schedule.state(*other),
                            Some(TaskState::Succeeded),
                            "{} came before {}",
                            task,
                            other
                        );
                    }
                    match parts {
                        Some(parts) if *parts > 0 && *ending == Ending::Succeeded => {
                            open.extend(schedule.expand(task, *parts).unwrap());
                            prop_assert!(schedule.finish(task, *ending).is_err());
                            continue;
                        }
                        _ => schedule.finish(task, *ending).unwrap(),
                    }
                }
            };
            if let Some(whole) = change.whole.take() {
                let after = schedule.finish(whole, Ending::Succeeded).unwrap();
                change.ready.extend(after.ready);
                change.skipped.extend(after.skipped);
            }
            for task in change.skipped {
                prop_assert!(skipped.insert(task) && !started.contains(&task));
            }
            open.extend(change.ready);
        }
        prop_assert!(schedule.is_over());
        for (task, ending) in expected(tasks).into_iter().enumerate() {
            let state = schedule.state(task).unwrap();
            let fits = match ending {
                Ending::Succeeded => state == TaskState::Succeeded,
                Ending::Failed => state == TaskState::Failed,
                Ending::Skipped => matches!(state, TaskState::Skipped(_)),
            };
            prop_assert!(fits, "task {task} is {state:?}, not {ending:?}");
            let ran = started.contains(&task);
            prop_assert_eq!(ran, !skipped.contains(&task));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn each_task_runs_once_after_those_it_waits_for_and_a_failure_skips_what_waits_for_it(
            tasks in tasks(),
            choices in proptest::collection::vec(any::<prop::sample::Index>(), 1..40),
        ) {
            drive(&tasks, &choices)?;
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let mut schedule = Schedule::new([vec![], vec![0]]);
        assert_eq!(
            schedule.finish(0, Ending::Succeeded).unwrap_err().to_string(),
            "task 0 can't be finished in state Ready"
        );
        assert!(schedule.start(1).is_err() && schedule.start(2).is_err() && schedule.expand(0, 1).is_err());
        schedule.start(0).unwrap();
        assert!(schedule.start(0).is_err());
        assert_eq!(schedule.finish(0, Ending::Failed).unwrap().skipped, [1]);
        assert_eq!(schedule.state(1), Some(TaskState::Skipped(Some(0))));
        assert!(schedule.finish(0, Ending::Failed).is_err() && schedule.is_over());
    }
}
