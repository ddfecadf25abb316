//! Schedules: plans that the host runs at certain times, or when a webhook is called.
//!
//! A schedule stores its submission (plan and limits), and each start submits the same work.

mod when;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_view::error::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::works::{self, Sql, Submission, Table};

pub use when::When;

/// Number of starts of a schedule to remember.
const REMEMBERED: i64 = 1_000;

/// A schedule, without its submission.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub name: String,
    /// `None` if only a webhook or a person starts it.
    pub times: Option<Times>,
    pub hook: Option<Hook>,
    /// Start it although the work item of its last start still runs.
    pub overlap: bool,
    pub state: State,
    /// Name and hash of the token that added or resumed it; `None` for users that a proxy names.
    pub token: Option<(String, Digest)>,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Digest of the plan.
    pub plan: Digest,
    /// The next time, unless it is paused or stopped. Unix time in milliseconds.
    pub next_ms: Option<u64>,
}

/// The times of a schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// Cron expression of five fields.
    pub cron: String,
    /// Time zone of the IANA database.
    pub zone: String,
    /// Start it once for all times that passed while the host did not run.
    pub catch_up: bool,
}

impl Times {
    pub fn when(&self) -> Result<When> {
        When::parse(&self.cron, &self.zone)
    }
}

/// A webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Last part of its path.
    pub id: String,
    /// Key of its signatures.
    pub secret: String,
}

/// Whether a schedule starts anything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    /// By a person.
    Paused,
    /// By the host, for this reason.
    Stopped(String),
}

impl State {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// A start of a schedule, or why it did not start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// The time of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    pub by: Cause,
    /// ID of the work item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// Why it did not start, or started late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What starts a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Its cron expression.
    Cron,
    Webhook,
    /// A request.
    Trigger,
}

impl Cause {
    pub fn word(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Webhook => "webhook",
            Self::Trigger => "trigger",
        }
    }
}

/// The schedules of a namespace.
pub struct Schedules {
    table: Arc<Table>,
    all: Mutex<BTreeMap<String, Arc<Schedule>>>,
    /// Leases on what schedules need, which garbage collections that had begun before do not know.
    leases: Mutex<BTreeMap<String, Runtime>>,
    /// Held while the call of a webhook is handled.
    pub calling: tokio::sync::Mutex<()>,
}

impl Schedules {
    /// Reads the schedules in the database of the work items.
    pub fn open(table: &Arc<Table>) -> Result<Self> {
        let texts: Vec<String> = table.read(|connection| {
            let mut statement = connection.prepare("SELECT schedule FROM schedules")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })?;
        let mut all = BTreeMap::new();
        for text in texts {
            let schedule: Schedule = serde_json::from_str(&text).map_err(|e| unreadable(&e))?;
            all.insert(schedule.name.clone(), Arc::new(schedule));
        }
        Ok(Self {
            table: table.clone(),
            all: Mutex::new(all),
            leases: Mutex::default(),
            calling: tokio::sync::Mutex::default(),
        })
    }

    /// Returns all schedules, by name.
    pub fn all(&self) -> Vec<Arc<Schedule>> {
        self.lock().values().cloned().collect()
    }

