use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use lockstep_runtime::store::{Row, Runs};
use serde_json::{Value, json};

use crate::columns::{Align, Columns, fit};
use crate::error::Result;
use crate::invocation::Invocation;
use crate::quantity;

/// List the runs of the store, newest first
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep log
  lockstep log -n 100 --json
  lockstep show 3fa9c1          # a record of the list")]
pub struct LogArgs {
    /// At most so many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    most: usize,
}

pub fn run(args: LogArgs, invocation: &Invocation) -> Result<()> {
    let rows = invocation.store()?.rows(&Runs { most: args.most })?;
    if rows.is_empty() && !invocation.json && !invocation.quiet {
        anstream::eprintln!("no runs yet in {}", invocation.locations.store.display());
    }
    invocation.answer(
        table(&rows),
        || json!({ "runs": rows.iter().map(to_json).collect::<Vec<_>>() }),
    )
}

fn table(rows: &[Row]) -> Columns {
    let mut table = Columns::headed(&["record", "age", "step", "took", "outcome"]).aligned([
        Align::Left,
        Align::Right,
        Align::Left,
        Align::Right,
    ]);
    if rows.is_empty() {
        return Columns::plain();
    }
    for row in rows {
        table.row([
            row.record.short(),
            quantity::age(age(row.started_ms)),
            fit(&row.step, 32),
            quantity::micros(row.wall_us),
            fit(&row.outcome, 60),
        ]);
    }
    table
}

/// How long ago `started_ms` was.
pub fn age(started_ms: u64) -> Duration {
    let started = UNIX_EPOCH + Duration::from_millis(started_ms);
    SystemTime::now().duration_since(started).unwrap_or_default()
}

fn to_json(row: &Row) -> Value {
    json!({
        "record": row.record,
        "key": row.key,
        "module": row.module,
        "step": row.step,
        "outcome": row.outcome,
        "started_ms": row.started_ms,
        "wall_us": row.wall_us,
    })
}
