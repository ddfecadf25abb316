use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lockstep_runtime::pipeline::explain;
use lockstep_runtime::sandbox::{CompileBudget, EngineOptions, Interrupt, Target};
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Runs;
use lockstep_server::machine::{available_memory, cores};
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity::parse_duration;
use lockstep_view::runs::since;

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
/// Ignores cached results and does not change records. For a pipeline, verifies the records of its tasks. With --host, downloads the records of the
/// host with their modules and inputs, and runs them on this machine. With --signed-by, checks signatures and runs nothing.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep verify 3fa9c1                    # a record of `lockstep log`
  lockstep verify wine.yaml -p depth=8 --on pulley
  lockstep verify analysis.ipynb --json
  lockstep verify --all --since 2d
  lockstep verify wine.yaml --host https://lockstep.example.org
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
    match notebook.filter(|path| path.extension().is_some_and(|extension| extension == "ipynb")) {
        Some(notebook) => verify_notebook(&args, notebook, &interrupt, invocation),
        None => verify_records(args, &interrupt, invocation),
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
    let remote = invocation.remote()?;
    let how = match &args.signed_by {
        Some(_) if remote.is_some() => {
            return Err(
                Error::user("--signed-by does not support --host: a host does not give out signatures")
                    .hint("omit --host and unset LOCKSTEP_HOST to check signatures in the store of this machine"),
            );
        }
        Some(key) => Check::Signature(signature::read_public_key(key)?),
        None => Check::Again {
            keep: args.on.is_none(),
            remote: invocation.remote()?,
        },
    };
    let jobs = args.jobs.unwrap_or_else(cores);
    let subjects = match args.what.as_deref() {
        None => {
            let runs = Runs {
                since_ms: args.since.map_or(0, since),
                ..Runs::newest(args.most.unwrap_or(usize::MAX))
            };
            let rows = remote
                .as_ref()
                .map_or_else(|| Ok(runtime.runs(&runs)?), |remote| remote.rows(&runs))?;
            rows.into_iter().map(subjects::listed).collect()
        }
        Some(what) if is_pipeline(what) => {
            let plan = subjects::plan(&runtime, what, args.given, interrupt, invocation)?;
            let explained = match &remote {
                Some(remote) => remote.explain(&runtime.store, &plan)?,
                None => explain(&runtime, &plan, &Limits::default())?,
            };
            subjects::tasks(explained, what)?
        }
        Some(what) => {
            if let Some(remote) = &remote {
                remote.bring_name(&runtime, what)?;
            }
            subjects::record(&runtime, what, &args.given)?
        }
    };
    if let Some(remote) = &remote {
        let mut records = subjects.iter().filter_map(|subject| subject.record.as_ref().ok());
        records.try_for_each(|record| remote.bring_record(&runtime, record).map(drop))?;
    }
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
