//! The work items of a namespace on disk: an SQLite database.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_view::error::{Error, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow, TransactionBehavior, params, params_from_iter};

use super::item::{Counts, Listed, Progress, Submission, WorkItem, WorkState, now_ms};
use super::journal::{Journal, Tail};
use crate::fair::Owner;

/// Version of the schema.
const VERSION: i64 = 2;

/// `tasks`, `result` and `events` are JSON. Large columns come last, so that a list does not read them.
const SCHEMA: &str = "
    CREATE TABLE works (id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, submitted INTEGER NOT NULL, token TEXT,
        attempts INTEGER NOT NULL, state TEXT NOT NULL, started INTEGER, ended INTEGER,
        executed INTEGER NOT NULL, cached INTEGER NOT NULL, failed INTEGER NOT NULL,
        tasks TEXT NOT NULL, result TEXT, events TEXT, submission TEXT NOT NULL);
    CREATE INDEX works_state ON works (state);
    PRAGMA user_version = 1;
";

/// What version 2 adds: schedules, and what started or did not start because of them. `schedule` and `start` are JSON.
const SCHEDULES: &str = "
    CREATE TABLE schedules (name TEXT PRIMARY KEY, schedule TEXT NOT NULL, submission TEXT NOT NULL);
    CREATE TABLE starts (number INTEGER PRIMARY KEY, name TEXT NOT NULL, start TEXT NOT NULL, signature TEXT);
    CREATE INDEX starts_name ON starts (name, number);
    PRAGMA user_version = 2;
";

const OVER: &str = "state NOT IN ('queued', 'running')";

/// The table of work items, and the database that it is in. A write waits for the disk only where that is asked for.
pub struct Table {
    path: PathBuf,
    /// Whether anything waits for the disk.
    durable: bool,
    connection: Mutex<Connection>,
}

/// A result of SQLite.
pub type Sql<T> = rusqlite::Result<T>;

impl Table {
    pub(super) fn open(path: &Path, durable: bool) -> Result<Self> {
        let mut connection = Connection::open(path).map_err(|e| failed(path, &e))?;
        // it has the secrets of webhooks
        restrict(path)?;
        let found = prepare(&mut connection).map_err(|e| failed(path, &e))?;
        if found > VERSION {
            return Err(Error::config(format_args!(
                "{} has version {found}, but this version of lockstep reads version {VERSION}",
                path.display()
            ))
            .hint("start the version of lockstep that wrote it, or a newer one")
            .hint("to do without its work items, move the file away: the records of their runs stay"));
        }
        Ok(Self {
            path: path.to_owned(),
            durable,
            connection: Mutex::new(connection),
        })
    }

    /// Adds the work item, as it is now. With `settle`, it is on disk when this returns.
    pub(super) fn insert(&self, work: &WorkItem, settle: bool) -> Result<()> {
        let written = self.write(settle, |connection| insert(connection, work));
        if written.is_err() {
            work.kept.store(false, Ordering::SeqCst);
        }
        written
    }

