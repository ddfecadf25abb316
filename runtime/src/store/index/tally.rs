use rusqlite::params;

use super::{Index, digest};
use crate::digest::Digest;
use crate::step::{Artifact, MediaType};
use crate::store::{Runs, StepTally, StoreError};

fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Index {
    /// Returns the number of runs by outcome.
    pub(in crate::store) fn count(&self, runs: &Runs) -> Result<Vec<(String, u64)>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT word, COUNT(*) FROM records
             WHERE started >= ?1 AND (?2 IS NULL OR step = ?2) AND (?3 IS NULL OR module GLOB ?3 || '*')
                 AND (?4 IS NULL OR word = ?4) AND (?5 IS NULL OR instr(lower(step || ' ' || outcome), lower(?5)))
             GROUP BY word",
        )?;
        let asked = params![number(runs.since_ms), runs.step, runs.module, runs.word, runs.text];
        let rows = statement.query_map(asked, |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(in crate::store) fn steps(&self, text: &str, most: usize) -> Result<Vec<StepTally>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT step, COUNT(*), SUM(word = 'succeeded'), MAX(started), SUM(wall), module FROM records
             WHERE instr(lower(step), lower(?1)) GROUP BY step ORDER BY MAX(started) DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![text, number(most)], |row| {
            Ok(StepTally {
                step: row.get(0)?,
                runs: row.get::<_, i64>(1)? as u64,
                succeeded: row.get::<_, i64>(2)? as u64,
                newest_ms: row.get::<_, i64>(3)? as u64,
                wall_us: row.get::<_, i64>(4)? as u64,
                // with a single MAX, SQLite takes bare columns from the row that has the maximum
                module: digest(row, 5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(in crate::store) fn modules(&self, step: &str, most: usize) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT module, COUNT(*) FROM records WHERE instr(lower(step), lower(?1)) GROUP BY module ORDER BY MAX(started) DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![step, number(most)], |row| {
            Ok((digest(row, 0)?, row.get::<_, i64>(1)? as u64))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(in crate::store) fn size(&self) -> Result<u64, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT COALESCE(SUM(size), 0) FROM artifacts")?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0))? as u64)
    }

    pub(in crate::store) fn of_media_type(&self, text: &str, most: usize) -> Result<Vec<Artifact>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT digest, media_type, size FROM artifacts WHERE instr(lower(media_type), lower(?1)) ORDER BY digest LIMIT ?2",
        )?;
        let rows = statement.query_map(params![text, number(most)], |row| {
            Ok(Artifact {
                digest: digest(row, 0)?,
                media_type: MediaType::new(row.get::<_, String>(1)?),
                size: row.get::<_, i64>(2)? as u64,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
