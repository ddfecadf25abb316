use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lockstep_client::Remote;
use lockstep_runtime::sandbox::{CompileBudget, EngineOptions, Interrupt, Target};
use lockstep_server::machine::{available_memory, cores};
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity::parse_duration;
use lockstep_view::runs::since;
use serde_json::json;

use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::pipelines::{GivenArgs, is_pipeline};
use crate::signature;

mod check;
mod notebook;
mod report;
mod subjects;

use check::{Check, check};

/// Run records again and compare every digest
///
/// Ignores cached results and does not change records. For a pipeline, verifies the records of its tasks. With --signed-by, checks signatures
/// and runs nothing.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep verify 3fa9c1                    # a record of `lockstep log`
  lockstep verify wine.yaml -p depth=8 --on pulley
  lockstep verify analysis.ipynb --json
  lockstep verify --all --since 2d
  lockstep verify 3fa9c1 --signed-by team.pub")]
pub struct VerifyArgs {
    /// Record, pipeline, plan, or a notebook with saved outputs
    #[arg(
        value_name = "RECORD|PIPELINE|NOTEBOOK",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    what: Option<String>,

    /// Verify every run in the store, newest first
    #[arg(long)]
    all: bool,

    /// Only runs started within this duration, such as 2d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "all")]
    since: Option<Duration>,

    /// Maximum number of runs; the newest
    #[arg(short = 'n', long, value_name = "COUNT", requires = "all")]
    most: Option<usize>,

    /// Run on another processor: `pulley` is wasmtime's interpreter, about ten times slower
    #[arg(long, value_name = "PROCESSOR")]
    on: Option<Processor>,

    /// Check for a signature by this public key instead: a PEM file, as `openssl pkey -pubout` writes it
    #[arg(long, value_name = "PUBLIC_KEY", conflicts_with = "on")]
    signed_by: Option<PathBuf>,

    /// Maximum concurrent runs [default: number of cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Raise compile limits for modules as large as CPython; only for modules that you trust
    #[arg(long)]
    large_module: bool,

    #[command(flatten)]
    given: GivenArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Processor {
    Pulley,
}

pub fn run(args: VerifyArgs, invocation: &Invocation) -> Result<()> {
    let interrupt = interrupt_on_ctrl_c()?;
    let notebook = args.what.as_deref().map(Path::new);
    if let Some(remote) = invocation.remote()? {
        return verify_there(&remote, &args, invocation);
    }
    match notebook.filter(|path| path.extension().is_some_and(|extension| extension == "ipynb")) {
        Some(notebook) => verify_notebook(&args, notebook, &interrupt, invocation),
        None => verify_records(args, &interrupt, invocation),
    }
}

/// Verifies a record on a host.
fn verify_there(remote: &Remote, args: &VerifyArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let what = match args.what.as_deref() {
        Some(what) if !is_pipeline(what) && args.on.is_none() && args.signed_by.is_none() => what,
        _ => {
            return Err(Error::user("a host verifies one record at a time, on its own processor")
                .hint("give a record, as listed by `lockstep log`; or omit --host and unset LOCKSTEP_HOST to verify on this machine"));
        }
    };
    invocation.bring(&runtime, what)?;
    let Named::Record(found) = find(&runtime, what)? else {
        return Err(Error::user(format_args!("{what} is an artifact, not a record")));
    };
    let (same, again) = remote.verify(&found.0)?;
    let record = found.0.short();
    invocation.answer(
        match same {
            true => format!("record {record}: same result\n"),
            false => format!("record {record}: different result, {}\n", again.short()),
        },
        || json!({ "record": found.0, "again": again, "same": same }),
    )?;
    match same {
        true => Ok(()),
        false => Err(Error::host(format_args!("record {record} gave a different result")).reported()),
    }
}

fn verify_notebook(args: &VerifyArgs, notebook: &Path, interrupt: &Interrupt, invocation: &Invocation) -> Result<()> {
    if args.signed_by.is_some() {
        return Err(
            Error::user("--signed-by does not support notebooks: signatures are of records")
                .hint("export it with `lockstep export NOTEBOOK -o DIR` and verify DIR/pipeline.yaml"),
        );
    }
    notebook::run(notebook, args.engine(), interrupt, invocation)
}

fn verify_records(args: VerifyArgs, interrupt: &Interrupt, invocation: &Invocation) -> Result<()> {
    let start = Instant::now();
    let runtime = invocation.runtime(args.engine())?;
    let how = match &args.signed_by {
        Some(key) => Check::Signature(signature::read_public_key(key)?),
        None => Check::Again { keep: args.on.is_none() },
    };
    let jobs = args.jobs.unwrap_or_else(cores);
    let subjects = match args.what.as_deref() {
        None => subjects::newest(&runtime, args.most.unwrap_or(usize::MAX), args.since.map_or(0, since))?,
        Some(what) if is_pipeline(what) => subjects::tasks(&runtime, what, args.given, interrupt, invocation)?,
        Some(what) => subjects::record(&runtime, what, &args.given)?,
    };
    let checked = check(&runtime, subjects, &how, (jobs, available_memory()), interrupt);
    report::report(&checked, start.elapsed(), invocation)?;
    if let Some(what) = &args.what {
        report::hint(&checked, what, invocation);
    }
    let verdict = report::verdict(checked, &how, interrupt);
    verdict.map_err(|error| if invocation.json { error.reported() } else { error })
}

impl VerifyArgs {
    fn engine(&self) -> EngineOptions {
        EngineOptions {
            target: match self.on {
                Some(Processor::Pulley) => Target::Pulley,
                None => Target::Native,
            },
            budget: match self.large_module {
                true => CompileBudget::large(),
                false => CompileBudget::default(),
            },
            ..EngineOptions::default()
        }
    }
}
