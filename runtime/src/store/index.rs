use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::StoreError;
use crate::digest::{Digest, RunKey};
use crate::step::{Artifact, MediaType};

/// Which runs there are, and small memories that save work. Everything in it can be lost: `records` and `artifacts` are
/// rebuilt from the records, the others are only forgotten.
pub(super) struct Index(Connection);

/// A line of the index of runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The record's digest.
    pub record: Digest,
    /// Its run key.
    pub key: RunKey,
    /// The module.
    pub module: Digest,
    /// The step, or the arguments of a plain program.
    pub step: String,
    /// What it came to, for people.
    pub outcome: String,
    /// When it started, in milliseconds of Unix time.
    pub started_ms: u64,
    /// How long it took, in microseconds.
    pub wall_us: u64,
    /// All artifacts that it used and made.
    pub artifacts: Vec<Artifact>,
}

/// Which runs to list.
#[derive(Clone, Debug)]
pub struct Runs {
    /// At most so many.
    pub most: usize,
}

/// What tells whether a file may have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: i64,
    inode: i64,
    size: i64,
    modified: i64,
    changed: i64,
}

impl Stamp {
    pub(super) fn of(stat: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Self {
            device: stat.dev() as i64,
            inode: stat.ino() as i64,
            size: stat.size() as i64,
            modified: nanoseconds(stat.mtime(), stat.mtime_nsec()),
            changed: nanoseconds(stat.ctime(), stat.ctime_nsec()),
        }
    }

    /// Whether the file last changed at least two seconds before `now` did, so that a later change can't have the same time.
    pub(super) fn is_settled(&self, now: &Stamp) -> bool {
        self.modified.max(self.changed) + 2_000_000_000 < now.modified
    }
}

