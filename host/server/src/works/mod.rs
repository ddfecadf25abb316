//! Submitted work items: single runs and plans, from the queue to their result.
//!
//! All of them go one way, also those whose client waits for the result. A work item that the client is told of, or that takes longer
//! than `SOON`, has a row in the namespace's table, so that it resumes after a restart of the host. That is sound because runs are pure:
//! finished runs are found in the store, and the rest is run.

mod attended;
mod files;
mod item;
mod journal;
mod table;
mod tasks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_runtime::pipeline::{Done, End, Event, Execution, Plan, execute_by};
use lockstep_runtime::run::{Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::Stream;
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Durability;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::executed::{to_json, verdict};
use serde_json::Value;

use super::fair::{Owner, Share};
use super::gate::{Gate, Place, Turn};
use super::metrics::Metrics;
use super::room::Room;
use super::{Server, traces};
use item::{of_error, outcome};
use tasks::Tasks;

pub use attended::Attended;
pub use item::{Listed, Progress, Submission, TaskProgress, WorkItem, WorkState, now_ms};
pub use journal::Entry;
pub use table::{Sql, Table, copy, json, submissions};

/// Name of the table's file in the host's directory.
pub const TABLE: &str = "works.sqlite";

/// Number of finished work items to keep. At twice this number, the older half is removed.
const REMEMBERED: usize = 5_000;

/// A work item that was running when this many processes of the host ended is not started again.
const ATTEMPTS: u32 = 2;

/// The work items of a namespace. Those that are over are only in the table.
pub struct Works {
    pub(super) table: Arc<Table>,
    owner: Owner,
    room: Arc<Room>,
    active: Mutex<BTreeMap<String, Arc<WorkItem>>>,
    /// Number of rows.
    rows: AtomicUsize,
    next: AtomicU64,
}

impl Works {
    /// Opens the work items in the host's directory `directory`. Also returns the unfinished ones. Counts those that it gives up.
    pub fn open(
        directory: &Path,
        owner: Owner,
        durability: Durability,
        room: Arc<Room>,
        metrics: &Metrics,
    ) -> Result<(Self, Vec<Arc<WorkItem>>)> {
        std::fs::create_dir_all(directory).map_err(|e| Error::file("create", directory, &e))?;
        let table = Arc::new(Table::open(&directory.join(TABLE), durability != Durability::None)?);
        let (earlier, files): (Vec<_>, Vec<_>) = files::read(&directory.join("works"), &owner).into_iter().unzip();
        if !earlier.is_empty() {
            table.import(earlier.iter())?;
            // one that remains is imported again
            files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        }
        let works = Self {
            rows: AtomicUsize::new(table.len()?),
            table,
            owner,
            room,
            active: Mutex::default(),
            next: AtomicU64::new(0),
        };
        let mut unfinished = Vec::new();
        for work in works.table.unfinished(&works.owner)? {
            let was_running = work.state() == WorkState::Running;
            if was_running && work.attempts() >= ATTEMPTS {
                tracing::error!(work = work.id, "{}", given_up().message());
                work.end(Err(given_up()));
                metrics.ended(work.kind(), work.state().word());
                works.note(&work);
                continue;
            }
            work.forget_progress();
            let work = Arc::new(work);
            works.lock().insert(work.id.clone(), work.clone());
            unfinished.push(work);
        }
        Ok((works, unfinished))
    }

    /// Returns the work item `id`. Reads the disk.
    pub fn get(&self, id: &str) -> Result<Option<Arc<WorkItem>>> {
        let active = self.lock().get(id).cloned();
        match active {
            Some(work) => Ok(Some(work)),
            None => Ok(self.table.get(id, &self.owner)?.map(Arc::new)),
        }
    }

    /// Returns at most `most` work items, newest first. Reads the disk.
    pub fn newest(&self, most: usize) -> Result<Vec<Listed>> {
        let mut all: BTreeMap<String, Listed> = self
            .table
            .newest(most)?
            .into_iter()
            .map(|work| (work.id.clone(), work))
            .collect();
        for work in self.lock().values().rev().take(most) {
            all.insert(work.id.clone(), work.listed());
        }
        Ok(all.into_values().rev().take(most).collect())
    }

    /// Returns the number of cached tasks of all work items. Reads the disk.
    pub fn cached(&self) -> Result<u64> {
        self.table.cached()
    }

    /// Creates a queued work item. It is not on disk.
    pub fn submit(&self, submission: Submission, token: Option<String>) -> Arc<WorkItem> {
        let submitted_ms = now_ms();
        // sorted by time, and unique across restarts of the host
        let id = format!(
            "{submitted_ms:012x}{:04x}{:04x}",
            self.next.fetch_add(1, Ordering::Relaxed) & 0xffff,
            rand::random::<u16>()
        );
        let work = Arc::new(WorkItem::new(id.clone(), submitted_ms, submission, self.owner.clone(), token));
        self.lock().insert(id, work.clone());
        work
    }

    /// Writes the work item to the table. With `settle`, it is on disk when this returns.
    pub fn keep(&self, work: &WorkItem, settle: bool) -> Result<()> {
        if work.kept.load(Ordering::SeqCst) && self.table.update(work, settle)? {
            return Ok(());
        }
        self.table.insert(work, settle)?;
        if self.rows.fetch_add(1, Ordering::Relaxed) >= 2 * REMEMBERED {
            self.table.forget(REMEMBERED)?;
            self.rows.store(self.table.len()?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Cancels a work item. When this returns, the next host does not start it again, even if this one ends before the guests have stopped.
    /// Writes to the disk.
    pub fn cancel(&self, work: &WorkItem) {
        work.cancel();
        if work.kept.load(Ordering::SeqCst)
            && let Err(error) = self.table.cancel(work, &cancelled_while_running())
        {
            tracing::error!(work = work.id, "can't store that a work item is cancelled: {error}");
        }
    }

    /// Removes a work item that was not accepted.
    pub fn drop_unaccepted(&self, work: &WorkItem) {
        self.lock().remove(&work.id);
    }

    /// Like [`carry_out`](Self::carry_out), for work that was running when the host ended. One work item at a time starts this way, so that only the one
    /// that ends the host is given up.
    pub async fn carry_out_suspect(
        self: Arc<Self>,
        work: Arc<WorkItem>,
        runtime: Runtime,
        server: Arc<Server>,
        place: Place,
    ) -> Option<Result<Ran>> {
        let _alone = tokio::select! {
            biased;
            // it ends at once
            () = work.stop.triggered() => None,
            alone = server.suspects.lock() => Some(alone),
        };
        self.carry_out(work.clone(), runtime, server.clone(), place).await
    }

    /// Waits for a turn, executes `work` and stores its result. Returns the result of a run; `None` if it has none, because `work` is a plan or
    /// because the host shuts down.
    pub async fn carry_out(
        self: Arc<Self>,
        work: Arc<WorkItem>,
        runtime: Runtime,
        server: Arc<Server>,
        place: Place,
    ) -> Option<Result<Ran>> {
        let gate = server.gate.clone();
        let turn = gate.turn(place, &work.stop).await;
        let memory = match (&turn, &work.submission) {
            (Some(_), Submission::Run { limits, .. }) => {
                let limits = gate.limits(&work.owner, limits);
                gate.memory(&work.owner, limits.memory, &work.stop).await
            }
            _ => None,
        };
        let span = tracing::Span::current();
        let (works, own) = (self.clone(), work.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let _within = span.entered();
            works.carry_out_now(&own, &runtime, &server, (turn, memory))
        });
        ended.await.unwrap_or_else(|e| {
            let error = || Error::host(format_args!("internal error in the run: {e}"));
            work.end(Err(error()));
            let own = work.clone();
            drop(tokio::task::spawn_blocking(move || self.finish(&own)));
            Some(Err(error()))
        })
    }

    /// Executes work that has its turn, or ends work that did not get one. Blocks.
    fn carry_out_now(
        &self,
        work: &WorkItem,
        runtime: &Runtime,
        server: &Server,
        (turn, memory): (Option<Turn>, Option<Share>),
    ) -> Option<Result<Ran>> {
        let (result, ran) = match &turn {
            None if !work.is_cancelled() => {
                self.leave(work);
                return None;
            }
            None => (Err(cancelled()), Some(Err(cancelled()))),
            Some(_) => {
                work.start();
                self.note(work);
                work.carry_out(runtime, &server.gate, &server.metrics, &self.room)
            }
        };
        // release the turn before a client can see the final state
        drop((memory, turn));
        if server.gate.is_closing() && work.stop.interrupt.is_triggered() && !work.is_cancelled() {
            self.leave(work);
            return None;
        }
        work.end(result);
        server.metrics.ended(work.kind(), work.state().word());
        self.finish(work);
        ran
    }

    /// Queues unfinished work for the next start of the host.
    fn leave(&self, work: &WorkItem) {
        if work.kept.load(Ordering::SeqCst) {
            work.requeue();
            self.note(work);
        }
        work.end(Err(left()));
    }

    /// Writes the end of a work item, which from then on is only in the table.
    fn finish(&self, work: &WorkItem) {
        if self.note(work) {
            self.lock().remove(&work.id);
        }
    }

    /// Updates the row of a work item, if it has one. Returns false if that failed.
    fn note(&self, work: &WorkItem) -> bool {
        let noted = match work.kept.load(Ordering::SeqCst) {
            true => self.table.update(work, false).map(drop),
            false => Ok(()),
        };
        noted
            .inspect_err(|error| tracing::error!(work = work.id, "can't store the state of a work item: {error}"))
            .is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<WorkItem>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
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

fn cancelled_while_running() -> Error {
    Error::new(Kind::Interrupted, "cancelled; the host ended before the work item did")
}

fn given_up() -> Error {
    Error::host("the host ended twice while this job ran; it is not started again").hint(
        "the job may need more memory than the host has: set its memory limit, such as `--memory 2GiB`, and submit it again",
    )
}

impl WorkItem {
    /// Executes the work item. Blocks. Also returns the result of a run.
    fn carry_out(
        &self,
        runtime: &Runtime,
        gate: &Gate,
        metrics: &Metrics,
        room: &Room,
    ) -> (Result<(WorkState, Value)>, Option<Result<Ran>>) {
        let on = |event: Event| {
            if let Event::Finished { done } = &event
                && let End::Ran(ran) = &done.end
            {
                metrics.ran(ran);
                room.ran(ran);
            }
            self.on(&event);
        };
        match &self.submission {
            Submission::Run { run, limits, fresh } => {
                // there may be less room than when it was submitted
                if let Err(refusal) = room.check(&gate.quota(&self.owner)) {
                    return (Ok(of_error(&refusal.error)), Some(Err(refusal.error)));
                }
                let limits = gate.limits(&self.owner, limits);
                match self.carry_out_run(runtime, run, &limits, reuse(*fresh), &on) {
                    Ok(ran) => {
                        metrics.took(Duration::from_millis(now_ms().saturating_sub(self.submitted_ms)));
                        (Ok((outcome(&ran), ran.to_json())), Some(Ok(ran)))
                    }
                    Err(error) => (Ok(of_error(&error)), Some(Err(error))),
                }
            }
            Submission::Plan {
                plan,
                limits,
                fresh,
                keep_going,
            } => {
                let execution = Execution {
                    jobs: gate.jobs(),
                    // the tasks share the memory of the host with all other runs
                    memory: u64::MAX,
                    reuse: reuse(*fresh),
                    limits: gate.limits(&self.owner, limits),
                    keep_going: *keep_going,
                    ..Execution::default()
                };
                (self.carry_out_plan(runtime, plan, &execution, (gate, room), &on), None)
            }
        }
    }

    fn carry_out_run(&self, runtime: &Runtime, run: &Run, limits: &Limits, reuse: Reuse, on: &dyn Fn(Event)) -> Result<Ran> {
        on(Event::Started { task: &self.title });
        let span = traces::span(run);
        let mut log = |stream: Stream, bytes: &[u8]| {
            on(Event::Log {
                task: &self.title,
                stream,
                bytes,
            });
        };
        let ran = span.in_scope(|| runtime.run(run, reuse, limits, &self.stop.interrupt, &mut log))?;
        traces::ran(&span, &ran);
        warn_unpublished(runtime);
        let done = Done {
            task: self.title.clone(),
            end: End::Ran(Box::new(ran.clone())),
        };
        on(Event::Finished { done: &done });
        Ok(ran)
    }

    fn carry_out_plan(
        &self,
        runtime: &Runtime,
        plan: &Plan,
        execution: &Execution,
        (gate, room): (&Gate, &Room),
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<(WorkState, Value)> {
        let interrupt = &self.stop.interrupt;
        let _within = traces::plan(plan).entered();
        let tasks = Tasks::new(runtime, self, (gate, room), execution.reuse);
        let executed = execute_by(Some(&tasks), runtime, plan, execution, interrupt, &mut |event| on(event))?;
        warn_unpublished(runtime);
        let mut result = to_json(plan, &executed)?;
        let state = match verdict(executed.tasks, interrupt) {
            Ok(()) => WorkState::Succeeded,
            Err(error) => {
                result["error"] = error.to_json()["error"].take();
                match interrupt.is_triggered() {
                    true => WorkState::Interrupted,
                    false => WorkState::Failed,
                }
            }
        };
        Ok((state, result))
    }
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
