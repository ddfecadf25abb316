use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use clap::Args;
use lockstep_runtime::bundle::{Bundle, Compared, compare};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Done, End, Execution};
use lockstep_runtime::run::{Reuse, Runtime};
use lockstep_runtime::sandbox::{EngineOptions, Interrupt};
use lockstep_server::machine::{available_memory, cores};
use lockstep_view::columns::{Columns, fit};
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::print::{print, print_json};
use lockstep_view::progress;
use serde_json::json;

use super::execute;
use crate::commands::run::LimitArgs;
use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::locations::Locations;

/// Run everything in a bundle again and compare every digest
///
/// Needs no network and no compiler, and reads nothing from the store. Results are discarded unless --store is given.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep bundle replay wine.tar
  lockstep bundle replay wine.tar --store kept --json")]
pub struct ReplayArgs {
    /// Bundle: a tar file or a directory
    #[arg(value_name = "FILE.tar")]
    bundle: PathBuf,

    /// Maximum concurrent tasks [default: number of cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    limits: LimitArgs,
}

pub fn run(args: &ReplayArgs, invocation: &Invocation) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let interrupt = interrupt_on_ctrl_c()?;
    let scratch = tempfile::tempdir().map_err(|e| Error::file("make", &std::env::temp_dir(), &e))?;
    let invocation = alone(invocation, scratch.path());
    let runtime = runtime(&invocation, scratch.path(), args.limits.engine())?;
    take(&bundle, &runtime)?;
    replay(&bundle, args, &runtime, &interrupt, &invocation)
}

/// Returns the invocation with a temporary store, unless one was named, and without a shared store.
fn alone(invocation: &Invocation, scratch: &Path) -> Invocation {
    let own = &invocation.locations;
    let locations = Locations {
        store: if own.store_by_flag {
            own.store.clone()
        } else {
            scratch.join("store")
        },
        shared: None,
        ..own.clone()
    };
    invocation.at(locations)
}

/// Creates a runtime. Uses a temporary cache if the user's cache is not usable.
fn runtime(invocation: &Invocation, scratch: &Path, engine: EngineOptions) -> Result<Runtime> {
    let cache = scratch.join("cache");
    invocation.runtime(engine.clone()).or_else(|_| {
        let locations = Locations {
            cache,
            ..invocation.locations.clone()
        };
        invocation.at(locations).runtime(engine)
    })
}

fn take(bundle: &Bundle, runtime: &Runtime) -> Result<()> {
    let bar = progress::bytes("reading the bundle");
    bar.set_length(bundle.items().iter().map(|item| item.artifact.size).sum());
    bundle.take(&runtime.store, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    Ok(())
}

fn replay(bundle: &Bundle, args: &ReplayArgs, runtime: &Runtime, interrupt: &Interrupt, invocation: &Invocation) -> Result<()> {
    let execution = Execution {
        jobs: args.jobs.unwrap_or_else(cores),
        memory: available_memory(),
        reuse: Reuse::Nothing,
        limits: args.limits.limits(),
        keep_going: true,
        ..Execution::default()
    };
    let executed = execute(runtime, bundle.plan(), execution, interrupt)?;
    if interrupt.is_triggered() {
        return Err(Error::new(Kind::Interrupted, "interrupted"));
    }
    let compared = compare(bundle.expected(), &executed)?;
    let different = compared.iter().filter(|compared| !compared.is_equal()).count();
    if invocation.json {
        print_json(&to_json(bundle, &compared, different))?;
    } else if !invocation.quiet || different > 0 {
        print(table(&compared))?;
    }
    match different {
        0 => Ok(()),
        _ => Err(differ(different, compared.len(), &executed.tasks, invocation.json)),
    }
}

fn table(compared: &[Compared]) -> Columns {
    let mut columns = Columns::headed(&["task", "output", "expected", "got", ""]);
    let short = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.short());
    for row in compared {
        let (style, word) = match row.is_equal() {
            true => (AnsiColor::Green.on_default(), "✓"),
            false => (AnsiColor::Red.on_default(), "✗ different"),
        };
        let (task, what) = (fit(&row.task, 60), fit(&row.what, 40));
        columns.row([
            task,
            what,
            short(row.expected),
            short(row.got),
            format!("{style}{word}{style:#}"),
        ]);
    }
    columns
}

fn to_json(bundle: &Bundle, compared: &[Compared], different: usize) -> serde_json::Value {
    let rows = compared.iter().map(|row| {
        json!({
            "task": row.task,
            "what": row.what,
            "expected": row.expected,
            "got": row.got,
            "equal": row.is_equal(),
        })
    });
    json!({
        "bundle": bundle.digest(),
        "pipeline": bundle.plan().name,
        "equal": different == 0,
        "compared": rows.collect::<Vec<_>>(),
    })
}

fn differ(different: usize, all: usize, tasks: &[Done], json: bool) -> Error {
    let mut error = Error::new(
        Kind::Guest,
        format_args!("{different} of {all} digests differ from the bundle"),
    );
    for done in tasks {
        error = match &done.end {
            End::Ran(ran) if !ran.record.outcome.succeeded() => error.detail(format_args!(
                "task `{}` {}",
                fit(&done.task, 60),
                fit(&ran.record.outcome.to_string(), 200)
            )),
            End::Error(failed) => error.detail(format_args!("task `{}`: {failed}", fit(&done.task, 60))),
            _ => error,
        };
    }
    let error =
        error.hint("run it with --store DIR to keep the results; `lockstep log` and `lockstep show RECORD` then show them");
    if json { error.reported() } else { error }
}
