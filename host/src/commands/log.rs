use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::{Row, Runs};
use lockstep_view::columns::{Align, Columns, fit};
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity;
use lockstep_view::runs::{age, since, to_json};
use serde_json::json;

use crate::invocation::Invocation;

/// List runs in the store, newest first
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep log
  lockstep log -n 100 --json
  lockstep log --outcome failed --since 2d
  lockstep log --module penguins.wasm --step train
  lockstep show 3fa9c1          # a record of the list")]
pub struct LogArgs {
    /// Maximum number of runs
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    most: usize,

    /// Only runs of this step, or of programs with these arguments
    #[arg(long, value_name = "STEP")]
    step: Option<String>,

    /// Only runs of this module: a file, or a digest or its prefix
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,

    /// Only runs with this outcome
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<Word>,

    /// Only runs started within this duration, such as 2d
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    since: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Word {
    Succeeded,
    Failed,
    Interrupted,
}

pub fn run(args: LogArgs, invocation: &Invocation) -> Result<()> {
    let runs = Runs {
        step: args.step,
        module: args.module.as_deref().map(module).transpose()?,
        word: args
            .outcome
            .and_then(|word| Some(word.to_possible_value()?.get_name().to_owned())),
        since_ms: args.since.map_or(0, since),
        ..Runs::newest(args.most)
    };
    let remote = invocation.remote()?;
    let rows = match &remote {
        None => invocation.runtime(EngineOptions::default())?.runs(&runs)?,
        Some(remote) => remote.rows(&runs)?,
    };
    if rows.is_empty() && remote.is_none() && !invocation.json && !invocation.quiet {
        let all = invocation.store()?.rows(&Runs::newest(1))?;
        let which = if all.is_empty() { "no runs yet" } else { "no matching runs" };
        anstream::eprintln!("{which} in {}", invocation.locations.store.display());
    }
    invocation.answer(
        table(&rows),
        || json!({ "runs": rows.iter().map(to_json).collect::<Vec<_>>() }),
    )
}

/// Parses `--module` to the prefix of a digest.
fn module(text: &str) -> Result<String> {
    let path = Path::new(text);
    if path.is_file() {
        let bytes = std::fs::read(path).map_err(|e| Error::file("read", path, &e))?;
        return Ok(Digest::of(bytes).hex());
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let error = Error::user(format_args!("{text} is neither a file nor a digest"));
        return Err(error.hint("give the path of the module, or the digest that `lockstep inspect` and `lockstep show` print"));
    }
    Ok(hex.to_ascii_lowercase())
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
