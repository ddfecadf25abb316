//! Submitted work items: single runs and plans, from the queue to their result.
//!
//! Each work item that runs in the background has a file in the namespace's `works/`, so that it resumes after a restart of the host.
//! That is sound because runs are pure: finished runs are found in the store, and the rest is run.

mod journal;
mod kept;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_runtime::pipeline::{Done, End, Event, Execution, Plan, execute};
use lockstep_runtime::run::{Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use lockstep_runtime::step::{Limits, OwnLimits};
use lockstep_runtime::store::Store;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::events;
use lockstep_view::executed::{to_json, verdict};
use lockstep_view::report;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::gate::Gate;
use super::traces;
use crate::machine::available_memory;

pub use journal::{Entry, Journal};

/// The request of a work item.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Submission {
    /// A single run.
    Run {
        run: Box<Run>,
        #[serde(default)]
        limits: OwnLimits,
        /// Ignore cached results.
        #[serde(default)]
        fresh: bool,
    },
    /// A plan.
    Plan {
        plan: Box<Plan>,
        #[serde(default)]
        limits: OwnLimits,
        #[serde(default)]
        fresh: bool,
        /// After a failure, run the tasks that do not depend on it.
        #[serde(default)]
        keep_going: bool,
    },
}

/// State of a work item or of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkState {
    /// Waits for a turn, or for other tasks.
    Queued,
    Running,
    Succeeded,
    Failed,
    Interrupted,
    /// Not run.
    Skipped,
}

impl WorkState {
    /// Whether the state is final.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
        }
    }
}

/// Progress of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskProgress {
    pub task: String,
    pub state: WorkState,
    /// Unix time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Digest of the record, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Whether the result came from the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Error message, or the reason for skipping it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// Progress of a work item.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    pub state: WorkState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Tasks in the order of the plan, followed by instances in the order of their start.
    pub tasks: Vec<TaskProgress>,
    /// Result, as printed by `lockstep run --json`, or `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// A work item.
#[derive(Debug)]
pub struct WorkItem {
    pub id: String,
    /// Name of the step or the pipeline.
    pub title: String,
    /// Unix time in milliseconds.
    pub submitted_ms: u64,
    pub submission: Submission,
    pub journal: Journal,
    interrupt: Interrupt,
    tracked: Mutex<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    progress: Progress,
    /// Index of each task in `progress`.
    places: BTreeMap<String, usize>,
}

impl WorkItem {
    fn new(id: String, submitted_ms: u64, submission: Submission, progress: Option<Progress>) -> Self {
        let title = match &submission {
            Submission::Run { run, .. } if run.entry.title().is_empty() => "program".to_owned(),
            Submission::Run { run, .. } => run.entry.title(),
            Submission::Plan { plan, .. } => plan.name.clone(),
        };
        let progress = progress.unwrap_or_else(|| Progress {
            state: WorkState::Queued,
            started_ms: None,
            ended_ms: None,
            tasks: tasks(&submission, &title),
            result: None,
        });
        let names = progress.tasks.iter().enumerate();
        let places = names.map(|(place, task)| (task.task.clone(), place)).collect();
        let journal = Journal::default();
        if let Some(result) = &progress.result {
            journal.end("ended", result);
        }
        Self {
            id,
            title,
            submitted_ms,
            submission,
            journal,
            interrupt: Interrupt::default(),
            tracked: Mutex::new(Tracked { progress, places }),
        }
    }

