mod tally;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, TransactionBehavior, params};

use super::{Link, Role, Row, Runs, StoreError};
use crate::digest::{Digest, RunKey};
use crate::step::{Artifact, MediaType};

/// The index of runs, and some caches. All of it may be lost: `records` and `artifacts` are rebuilt from the records, and the other
/// tables are caches.
pub(super) struct Index(Connection);

/// The metadata that shows whether a file may have changed.
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

    /// Returns whether the file last changed at least two seconds before `now`, so that a later change can't have the same time.
    pub(super) fn is_settled(&self, now: &Stamp) -> bool {
        self.modified.max(self.changed) + 2_000_000_000 < now.modified
    }
}

/// The version of the schema. An upgrade drops only the table of records, which is then rebuilt.
const VERSION: i64 = 3;

const SCHEMA: &str = "
    DROP TABLE IF EXISTS records;
    CREATE TABLE records (record TEXT PRIMARY KEY, key TEXT NOT NULL, module TEXT NOT NULL, step TEXT NOT NULL,
        word TEXT NOT NULL, outcome TEXT NOT NULL, started INTEGER NOT NULL, wall INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS records_key ON records (key);
    CREATE INDEX IF NOT EXISTS records_started ON records (started);
    CREATE INDEX IF NOT EXISTS records_step ON records (step, started);
    CREATE TABLE IF NOT EXISTS links (record TEXT NOT NULL, role INTEGER NOT NULL, name TEXT NOT NULL, artifact TEXT NOT NULL,
        PRIMARY KEY (record, role, name)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS links_artifact ON links (artifact);
    CREATE TABLE IF NOT EXISTS entries (artifact TEXT NOT NULL, directory TEXT NOT NULL, PRIMARY KEY (artifact, directory))
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS complete (yes INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS artifacts (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS verified (digest TEXT PRIMARY KEY, device, inode, size, modified, changed) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS grants (device, inode, size, modified, changed, digest TEXT NOT NULL, PRIMARY KEY (device, inode))
        WITHOUT ROWID;
    PRAGMA user_version = 3;
";

impl Index {
    /// Opens the index. A damaged index is deleted, and empty until it is rebuilt.
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
        // otherwise the last process to close the index waits for the disk, which dominates a command of a few milliseconds
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Self::with(connection)
    }

    fn with(mut connection: Connection) -> Result<Self, StoreError> {
        let is_current = |connection: &Connection| -> Result<bool, StoreError> {
            match connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
                // its program may be using it
                newer if newer > VERSION => Err(StoreError::Unknown {
                    path: connection.path().unwrap_or_default().into(),
                    found: newer,
                    known: VERSION,
                    program: None,
                }),
                found => Ok(found == VERSION),
            }
        };
        if !is_current(&connection)? {
            // of several processes, only one creates the tables
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if !is_current(&transaction)? {
                transaction.execute_batch(SCHEMA)?;
            }
            transaction.commit()?;
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self(connection))
    }

    /// Makes each change survive a power failure.
    pub(super) fn be_durable(&self) -> Result<(), StoreError> {
        Ok(self.0.pragma_update(None, "synchronous", "FULL")?)
    }

    pub(super) fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let transaction = self.0.transaction()?;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                row.record.hex(),
                row.key.0.hex(),
                row.module.hex(),
                row.step,
                row.word,
                row.outcome,
                row.started_ms as i64,
                row.wall_us as i64
            ])?;
        for artifact in &row.artifacts {
            insert_artifact(&transaction, artifact)?;
        }
        for link in &row.links {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO links VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![row.record.hex(), link.role as i64, link.name, link.artifact.hex()])?;
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
            "SELECT record, key, module, step, word, outcome, started, wall FROM records
             WHERE started >= ?2 AND (?3 IS NULL OR step = ?3) AND (?4 IS NULL OR module GLOB ?4 || '*')
                 AND (?5 IS NULL OR word = ?5) AND (?6 IS NULL OR instr(lower(step || ' ' || outcome), lower(?6)))
             ORDER BY started DESC, record LIMIT ?1 OFFSET ?7",
        )?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let asked = params![
            number(runs.most as u64),
            number(runs.since_ms),
            runs.step,
            runs.module,
            runs.word,
            runs.text,
            number(runs.skip as u64)
        ];
        let rows = statement.query_map(asked, |row| {
            Ok(Row {
                record: digest(row, 0)?,
                key: RunKey(digest(row, 1)?),
                module: digest(row, 2)?,
                step: row.get(3)?,
                word: row.get(4)?,
                outcome: row.get(5)?,
                started_ms: row.get::<_, i64>(6)? as u64,
                wall_us: row.get::<_, i64>(7)? as u64,
                artifacts: Vec::new(),
                links: Vec::new(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns the links of `record` to artifacts.
    pub(super) fn links(&self, record: &Digest) -> Result<Vec<Link>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT record, role, name, artifact FROM links WHERE record = ?1 ORDER BY role, name")?;
        let links = statement.query_map([record.hex()], read_link)?;
        Ok(links.map(|link| link.map(|(_, link)| link)).collect::<Result<_, _>>()?)
    }

    /// Adds the entries of a directory.
    pub(super) fn add_entries<'a>(
        &mut self,
        directory: &Digest,
        entries: impl IntoIterator<Item = &'a Artifact>,
    ) -> Result<(), StoreError> {
        let transaction = self.0.transaction()?;
        for entry in entries {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO entries VALUES (?1, ?2)")?
                .execute([entry.digest.hex(), directory.hex()])?;
        }
        Ok(transaction.commit()?)
    }

    /// Returns the links to `artifact`, or to a directory that contains it, with their records, oldest first.
    pub(super) fn links_of(&self, artifact: &Digest) -> Result<Vec<(Digest, Link)>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT links.record, role, name, artifact FROM links JOIN records ON records.record = links.record
             WHERE artifact = ?1 OR artifact IN (SELECT directory FROM entries WHERE artifact = ?1) ORDER BY started, links.record, role, name",
        )?;
        let links = statement.query_map([artifact.hex()], read_link)?;
        Ok(links.collect::<Result<_, _>>()?)
    }

    /// Returns whether the index contains every record.
    pub(super) fn is_complete(&self) -> Result<bool, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT EXISTS (SELECT 1 FROM complete)")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Removes all records.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        Ok(self.0.execute_batch("DELETE FROM records; DELETE FROM links;")?)
    }

    /// Adds `rows`, and marks the index as complete.
    pub(super) fn complete(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        rows.iter().try_for_each(|row| self.add(row))?;
        Ok(self.0.execute_batch("INSERT OR IGNORE INTO complete VALUES (1)")?)
    }

    /// Removes these records and artifacts.
    pub(super) fn forget(&mut self, records: &[Digest], artifacts: &[Digest]) -> Result<(), StoreError> {
        let transaction = self.0.transaction()?;
        for statement in ["DELETE FROM records WHERE record = ?1", "DELETE FROM links WHERE record = ?1"] {
            let mut statement = transaction.prepare_cached(statement)?;
            records
                .iter()
                .try_for_each(|record| statement.execute([record.hex()]).map(drop))?;
        }
        for statement in [
            "DELETE FROM artifacts WHERE digest = ?1",
            "DELETE FROM verified WHERE digest = ?1",
        ] {
            let mut statement = transaction.prepare_cached(statement)?;
            artifacts
                .iter()
                .try_for_each(|digest| statement.execute([digest.hex()]).map(drop))?;
        }
        Ok(transaction.commit()?)
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

fn read_link(row: &SqlRow) -> rusqlite::Result<(Digest, Link)> {
    let role = Role::ALL.into_iter().find(|role| row.get(1) == Ok(*role as i64));
    let link = Link {
        role: role.ok_or(rusqlite::Error::InvalidQuery)?,
        name: row.get(2)?,
        artifact: digest(row, 3)?,
    };
    Ok((digest(row, 0)?, link))
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