    pub fn get(&self, name: &str) -> Answer<Arc<Schedule>> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| Refusal::not_found(format_args!("schedule {name} not found")))
    }

    /// Returns the schedule of a webhook.
    pub fn of_hook(&self, id: &str) -> Option<Arc<Schedule>> {
        let is_it = |schedule: &&Arc<Schedule>| schedule.hook.as_ref().is_some_and(|hook| hook.id == id);
        self.lock().values().find(is_it).cloned()
    }

    /// Returns the time of the next start, if there is one.
    pub fn next_ms(&self) -> Option<u64> {
        self.lock().values().filter_map(|schedule| schedule.next_ms).min()
    }

    /// Adds a schedule, or replaces it with `replace`. Fails if there would be more than `most`. `runtime` holds the lease on the artifacts of
    /// the plan. Writes to the disk.
    pub fn add(&self, schedule: Schedule, submission: &Submission, replace: bool, most: usize, runtime: Runtime) -> Answer<()> {
        let name = schedule.name.clone();
        let mut all = self.lock();
        match all.contains_key(&name) {
            true if !replace => {
                let error = Error::user(format_args!("schedule {name} exists already"));
                return Err(Refusal::conflict(
                    error.hint("replace it with --replace, or choose another name"),
                ));
            }
            false if all.len() >= most => {
                return Err(Refusal::quota("schedules", format_args!("you have {} schedules", all.len())));
            }
            _ => {}
        }
        self.table.write(true, |connection| {
            let sql = "INSERT OR REPLACE INTO schedules (name, schedule, submission) VALUES (?1, ?2, ?3)";
            connection.execute(sql, params![name, works::json(&schedule)?, works::json(submission)?])
        })?;
        all.insert(name.clone(), Arc::new(schedule));
        self.leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, runtime);
        Ok(())
    }

    /// Changes a schedule, and returns it. Writes to the disk.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Schedule)) -> Answer<Arc<Schedule>> {
        let mut all = self.lock();
        let Some(found) = all.get_mut(name) else {
            return Err(Refusal::not_found(format_args!("schedule {name} not found")));
        };
        let mut changed = Schedule::clone(found);
        change(&mut changed);
        self.table.write(true, |connection| {
            let sql = "UPDATE schedules SET schedule = ?2 WHERE name = ?1";
            connection.execute(sql, params![name, works::json(&changed)?])
        })?;
        *found = Arc::new(changed);
        Ok(found.clone())
    }

    /// Removes a schedule with its history. Work that it started goes on.
    pub fn remove(&self, name: &str) -> Answer<()> {
        let mut all = self.lock();
        if !all.contains_key(name) {
            return Err(Refusal::not_found(format_args!("schedule {name} not found")));
        }
        self.table.write(true, |connection| {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute("DELETE FROM schedules WHERE name = ?1", [name])?;
            transaction.execute("DELETE FROM starts WHERE name = ?1", [name])?;
            transaction.commit()
        })?;
        all.remove(name);
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// Returns what a schedule submits. Reads the disk.
    pub fn submission(&self, name: &str) -> Result<Submission> {
        let text: String = self.table.read(|connection| {
            connection.query_row("SELECT submission FROM schedules WHERE name = ?1", [name], |row| row.get(0))
        })?;
        serde_json::from_str(&text).map_err(|e| unreadable(&e))
    }

    /// Adds a start to the history. `signature` is that of the call of a webhook. Writes to the disk.
    pub fn note(&self, name: &str, start: &Start, signature: Option<&str>) -> Result<()> {
        self.table.write(true, |connection| {
            let sql = "INSERT INTO starts (name, start, signature) VALUES (?1, ?2, ?3)";
            connection.execute(sql, params![name, works::json(start)?, signature])?;
            let sql = "DELETE FROM starts WHERE name = ?1 AND number <= (SELECT number FROM starts WHERE name = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
            connection.execute(sql, params![name, REMEMBERED])?;
            Ok(())
        })
    }

    /// Returns at most `most` starts, newest first. Reads the disk.
    pub fn starts(&self, name: &str, most: usize) -> Result<Vec<Start>> {
        let texts: Vec<String> = self.table.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT start FROM starts WHERE name = ?1 ORDER BY number DESC LIMIT ?2")?;
            statement.query_map(params![name, most as i64], |row| row.get(0))?.collect()
        })?;
        let read = |text: String| serde_json::from_str(&text).map_err(|e| unreadable(&e));
        texts.into_iter().map(read).collect()
    }

    /// Returns the newest start that has a work item. Reads the disk.
    pub fn last_started(&self, name: &str) -> Result<Option<Start>> {
        self.find("start ->> 'work' IS NOT NULL AND name = ?1", [name])
    }

    /// Returns the start that a call of a webhook with this signature caused. Reads the disk.
    pub fn called(&self, name: &str, signature: &str) -> Result<Option<Start>> {
        self.find("name = ?1 AND signature = ?2", [name, signature])
    }

    fn find(&self, condition: &str, values: impl rusqlite::Params) -> Result<Option<Start>> {
        let sql = format!("SELECT start FROM starts WHERE {condition} ORDER BY number DESC LIMIT 1");
        let text: Option<String> = self
            .table
            .read(|connection: &Connection| -> Sql<_> { connection.query_row(&sql, values, |row| row.get(0)).optional() })?;
        text.map(|text| serde_json::from_str(&text).map_err(|e| unreadable(&e)))
            .transpose()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Schedule>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    /// Returns the first time after `now`, if it starts at all.
    pub fn next(&self, now: u64) -> Option<u64> {
        let times = self.times.as_ref().filter(|_| self.state == State::Active)?;
        times.when().ok()?.next(now)
    }

    /// Returns the schedule as the API shows it, without secrets.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "name": self.name,
            "pipeline": self.pipeline,
            "plan": self.plan,
            "state": self.state.word(),
            "overlap": self.overlap,
            "webhook": self.hook.is_some(),
            "token": self.token.as_ref().map(|(name, _)| name),
            "created_ms": self.created_ms,
            "next_ms": self.next_ms,
        });
        if let State::Stopped(why) = &self.state {
            object["why"] = json!(why);
        }
        if let Some(times) = &self.times {
            object["cron"] = json!(times.cron);
            object["zone"] = json!(times.zone);
            object["catch_up"] = json!(times.catch_up);
            // it was valid when it was added
            if let Ok(when) = times.when() {
                object["words"] = json!(when.words());
                object["next"] = json!(self.next_ms.map(|next| when.text(next)));
            }
        }
        object
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::host(format_args!("can't read a schedule: {error}")).hint("use the version of lockstep that wrote it")
}
