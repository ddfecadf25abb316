//! Lists of runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lockstep_runtime::digest::{Digest, RunKey};
use lockstep_runtime::store::Row;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::events::read;

/// Returns the time `age` ago, in milliseconds of Unix time.
pub fn since(age: Duration) -> u64 {
    let start = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
    start.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Returns the time since `started_ms`.
pub fn age(started_ms: u64) -> Duration {
    let started = UNIX_EPOCH + Duration::from_millis(started_ms);
    SystemTime::now().duration_since(started).unwrap_or_default()
}

/// Converts an entry of a list of runs to JSON.
pub fn to_json(row: &Row) -> Value {
    json!({
        "record": row.record,
        "key": row.key,
        "module": row.module,
        "step": row.step,
        "is": row.word,
        "outcome": row.outcome,
        "started_ms": row.started_ms,
        "wall_us": row.wall_us,
    })
}

/// Reads an entry of a list of runs that [`to_json`] wrote. It has no links and artifacts.
pub fn from_json(value: Value) -> Result<Row> {
    #[derive(Deserialize)]
    struct RowJson {
        record: Digest,
        key: RunKey,
        module: Digest,
        step: String,
        is: String,
        outcome: String,
        started_ms: u64,
        wall_us: u64,
    }
    let told: RowJson = read(value)?;
    Ok(Row {
        record: told.record,
        key: told.key,
        module: told.module,
        step: told.step,
        word: told.is,
        outcome: told.outcome,
        started_ms: told.started_ms,
        wall_us: told.wall_us,
        artifacts: Vec::new(),
        links: Vec::new(),
    })
}