    /// Adds work items of an earlier version, all or none. They are on disk when this returns.
    pub(super) fn import<'a>(&self, works: impl Iterator<Item = &'a WorkItem>) -> Result<()> {
        self.write(true, |connection| {
            let transaction = connection.unchecked_transaction()?;
            for work in works {
                insert(&transaction, work)?;
            }
            transaction.commit()
        })
    }

    /// Writes the progress of a work item, if the table has it. Returns whether it has.
    pub(super) fn update(&self, work: &WorkItem, settle: bool) -> Result<bool> {
        self.write(settle, |connection| {
            let sql =
                "UPDATE works SET attempts = ?2, state = ?3, started = ?4, ended = ?5, executed = ?6, cached = ?7, failed = ?8,
                tasks = ?9, result = ?10, events = ?11 WHERE id = ?1";
            let changed = connection.prepare_cached(sql)?.execute(params_from_iter(mutable(work)?))?;
            Ok(changed > 0)
        })
    }

    /// Marks a work item that is not over as interrupted because of `error`. Its real end replaces that. It is on disk when this returns.
    pub(super) fn cancel(&self, work: &WorkItem, error: &Error) -> Result<()> {
        self.write(true, |connection| {
            let sql = format!("UPDATE works SET state = 'interrupted', ended = ?2, result = ?3 WHERE id = ?1 AND NOT ({OVER})");
            connection.execute(&sql, params![work.id, number(now_ms()), json(&error.to_json())?])?;
            Ok(())
        })
    }

    /// Removes all but the newest `most` of those that are over.
    pub(super) fn forget(&self, most: usize) -> Result<()> {
        self.write(false, |connection| {
            connection.execute(
                &format!(
                    "DELETE FROM works WHERE {OVER} AND id NOT IN (SELECT id FROM works WHERE {OVER} ORDER BY id DESC LIMIT ?1)"
                ),
                [number(most as u64)],
            )?;
            Ok(())
        })
    }

    /// Returns the number of work items.
    pub(super) fn len(&self) -> Result<usize> {
        let count =
            |connection: &Connection| connection.query_row("SELECT COUNT(*) FROM works", [], |row| row.get::<_, i64>(0));
        Ok(self.read(count)? as usize)
    }

    /// Returns the number of cached tasks of all work items.
    pub(super) fn cached(&self) -> Result<u64> {
        let sum = |connection: &Connection| {
            connection.query_row("SELECT COALESCE(SUM(cached), 0) FROM works", [], |row| row.get::<_, i64>(0))
        };
        Ok(self.read(sum)? as u64)
    }

    /// Returns at most `most` work items, newest first.
    pub(super) fn newest(&self, most: usize) -> Result<Vec<Listed>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, kind, title, submitted, state, started, ended, executed, cached, failed FROM works ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([number(most as u64)], |row| {
                Ok(Listed {
                    id: row.get(0)?,
                    kind: row.get(1)?,
                    title: row.get(2)?,
                    submitted_ms: count(row, 3)?,
                    state: state(row, 4)?,
                    started_ms: row.get::<_, Option<i64>>(5)?.map(|ms| ms as u64),
                    ended_ms: row.get::<_, Option<i64>>(6)?.map(|ms| ms as u64),
                    counts: Counts {
                        executed: count(row, 7)?,
                        cached: count(row, 8)?,
                        failed: count(row, 9)?,
                    },
                })
            })?;
            rows.collect()
        })
    }

    /// Returns the work item `id` of `owner`.
    pub(super) fn get(&self, id: &str, owner: &Owner) -> Result<Option<WorkItem>> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM works WHERE id = ?1"))?;
            statement.query_row([id], Read::of).optional()
        })?;
        found.map(|read| read.work(owner)).transpose()
    }

    /// Returns the work items of `owner` that are not over. Logs and skips what this version can't read.
    pub(super) fn unfinished(&self, owner: &Owner) -> Result<Vec<WorkItem>> {
        let found: Vec<Read> = self.read(|connection| {
            let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM works WHERE NOT {OVER} ORDER BY id"))?;
            statement.query_map([], Read::of)?.collect()
        })?;
        let works = found.into_iter().map(|read| read.work(owner));
        let readable = works.filter_map(|work| {
            work.inspect_err(|error| tracing::error!("can't resume a work item in {}: {error}", self.path.display()))
                .ok()
        });
        Ok(readable.collect())
    }

    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> Sql<T>) -> Result<T> {
        read(&self.lock()).map_err(|e| failed(&self.path, &e))
    }

    /// With `settle`, what is written is on disk when this returns.
    pub fn write<T>(&self, settle: bool, write: impl FnOnce(&Connection) -> Sql<T>) -> Result<T> {
        let connection = self.lock();
        let written = || -> Sql<T> {
            // a commit in this mode also brings all earlier ones to the disk
            let waits = if settle && self.durable { "FULL" } else { "NORMAL" };
            connection.pragma_update(None, "synchronous", waits)?;
            write(&connection)
        };
        written().map_err(|e| failed(&self.path, &e))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the texts of the submissions that are not over, or that have a schedule, in the database `path`; none if it does not exist. Other
/// processes may use it.
pub fn submissions(path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read = || -> Sql<Vec<String>> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        let of_works = format!("SELECT submission FROM works WHERE NOT {OVER}");
        let all = match version(&connection)? {
            1 => of_works,
            _ => format!("{of_works} UNION ALL SELECT submission FROM schedules"),
        };
        let mut statement = connection.prepare(&all)?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    read().map_err(|e| failed(path, &e))
}

/// Copies the database `from` to the new file `to`, as it is at one moment. Other processes may use it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || -> Sql<()> {
        let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(PATIENCE)?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        Ok(())
    };
    copied().map_err(|e| failed(from, &e))?;
    restrict(to)
}

/// Lets only the owner read the file of a database. The files beside it get the same permissions from SQLite.
fn restrict(path: &Path) -> Result<()> {
    match path.exists() {
        true => std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|e| Error::file("change", path, &e)),
        // a database in memory
        false => Ok(()),
    }
}