/// The version of the schema; whatever is there of an earlier one is added to.
const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (record TEXT PRIMARY KEY, key TEXT NOT NULL, module TEXT NOT NULL, step TEXT NOT NULL,
        outcome TEXT NOT NULL, started INTEGER NOT NULL, wall INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS records_key ON records (key);
    CREATE INDEX IF NOT EXISTS records_started ON records (started);
    CREATE INDEX IF NOT EXISTS records_step ON records (step, started);
    CREATE TABLE IF NOT EXISTS artifacts (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS verified (digest TEXT PRIMARY KEY, device, inode, size, modified, changed) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS grants (device, inode, size, modified, changed, digest TEXT NOT NULL, PRIMARY KEY (device, inode))
        WITHOUT ROWID;
    PRAGMA user_version = 2;
";

impl Index {
    /// Opens the index; one that is damaged or of another version is thrown away (and is then empty until rebuilt).
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        match Self::open_as_it_is(path) {
            Err(StoreError::Index(e)) if is_damaged(&e) => {
                for suffix in ["", "-wal", "-shm"] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(suffix);
                    let _ = std::fs::remove_file(file);
                }
                Self::open_as_it_is(path)
            }
            other => other,
        }
    }

    fn open_as_it_is(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // the last to close the index would else wait for the disk, which a command of a few milliseconds feels
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Self::with(connection)
    }

    pub(super) fn memory() -> Result<Self, StoreError> {
        Self::with(Connection::open_in_memory()?)
    }

    fn with(connection: Connection) -> Result<Self, StoreError> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            connection.execute_batch(SCHEMA)?;
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self(connection))
    }

    pub(super) fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let transaction = self.0.transaction()?;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                row.record.hex(),
                row.key.0.hex(),
                row.module.hex(),
                row.step,
                row.outcome,
                row.started_ms as i64,
                row.wall_us as i64
            ])?;
        for artifact in &row.artifacts {
            insert_artifact(&transaction, artifact)?;
        }
        Ok(transaction.commit()?)
    }

    pub(super) fn add_artifact(&self, artifact: &Artifact) -> Result<(), StoreError> {
        insert_artifact(&self.0, artifact)
    }

    pub(super) fn artifact(&self, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        let artifact = |row: &SqlRow| {
            let size: i64 = row.get(1)?;
            Ok(Artifact {
                digest: *digest,
                media_type: MediaType::new(row.get::<_, String>(0)?),
                size: size as u64,
            })
        };
        let mut statement = self
            .0
            .prepare_cached("SELECT media_type, size FROM artifacts WHERE digest = ?1")?;
        Ok(statement.query_row([digest.hex()], artifact).optional()?)
    }

    pub(super) fn resolve_prefix(&self, hex: &str) -> Result<Vec<Digest>, StoreError> {
        if hex.len() < 4 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let mut statement = self.0.prepare_cached(
            "SELECT digest FROM artifacts WHERE digest GLOB ?1 UNION SELECT record FROM records WHERE record GLOB ?1 LIMIT 10",
        )?;
        let rows = statement.query_map([format!("{}*", hex.to_ascii_lowercase())], |row| digest(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn find(&self, key: &RunKey) -> Result<Vec<Digest>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT record FROM records WHERE key = ?1 ORDER BY started DESC")?;
        let rows = statement.query_map([key.0.hex()], |row| digest(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn newest_of(&self, step: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT record FROM records WHERE step = ?1 ORDER BY started DESC LIMIT ?2")?;
        let rows = statement.query_map(params![step, i64::try_from(most).unwrap_or(i64::MAX)], |row| digest(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn rows(&self, runs: &Runs) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT record, key, module, step, outcome, started, wall FROM records ORDER BY started DESC, record LIMIT ?1",
        )?;
        let rows = statement.query_map([i64::try_from(runs.most).unwrap_or(i64::MAX)], |row| {
            Ok(Row {
                record: digest(row, 0)?,
                key: RunKey(digest(row, 1)?),
                module: digest(row, 2)?,
                step: row.get(3)?,
                outcome: row.get(4)?,
                started_ms: row.get::<_, i64>(5)? as u64,
                wall_us: row.get::<_, i64>(6)? as u64,
                artifacts: Vec::new(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets all records and artifacts and takes `rows` instead.
    pub(super) fn replace(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        self.0.execute_batch("DELETE FROM records; DELETE FROM artifacts;")?;
        rows.iter().try_for_each(|row| self.add(row))
    }

    pub(super) fn remember(&self, key: &Digest, value: &Digest) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached("INSERT OR REPLACE INTO memo VALUES (?1, ?2)")?;
        statement.execute([key.hex(), value.hex()])?;
        Ok(())
    }

    pub(super) fn recall(&self, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT value FROM memo WHERE key = ?1")?;
        Ok(statement.query_row([key.hex()], |row| digest(row, 0)).optional()?)
    }

    pub(super) fn is_verified(&self, digest: &Digest, stamp: &Stamp) -> Result<bool, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT device, inode, size, modified, changed FROM verified WHERE digest = ?1")?;
        let found = statement.query_row([digest.hex()], read_stamp).optional()?;
        Ok(found.as_ref() == Some(stamp))
    }

    pub(super) fn set_verified(&self, digest: &Digest, stamp: &Stamp) -> Result<(), StoreError> {
        let mut statement = self
            .0
            .prepare_cached("INSERT OR REPLACE INTO verified VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        statement.execute(params![
            digest.hex(),
            stamp.device,
            stamp.inode,
            stamp.size,
            stamp.modified,
            stamp.changed
        ])?;
        Ok(())
    }

    pub(super) fn grant(&self, stamp: &Stamp) -> Result<Option<Digest>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT device, inode, size, modified, changed, digest FROM grants WHERE device = ?1 AND inode = ?2",
        )?;
        let found = statement
            .query_row([stamp.device, stamp.inode], |row| Ok((read_stamp(row)?, digest(row, 5)?)))
            .optional()?;
        Ok(found.filter(|(seen, _)| seen == stamp).map(|(_, digest)| digest))
    }

    pub(super) fn set_grant(&self, stamp: &Stamp, digest: &Digest) -> Result<(), StoreError> {
        let mut statement = self
            .0
            .prepare_cached("INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        statement.execute(params![
            stamp.device,
            stamp.inode,
            stamp.size,
            stamp.modified,
            stamp.changed,
            digest.hex()
        ])?;
        Ok(())
    }
}

fn insert_artifact(connection: &Connection, artifact: &Artifact) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO artifacts VALUES (?1, ?2, ?3)")?;
    statement.execute(params![
        artifact.digest.hex(),
        artifact.media_type.as_str(),
        artifact.size as i64
    ])?;
    Ok(())
}

fn digest(row: &SqlRow, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    Digest::from_hex(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

fn read_stamp(row: &SqlRow) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        device: row.get(0)?,
        inode: row.get(1)?,
        size: row.get(2)?,
        modified: row.get(3)?,
        changed: row.get(4)?,
    })
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}
