use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::made::{Names, TaskInput, failing, gather, gathered};
use super::parts::parts;
use super::progress::{Became, Job, Part, Progress};
use super::{Ending, PartsError, Plan, When, WhenError};
use crate::run::{Ran, Reuse, Run, RunError, Runtime};
use crate::sandbox::{Interrupt, SandboxError, Stream};
use crate::step::{Artifact, Interruption, Limits, Outcome};
use crate::store::StoreError;

/// Options for executing a plan.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Maximum concurrent tasks.
    pub jobs: NonZeroUsize,
    /// Maximum memory of all running guests together, in bytes.
    pub memory: u64,
    /// The use of cached results.
    pub reuse: Reuse,
    /// The default limits of tasks.
    pub limits: Limits,
    /// Whether to keep running independent tasks after a failure.
    pub keep_going: bool,
    /// The delay before the first retry of a task. It doubles with each retry, up to 64 times the initial delay.
    pub backoff: Duration,
}

impl Default for Execution {
    /// Returns options for one task at a time, unlimited memory, use of the cache, stopping at the first failure and retries after
    /// 200 ms.
    fn default() -> Self {
        Self {
            jobs: NonZeroUsize::MIN,
            memory: u64::MAX,
            reuse: Reuse::Records,
            limits: Limits::default(),
            keep_going: false,
            backoff: Duration::from_millis(200),
        }
    }
}

/// An event during the execution of a plan.
#[derive(Debug)]
pub enum Event<'a> {
    /// A task starts.
    Started {
        /// the task
        task: &'a str,
    },
    /// A task was expanded into instances.
    Expanded {
        /// the task
        task: &'a str,
        /// the number of instances
        count: usize,
    },
    /// A task wrote to stdout or stderr.
    Log {
        /// the task
        task: &'a str,
        /// the stream
        stream: Stream,
        /// the bytes
        bytes: &'a [u8],
    },
    /// A task will be retried.
    Retrying {
        /// the task
        task: &'a str,
        /// the reason
        because: &'a str,
        /// the number of remaining retries
        left: u32,
    },
    /// A task ended, or will not run.
    Finished {
        /// the task and its result
        done: &'a Done,
    },
}

/// The result of executing a plan.
#[derive(Debug)]
pub struct Executed {
    /// The tasks in plan order, with instances in place of their task.
    pub tasks: Vec<Done>,
    /// The pipeline's outputs, as far as they are available.
    pub outputs: BTreeMap<String, Artifact>,
}

/// A task and its result.
#[derive(Debug)]
pub struct Done {
    /// The task.
    pub task: String,
    /// Its result.
    pub end: End,
}

impl Done {
    fn empty(task: &str) -> Self {
        let (task, end) = (task.to_owned(), End::Empty);
        Self { task, end }
    }
}

/// The result of a task.
#[derive(Debug)]
pub enum End {
    /// It ran, or was found in the cache.
    Ran(Box<Ran>),
    /// It was skipped.
    Skipped(Skipped),
    /// Its `for_each` goes over nothing, so that it has no instances.
    Empty,
    /// It could not run.
    Error(TaskError),
    /// The execution ended before it started.
    NotStarted,
}

/// The reason why a task was skipped.
#[derive(Clone, PartialEq, Debug)]
pub enum Skipped {
    /// This condition is not met.
    When(When),
    /// This dependency failed or was skipped.
    After(String),
}

/// The error of a task that could not run. A guest's failure is not an error: it is an outcome.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The run could not be executed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A condition can't be evaluated.
    #[error("`when`: {0}")]
    When(#[from] WhenError),
    /// The parts of a `for_each` can't be determined.
    #[error("`for_each`: {0}")]
    Parts(#[from] PartsError),
    /// An input is not available.
    #[error("an input is not available")]
    NotMade,
    /// The thread that executed it panicked.
    #[error("internal error: {0}; please report this bug")]
    Panicked(String),
    /// A remote executor reported this error.
    #[error("{0}")]
    Elsewhere(String),
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        Self::Run(error.into())
    }
}