/// How long to wait for other processes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates the tables in a new database. Returns its version.
fn prepare(connection: &mut Connection) -> Sql<i64> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    if version(connection)? < VERSION {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (before, more) in [(0, SCHEMA), (1, SCHEDULES)] {
            if version(&transaction)? == before {
                transaction.execute_batch(more)?;
            }
        }
        transaction.commit()?;
    }
    version(connection)
}

fn version(connection: &Connection) -> Sql<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn insert(connection: &Connection, work: &WorkItem) -> Sql<()> {
    // before it looks at the progress: what ends after that writes the end itself
    work.kept.store(true, Ordering::SeqCst);
    let fixed: [Value; 5] = [
        work.kind().to_owned().into(),
        work.title.clone().into(),
        number(work.submitted_ms).into(),
        work.token.clone().into(),
        json(&work.submission)?.into(),
    ];
    let sql = "INSERT OR REPLACE INTO works (id, attempts, state, started, ended, executed, cached, failed, tasks, result, events, kind,
        title, submitted, token, submission) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    let values = mutable(work)?.into_iter().chain(fixed);
    connection.prepare_cached(sql)?.execute(params_from_iter(values))?;
    Ok(())
}

/// Returns the ID, and the columns that change while the work item runs.
fn mutable(work: &WorkItem) -> Sql<[Value; 11]> {
    let progress = work.progress();
    let counts = progress.counts();
    Ok([
        work.id.clone().into(),
        work.attempts().into(),
        progress.state.word().to_owned().into(),
        progress.started_ms.map(number).into(),
        progress.ended_ms.map(number).into(),
        number(counts.executed).into(),
        number(counts.cached).into(),
        number(counts.failed).into(),
        json(&progress.tasks)?.into(),
        progress.result.as_ref().map(json).transpose()?.into(),
        events(work, &progress)?.into(),
    ])
}

/// Returns the last events of a work item that is over.
fn events(work: &WorkItem, progress: &Progress) -> Sql<Option<String>> {
    progress.state.is_over().then(|| json(&work.journal.tail())).transpose()
}

const COLUMNS: &str = "id, submitted, token, attempts, state, started, ended, tasks, result, events, submission";

/// A row.
struct Read {
    id: String,
    submitted_ms: u64,
    token: Option<String>,
    attempts: u32,
    state: WorkState,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
    tasks: String,
    result: Option<String>,
    events: Option<String>,
    submission: String,
}

impl Read {
    fn of(row: &SqlRow) -> Sql<Self> {
        Ok(Self {
            id: row.get(0)?,
            submitted_ms: count(row, 1)?,
            token: row.get(2)?,
            attempts: row.get(3)?,
            state: state(row, 4)?,
            started_ms: row.get::<_, Option<i64>>(5)?.map(|ms| ms as u64),
            ended_ms: row.get::<_, Option<i64>>(6)?.map(|ms| ms as u64),
            tasks: row.get(7)?,
            result: row.get(8)?,
            events: row.get(9)?,
            submission: row.get(10)?,
        })
    }

    fn work(self, owner: &Owner) -> Result<WorkItem> {
        let id = self.id.clone();
        self.parsed(owner).map_err(|error| {
            Error::host(format_args!("can't read work item {id}: {error}"))
                .hint("use the version of lockstep that wrote it, or submit the work again")
        })
    }

    fn parsed(self, owner: &Owner) -> serde_json::Result<WorkItem> {
        let submission: Submission = serde_json::from_str(&self.submission)?;
        let progress = Progress {
            state: self.state,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            tasks: serde_json::from_str(&self.tasks)?,
            result: self.result.as_deref().map(serde_json::from_str).transpose()?,
        };
        let tail: Tail = self
            .events
            .as_deref()
            .map(serde_json::from_str)
            .transpose()?
            .unwrap_or_default();
        let work = WorkItem::new(self.id, self.submitted_ms, submission, owner.clone(), self.token);
        Ok(work.restored(Some(progress), self.attempts, Journal::of(tail)))
    }
}

fn state(row: &SqlRow, column: usize) -> Sql<WorkState> {
    let word: String = row.get(column)?;
    let state = WorkState::from_word(&word);
    state.ok_or_else(|| rusqlite::Error::InvalidColumnType(column, word, rusqlite::types::Type::Text))
}