    /// Returns the plan; `None` for a single run.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.submission {
            Submission::Plan { plan, .. } => Some(plan),
            Submission::Run { .. } => None,
        }
    }

    pub fn progress(&self) -> Progress {
        self.lock().progress.clone()
    }

    pub fn state(&self) -> WorkState {
        self.lock().progress.state
    }

    /// Cancels the work item. Finished tasks keep their records.
    pub fn cancel(&self) {
        self.interrupt.trigger();
    }

    /// Returns `id`, `kind`, `title`, `submitted_ms` and the fields of [`Progress`].
    pub fn to_json(&self) -> Value {
        let mut object = json!(self.lock().progress);
        object["id"] = json!(self.id);
        object["kind"] = json!(if self.plan().is_some() { "plan" } else { "run" });
        object["title"] = json!(self.title);
        object["submitted_ms"] = json!(self.submitted_ms);
        object
    }

    fn lock(&self) -> MutexGuard<'_, Tracked> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        let progress = &mut self.lock().progress;
        progress.state = WorkState::Running;
        progress.started_ms = Some(now_ms());
    }

    fn end(&self, result: Result<(WorkState, Value)>) {
        let (state, result) = result.unwrap_or_else(|error| match error.kind() {
            Kind::Interrupted => (WorkState::Interrupted, error.to_json()),
            _ => (WorkState::Failed, error.to_json()),
        });
        let mut tracked = self.lock();
        tracked.progress.state = state;
        tracked.progress.ended_ms = Some(now_ms());
        tracked.progress.result = Some(result.clone());
        drop(tracked);
        self.journal.end("ended", &result);
    }

    fn task(&self, name: &str, change: impl FnOnce(&mut TaskProgress)) {
        let Tracked { progress, places } = &mut *self.lock();
        let place = *places.entry(name.to_owned()).or_insert(progress.tasks.len());
        if place == progress.tasks.len() {
            progress.tasks.push(waiting(name));
        }
        change(&mut progress.tasks[place]);
    }

    /// Executes the work item. Blocks.
    fn carry_out(&self, runtime: &Runtime, jobs: NonZeroUsize) -> Result<(WorkState, Value)> {
        match &self.submission {
            Submission::Run { run, limits, fresh } => {
                self.on(Event::Started { task: &self.title });
                let ran = run_one(
                    runtime,
                    run,
                    &limits.or(&Limits::default()),
                    *fresh,
                    &self.interrupt,
                    &mut |stream, bytes| {
                        self.on(Event::Log {
                            task: &self.title,
                            stream,
                            bytes,
                        });
                    },
                )?;
                let result = ran.to_json();
                let done = Done {
                    task: self.title.clone(),
                    end: End::Ran(Box::new(ran)),
                };
                self.on(Event::Finished { done: &done });
                Ok((state(&done.end), result))
            }
            Submission::Plan {
                plan,
                limits,
                fresh,
                keep_going,
            } => {
                let execution = Execution {
                    jobs,
                    memory: available_memory().unwrap_or(u64::MAX),
                    reuse: reuse(*fresh),
                    limits: limits.or(&Limits::default()),
                    keep_going: *keep_going,
                    ..Execution::default()
                };
                let _within = traces::plan(plan).entered();
                let executed = execute(runtime, plan, &execution, &self.interrupt, &mut |event| self.on(event))?;
                warn_unpublished(runtime);
                let mut result = to_json(plan, &executed)?;
                let state = match verdict(executed.tasks, &self.interrupt) {
                    Ok(()) => WorkState::Succeeded,
                    Err(error) => {
                        result["error"] = error.to_json()["error"].take();
                        if self.interrupt.is_triggered() {
                            WorkState::Interrupted
                        } else {
                            WorkState::Failed
                        }
                    }
                };
                Ok((state, result))
            }
        }
    }

    fn on(&self, event: Event) {
        match &event {
            Event::Started { task } => self.task(task, |task| {
                task.state = WorkState::Running;
                task.started_ms = Some(now_ms());
            }),
            Event::Expanded { task, count } => self.task(task, |task| task.says = Some(report::counted(*count, "part"))),
            Event::Log { .. } | Event::Retrying { .. } => {}
            Event::Finished { done } => self.task(&done.task, |task| {
                task.state = state(&done.end);
                task.ended_ms = Some(now_ms());
                match &done.end {
                    End::Ran(ran) => {
                        (task.record, task.cached) = (Some(ran.digest.hex()), ran.cached);
                        task.says = (!ran.record.outcome.succeeded()).then(|| ran.record.outcome.to_string());
                    }
                    End::Skipped(skipped) => task.says = Some(report::skipped(skipped)),
                    End::Error(error) => task.says = Some(error.to_string()),
                    End::Empty => task.says = Some(report::counted(0, "instance")),
                    End::NotStarted => {}
                }
            }),
        }
        let (name, told) = events::told(&event);
        self.journal.tell(name, &told);
    }
}

