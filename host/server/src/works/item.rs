use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_runtime::pipeline::{End, Event, Plan};
use lockstep_runtime::run::{Ran, Run};
use lockstep_runtime::step::{Outcome, OwnLimits};
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::{events, report};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::journal::Journal;
use crate::fair::Owner;
use crate::gate::Stop;

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

    /// Returns the state that [`word`](Self::word) names.
    pub fn from_word(word: &str) -> Option<Self> {
        use WorkState::{Failed, Interrupted, Queued, Running, Skipped, Succeeded};
        let all = [Queued, Running, Succeeded, Failed, Interrupted, Skipped];
        all.into_iter().find(|state| state.word() == word)
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

/// Numbers of tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub executed: u64,
    pub cached: u64,
    pub failed: u64,
}

impl Progress {
    fn queued(submission: &Submission, title: &str) -> Self {
        Self {
            state: WorkState::Queued,
            started_ms: None,
            ended_ms: None,
            tasks: tasks(submission, title),
            result: None,
        }
    }

    pub fn counts(&self) -> Counts {
        let count = |is: fn(&TaskProgress) -> bool| self.tasks.iter().filter(|task| is(task)).count() as u64;
        Counts {
            executed: count(|task| task.record.is_some() && !task.cached),
            cached: count(|task| task.cached),
            failed: count(|task| task.state == WorkState::Failed),
        }
    }
}

/// What a list of work items shows of one.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    pub id: String,
    /// `run` or `plan`.
    pub kind: String,
    pub title: String,
    pub submitted_ms: u64,
    pub state: WorkState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    #[serde(skip)]
    pub counts: Counts,
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
    /// The user, for whom it takes turns.
    pub owner: Owner,
    /// Name of the token that submitted it.
    pub token: Option<String>,
    pub journal: Journal,
    pub(super) stop: Arc<Stop>,
    /// How often it was started, except for starts that a shutdown of the host ended.
    attempts: AtomicU32,
    cancelled: AtomicBool,
    /// Whether it has a row in the table.
    pub(super) kept: AtomicBool,
    tracked: Mutex<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    progress: Progress,
    /// Index of each task in `progress`.
    places: BTreeMap<String, usize>,
}

impl Tracked {
    fn new(progress: Progress) -> Self {
        let names = progress.tasks.iter().enumerate();
        let places = names.map(|(place, task)| (task.task.clone(), place)).collect();
        Self { progress, places }
    }
}

impl WorkItem {
    /// Creates a queued work item.
    pub(super) fn new(id: String, submitted_ms: u64, submission: Submission, owner: Owner, token: Option<String>) -> Self {
        let title = match &submission {
            Submission::Run { run, .. } if run.entry.title().is_empty() => "program".to_owned(),
            Submission::Run { run, .. } => run.entry.title(),
            Submission::Plan { plan, .. } => plan.name.clone(),
        };
        let progress = Progress::queued(&submission, &title);
        Self {
            id,
            title,
            submitted_ms,
            submission,
            owner,
            token,
            journal: Journal::default(),
            stop: Arc::default(),
            attempts: AtomicU32::new(0),
            cancelled: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            tracked: Mutex::new(Tracked::new(progress)),
        }
    }

    /// Sets what the table has about the work item.
    pub(super) fn restored(self, progress: Option<Progress>, attempts: u32, journal: Journal) -> Self {
        let progress = progress.unwrap_or_else(|| self.progress());
        if let Some(result) = &progress.result {
            journal.end("ended", result);
        }
        Self {
            journal,
            attempts: AtomicU32::new(attempts),
            kept: AtomicBool::new(true),
            tracked: Mutex::new(Tracked::new(progress)),
            ..self
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

    /// Whether it was cancelled, and not only stopped by a shutdown.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// How often it was started, except for starts that a shutdown of the host ended.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Cancels the work item. Its state changes when its guests have stopped. Finished tasks keep their records.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.stop.trigger();
    }

    /// Returns `run` or `plan`.
    pub(super) fn kind(&self) -> &'static str {
        if self.plan().is_some() { "plan" } else { "run" }
    }

    pub(super) fn listed(&self) -> Listed {
        let progress = &self.lock().progress;
        Listed {
            id: self.id.clone(),
            kind: self.kind().to_owned(),
            title: self.title.clone(),
            submitted_ms: self.submitted_ms,
            state: progress.state,
            started_ms: progress.started_ms,
            ended_ms: progress.ended_ms,
            counts: progress.counts(),
        }
    }

    /// Returns `id`, `kind`, `title`, `submitted_ms` and the fields of [`Progress`].
    pub fn to_json(&self) -> Value {
        let mut object = json!(self.lock().progress);
        object["id"] = json!(self.id);
        object["kind"] = json!(self.kind());
        object["title"] = json!(self.title);
        object["submitted_ms"] = json!(self.submitted_ms);
        object
    }

    fn lock(&self) -> MutexGuard<'_, Tracked> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let progress = &mut self.lock().progress;
        progress.state = WorkState::Running;
        progress.started_ms = Some(now_ms());
    }

    /// Queues it again, because the host shuts down. The start does not count.
    pub(super) fn requeue(&self) {
        let started = self.state() == WorkState::Running;
        self.attempts.fetch_sub(u32::from(started), Ordering::Relaxed);
        self.forget_progress();
    }

    /// Makes it a work item that has not started.
    pub(super) fn forget_progress(&self) {
        *self.lock() = Tracked::new(Progress::queued(&self.submission, &self.title));
    }

    pub(super) fn end(&self, result: Result<(WorkState, Value)>) {
        let (state, result) = result.unwrap_or_else(|error| of_error(&error));
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

    pub(super) fn on(&self, event: &Event) {
        match event {
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
        let (name, told) = events::told(event);
        self.journal.tell(name, &told);
    }
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

/// Returns the state of work that ends with `error`, and its result.
pub(super) fn of_error(error: &Error) -> (WorkState, Value) {
    let state = match error.kind() {
        Kind::Interrupted => WorkState::Interrupted,
        _ => WorkState::Failed,
    };
    (state, error.to_json())
}

pub(super) fn outcome(ran: &Ran) -> WorkState {
    match ran.record.outcome {
        Outcome::Succeeded => WorkState::Succeeded,
        Outcome::Failed(_) => WorkState::Failed,
        Outcome::Interrupted { .. } => WorkState::Interrupted,
    }
}

fn state(end: &End) -> WorkState {
    match end {
        End::Ran(ran) => outcome(ran),
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