fn count(row: &SqlRow, column: usize) -> Sql<u64> {
    Ok(row.get::<_, i64>(column)? as u64)
}

fn number(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub fn json(value: &impl serde::Serialize) -> Sql<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    let failed = Error::host(format_args!("can't use {}: {error}", path.display()));
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            failed.hint("the file is damaged: move it away to do without its work items; the records of their runs stay")
        }
        Some(DiskFull) => failed.hint("free some space on the disk"),
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use lockstep_runtime::digest::Digest;
    use lockstep_runtime::run::{Entry, Run};
    use lockstep_runtime::step::OwnLimits;
    use serde_json::json;

    use super::*;

    fn work(id: &str) -> WorkItem {
        let run = Run {
            module: Digest::of("module"),
            entry: Entry::Program {
                args: Vec::new(),
                env: Default::default(),
                stdin: None,
                stdout: None,
            },
            inputs: Default::default(),
            outputs: Default::default(),
            modules: Default::default(),
            seed: 0,
        };
        let submission = Submission::Run {
            run: Box::new(run),
            limits: OwnLimits::default(),
            fresh: false,
        };
        WorkItem::new(id.to_owned(), 5, submission, Owner::from("ann"), Some("laptop".to_owned()))
    }

    #[test]
    fn a_work_item_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("works.sqlite");
        let owner = Owner::from("ann");
        let table = Table::open(&path, true).unwrap();
        let (first, second) = (work("1"), work("2"));
        assert!(!table.update(&first, false).unwrap());
        assert_eq!(table.len().unwrap(), 0);
        [&first, &second].iter().for_each(|work| table.insert(work, true).unwrap());
        first.start();
        table.update(&first, false).unwrap();
        second.start();
        second.journal.tell("log", &json!("a"));
        second.end(Ok((WorkState::Succeeded, json!({ "some": "result" }))));
        table.update(&second, false).unwrap();
        drop(table);
        let table = Table::open(&path, true).unwrap();
        let back = table.get("2", &owner).unwrap().unwrap();
        assert_eq!((back.to_json(), back.token.as_deref()), (second.to_json(), Some("laptop")));
        assert_eq!(
            serde_json::to_value(back.journal.tail()).unwrap(),
            json!({ "last": 1, "entries": [[1, "log", "\"a\""]] })
        );
        let unfinished = table.unfinished(&owner).unwrap();
        assert_eq!(
            unfinished
                .iter()
                .map(|work| (work.id.as_str(), work.attempts()))
                .collect::<Vec<_>>(),
            [("1", 1)]
        );
        let newest: Vec<String> = table.newest(9).unwrap().into_iter().map(|work| work.id).collect();
        assert_eq!(newest, ["2", "1"]);
        assert_eq!(submissions(&path).unwrap().len(), 1);
        assert!(table.get("3", &owner).unwrap().is_none());
    }

    #[test]
    fn the_oldest_of_those_that_are_over_are_forgotten() {
        let table = Table::open(Path::new(":memory:"), false).unwrap();
        for id in ["1", "2", "3", "4"] {
            let work = work(id);
            if id != "1" {
                work.end(Ok((WorkState::Succeeded, json!(null))));
            }
            table.insert(&work, false).unwrap();
        }
        table.forget(1).unwrap();
        let left: Vec<String> = table.newest(9).unwrap().into_iter().map(|work| work.id).collect();
        assert_eq!(left, ["4", "1"]);
    }

    #[test]
    fn a_database_without_schedules_gets_a_table_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("works.sqlite");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        assert!(submissions(&path).unwrap().is_empty());
        let table = Table::open(&path, false).unwrap();
        table.insert(&work("1"), false).unwrap();
        let insert = "INSERT INTO schedules VALUES ('nightly', '{}', 'of the schedule')";
        table.write(false, |connection| connection.execute(insert, [])).unwrap();
        assert_eq!(submissions(&path).unwrap()[1..], ["of the schedule"]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_this_version_can_not_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("works.sqlite");
        drop(Table::open(&path, false).unwrap());
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 3)
            .unwrap();
        let error = Table::open(&path, false).err().unwrap();
        let says = format!(
            "{} has version 3, but this version of lockstep reads version 2",
            path.display()
        );
        assert_eq!((error.message(), error.hints().len()), (says.as_str(), 2));
        std::fs::write(&path, "no database, but long enough to be one ".repeat(100)).unwrap();
        let error = Table::open(&path, false).err().unwrap();
        assert!(error.hints()[0].starts_with("the file is damaged"), "{error}");
    }
}