/// Executes a run. Blocks.
pub fn run_one(
    runtime: &Runtime,
    run: &Run,
    limits: &Limits,
    fresh: bool,
    interrupt: &Interrupt,
    log: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Ran> {
    let span = traces::span(run);
    let ran = span.in_scope(|| runtime.run(run, reuse(fresh), limits, interrupt, log))?;
    traces::ran(&span, &ran);
    warn_unpublished(runtime);
    Ok(ran)
}

/// Logs the records that the shared store lacks.
fn warn_unpublished(runtime: &Runtime) {
    for (record, why) in runtime.store.take_unpublished() {
        tracing::warn!("record {} is complete, but not in the shared store: {why}", record.hex());
    }
}

fn reuse(fresh: bool) -> Reuse {
    if fresh { Reuse::Nothing } else { Reuse::Records }
}

fn tasks(submission: &Submission, title: &str) -> Vec<TaskProgress> {
    match submission {
        Submission::Run { .. } => vec![waiting(title)],
        Submission::Plan { plan, .. } => plan.tasks().iter().map(|task| waiting(&task.name)).collect(),
    }
}

fn waiting(name: &str) -> TaskProgress {
    TaskProgress {
        task: name.to_owned(),
        state: WorkState::Queued,
        started_ms: None,
        ended_ms: None,
        record: None,
        cached: false,
        says: None,
    }
}

fn state(end: &End) -> WorkState {
    use lockstep_runtime::step::Outcome;
    match end {
        End::Ran(ran) => match ran.record.outcome {
            Outcome::Succeeded => WorkState::Succeeded,
            Outcome::Failed(_) => WorkState::Failed,
            Outcome::Interrupted { .. } => WorkState::Interrupted,
        },
        End::Empty => WorkState::Succeeded,
        End::Skipped(_) => WorkState::Skipped,
        End::Error(_) => WorkState::Failed,
        End::NotStarted => WorkState::Interrupted,
    }
}

/// Returns the Unix time in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// Number of finished work items to keep. At twice this number, the older half is removed.
const REMEMBERED: usize = 5_000;

/// The work items of a namespace. The durability of the store also applies to their files.
pub struct Works {
    directory: PathBuf,
    store: Store,
    all: Mutex<BTreeMap<String, Arc<WorkItem>>>,
    next: AtomicU64,
}

impl Works {
    /// Opens the work items in `directory`. Also returns the unfinished ones.
    pub fn open(directory: PathBuf, store: &Store) -> Result<(Self, Vec<Arc<WorkItem>>)> {
        std::fs::create_dir_all(&directory).map_err(|e| Error::file("create", &directory, &e))?;
        let all: BTreeMap<String, Arc<WorkItem>> = kept::read(&directory)
            .into_iter()
            .map(|work| (work.id.clone(), Arc::new(work)))
            .collect();
        let unfinished = all.values().filter(|work| !work.state().is_over()).cloned().collect();
        let works = Self {
            directory,
            store: store.clone(),
            all: Mutex::new(all),
            next: AtomicU64::new(0),
        };
        Ok((works, unfinished))
    }

    /// Returns the work item `id`.
    pub fn get(&self, id: &str) -> Option<Arc<WorkItem>> {
        self.lock().get(id).cloned()
    }

    /// Returns all work items, newest first.
    pub fn newest(&self) -> Vec<Arc<WorkItem>> {
        self.lock().values().rev().cloned().collect()
    }

    /// Creates a queued work item. It is on disk when this returns.
    pub fn submit(&self, submission: Submission) -> Result<Arc<WorkItem>> {
        let submitted_ms = now_ms();
        // sorted by time, and unique across restarts of the host
        let id = format!(
            "{submitted_ms:012x}{:04x}{:04x}",
            self.next.fetch_add(1, Ordering::Relaxed) & 0xffff,
            rand::random::<u16>()
        );
        let work = Arc::new(WorkItem::new(id.clone(), submitted_ms, submission, None));
        self.store.settle(&kept::write(&self.directory, &work)?)?;
        let mut all = self.lock();
        all.insert(id, work.clone());
        if all.len() >= 2 * REMEMBERED {
            let over = all.values().filter(|work| work.state().is_over());
            let over: Vec<String> = over.map(|work| work.id.clone()).collect();
            for id in &over[..over.len().saturating_sub(REMEMBERED)] {
                all.remove(id);
                kept::remove(&self.directory, id);
            }
        }
        Ok(work)
    }

    /// Waits for a turn, executes `work` and stores its result.
    pub async fn carry_out(self: Arc<Self>, work: Arc<WorkItem>, runtime: Runtime, gate: Arc<Gate>) {
        let Some(turn) = gate.turn_unless(work.cancelled(), work.interrupt()).await else {
            if gate.is_closing() {
                return work.end(Err(left()));
            }
            work.end(Ok((WorkState::Interrupted, cancelled().to_json())));
            return self.keep(&work);
        };
        work.start();
        let jobs = turn.jobs();
        let own = work.clone();
        let ended = tokio::task::spawn_blocking(move || own.carry_out(&runtime, jobs)).await;
        drop(turn);
        if gate.is_closing() && work.interrupt.is_triggered() {
            return work.end(Err(left()));
        }
        work.end(ended.unwrap_or_else(|e| Err(Error::host(format_args!("internal error in the run: {e}")))));
        self.keep(&work);
    }

    fn keep(&self, work: &WorkItem) {
        if let Err(error) = kept::write(&self.directory, work) {
            tracing::error!(work = work.id, "can't store the result of a work item: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<WorkItem>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Error of work that a shutdown interrupts. It is not stored, so the work resumes after the next start.
fn left() -> Error {
    Error::new(Kind::Interrupted, "the host is shutting down")
        .hint("the work item resumes under the same ID when the host starts again")
}

fn cancelled() -> Error {
    Error::new(Kind::Interrupted, "cancelled before the start")
}

impl WorkItem {
    /// Returns the interrupt that cancels the work item.
    pub(super) fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Waits until the work item is cancelled.
    pub(super) async fn cancelled(&self) {
        while !self.interrupt.is_triggered() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}