/// Executes runs in place of the runtime.
pub trait Carrier: Sync {
    /// Executes the run of `task`, or finds it in the cache. Calls `log` with the guest's output as it is written.
    fn carry_out(
        &self,
        task: &str,
        run: &Run,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, TaskError>;
}

/// Executes `plan` with one thread per job. Uses cached results, unless `execution` disables them.
///
/// Triggering `interrupt` stops the running tasks. Completed tasks are recorded, so the same call continues from there.
pub fn execute(
    runtime: &Runtime,
    plan: &Plan,
    execution: &Execution,
    interrupt: &Interrupt,
    on: &mut (dyn FnMut(Event) + Send),
) -> Result<Executed, TaskError> {
    execute_by(None, runtime, plan, execution, interrupt, on)
}

/// Like [`execute`], but `carrier`, if given, executes the runs.
pub fn execute_by(
    carrier: Option<&dyn Carrier>,
    runtime: &Runtime,
    plan: &Plan,
    execution: &Execution,
    interrupt: &Interrupt,
    on: &mut (dyn FnMut(Event) + Send),
) -> Result<Executed, TaskError> {
    let names = Names::of(plan);
    for task in &plan.empty {
        let done = &Done::empty(task);
        on(Event::Finished { done });
    }
    let workers = Workers {
        carrier,
        runtime,
        execution,
        interrupt,
        names: &names,
        state: Mutex::new(Progress::new(runtime, plan, &names, execution)),
        changed: Condvar::new(),
        on: Mutex::new(on),
    };
    std::thread::scope(|scope| {
        let more = execution.jobs.get().min(most_at_a_time(plan)).saturating_sub(1);
        for _ in 0..more {
            // with fewer threads the result is the same, but it takes longer
            let spawned = std::thread::Builder::new()
                .name("lockstep-task".to_owned())
                .spawn_scoped(scope, || workers.work());
            if spawned.is_err() {
                break;
            }
        }
        workers.work();
    });
    let progress = workers.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = progress.failed {
        return Err(error);
    }
    let mut outputs = BTreeMap::new();
    for (name, source) in &plan.outputs {
        if let Some(given) = progress.made.given(&names, source, None) {
            outputs.insert(name.clone(), given.artifact(&runtime.store)?);
        }
    }
    let mut tasks: Vec<Done> = plan.empty.iter().map(|task| Done::empty(task)).collect();
    tasks.extend(progress.report(plan));
    Ok(Executed { tasks, outputs })
}

/// Returns the maximum number of tasks that can run at a time.
fn most_at_a_time(plan: &Plan) -> usize {
    match plan.tasks().iter().any(|task| task.for_each.is_some()) {
        true => usize::MAX,
        false => plan.tasks().len().max(1),
    }
}

/// The state that the threads share.
struct Workers<'a, 'o> {
    carrier: Option<&'a dyn Carrier>,
    runtime: &'a Runtime,
    execution: &'a Execution,
    interrupt: &'a Interrupt,
    names: &'a Names<'a>,
    state: Mutex<Progress<'a>>,
    changed: Condvar,
    on: Mutex<&'o mut (dyn FnMut(Event) + Send)>,
}

impl<'a> Workers<'a, '_> {
    /// Executes tasks until there are no more.
    fn work(&self) {
        let mut progress = self.lock();
        loop {
            if self.interrupt.is_triggered() {
                progress.stopped = true;
            }
            if let Some(job) = progress.take(self.names) {
                drop(progress);
                let became = caught(|| self.carry_out(&job));
                let became = became.unwrap_or_else(|error| Became::Ended(End::Error(error)));
                let settled = caught(|| self.settle(job, became));
                progress = settled.unwrap_or_else(|error| {
                    let mut progress = self.lock();
                    progress.fail(error);
                    progress
                });
                self.changed.notify_all();
            } else if progress.is_over() {
                return;
            } else {
                // an interrupt does not notify the condition variable
                let waited = self.changed.wait_timeout(progress, Duration::from_millis(50));
                progress = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn carry_out(&self, job: &Job<'a>) -> Became {
        self.tell(Event::Started { task: &job.name });
        let became = self.attempt(job);
        became.unwrap_or_else(|error| Became::Ended(End::Error(error)))
    }

    fn attempt(&self, job: &Job<'a>) -> Result<Became, TaskError> {
        if let Some(when) = failing(self.runtime, &job.conditions)? {
            return Ok(Became::Ended(End::Skipped(Skipped::When(when.clone()))));
        }
        if let (Part::Over(over), Some(each)) = (&job.part, &job.task.for_each) {
            let over = over.as_ref().ok_or(TaskError::NotMade)?;
            return Ok(Became::Expanded(parts(&self.runtime.store, over, each.rows)?));
        }
        let given = job.given.as_ref().ok_or(TaskError::NotMade)?;
        self.run(job, given).map(|ran| Became::Ended(End::Ran(Box::new(ran))))
    }

    /// Runs a task, with retries after results that may differ next time.
    fn run(&self, job: &Job<'a>, given: &BTreeMap<String, TaskInput>) -> Result<Ran, TaskError> {
        let run = self.runtime.equip(job.task.bind(gather(&self.runtime.store, given)?))?;
        let limits = job.task.limits.or(&self.execution.limits);
        let mut left = job.task.retries;
        let mut wait = self.execution.backoff;
        loop {
            let mut log = |stream: Stream, bytes: &[u8]| {
                self.tell(Event::Log {
                    task: &job.name,
                    stream,
                    bytes,
                })
            };
            let ran = self.run_once(&job.name, &run, &limits, &mut log);
            let because = match &ran {
                Ok(ran) if may_differ(&ran.record.outcome) => ran.record.outcome.to_string(),
                Err(TaskError::Run(error)) if is_passing(error) => error.to_string(),
                _ => return ran,
            };
            if left == 0 || self.interrupt.is_triggered() {
                return ran;
            }
            self.tell(Event::Retrying {
                task: &job.name,
                because: &because,
                left,
            });
            left -= 1;
            self.pause(wait);
            wait = (wait * 2).min(self.execution.backoff * 64);
        }
    }

    fn run_once(&self, task: &str, run: &Run, limits: &Limits, log: &mut dyn FnMut(Stream, &[u8])) -> Result<Ran, TaskError> {
        let (runtime, reuse) = (self.runtime, self.execution.reuse);
        match self.carrier {
            None => Ok(runtime.run(run, reuse, limits, self.interrupt, log)?),
            Some(carrier) => carrier.carry_out(task, run, limits, self.interrupt, log),
        }
    }

    /// Sleeps until the time has passed, or until interrupted.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.interrupt.is_triggered() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Records the result of a job, and updates the tasks that depend on it.
    fn settle(&self, job: Job<'a>, became: Became) -> MutexGuard<'_, Progress<'a>> {
        let mut progress = self.lock();
        let whole = match became {
            Became::Ended(end) => self.end(&mut progress, job.node, end),
            Became::Expanded(parts) => {
                self.tell(Event::Expanded {
                    task: &job.name,
                    count: parts.len(),
                });
                progress.expand(job.node, parts)
            }
        };
        let Some(group) = whole else {
            progress.admission.release(job.need);
            return progress;
        };
        let together = progress.together(group);
        let task = progress.nodes[group].task;
        drop(progress);
        let made = together.map(|instances| gathered(&self.runtime.store, &task.run.outputs, &instances));
        progress = self.lock();
        match made {
            Some(Ok(outputs)) => {
                if progress.nodes[group].instances.is_empty() {
                    let done = Done::empty(&progress.nodes[group].name);
                    self.tell(Event::Finished { done: &done });
                    progress.nodes[group].end = Some(done.end);
                }
                progress.whole(group, outputs);
            }
            None => self.after(&mut progress, group),
            Some(Err(error)) => drop(self.end(&mut progress, group, End::Error(error.into()))),
        }
        // not before: otherwise the other threads would see that everything is over
        progress.admission.release(job.need);
        progress
    }

    /// Ends a node. Returns its group if it was the last member.
    fn end(&self, progress: &mut Progress<'a>, node: usize, end: End) -> Option<usize> {
        let ending = match &end {
            End::Ran(ran) if ran.record.outcome.succeeded() => Ending::Succeeded,
            End::Skipped(_) => Ending::Skipped,
            _ => Ending::Failed,
        };
        if let (End::Ran(ran), Ending::Succeeded) = (&end, ending) {
            progress.made.insert(node, ran.record.outputs.clone());
        }
        if ending == Ending::Failed && !self.execution.keep_going {
            progress.stopped = true;
        }
        let done = Done {
            task: progress.nodes[node].name.clone(),
            end,
        };
        self.tell(Event::Finished { done: &done });
        progress.nodes[node].end = Some(done.end);
        let change = progress.schedule.finish(node, ending).unwrap_or_default();
        self.spread(progress, node, change)
    }

    /// Marks a group as failed, and skips the tasks that depend on it.
    fn after(&self, progress: &mut Progress<'a>, group: usize) {
        let change = progress.schedule.finish(group, Ending::Failed).unwrap_or_default();
        self.spread(progress, group, change);
    }

    fn spread(&self, progress: &mut Progress<'a>, cause: usize, change: super::Change) -> Option<usize> {
        progress.admit(&change.ready);
        for node in change.skipped {
            let done = Done {
                task: progress.nodes[node].name.clone(),
                end: End::Skipped(Skipped::After(progress.nodes[cause].name.clone())),
            };
            self.tell(Event::Finished { done: &done });
            progress.nodes[node].end = Some(done.end);
        }
        change.whole
    }

    fn tell(&self, event: Event) {
        (self.on.lock().unwrap_or_else(PoisonError::into_inner))(event);
    }

    fn lock(&self) -> MutexGuard<'_, Progress<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `act`. A panic becomes an error.
fn caught<T>(act: impl FnOnce() -> T) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        TaskError::Panicked(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}

/// Returns whether the same run might have another outcome next time on this machine.
fn may_differ(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Interrupted {
            by: Interruption::Host | Interruption::Time
        }
    )
}

/// Returns whether the error may be temporary.
fn is_passing(error: &RunError) -> bool {
    use StoreError::{File, Index};
    matches!(
        error,
        RunError::Store(File { .. } | Index(_)) | RunError::Sandbox(SandboxError::Thread(_))
    )
}
