use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::bundle::{BundleError, Contents, check_target};
use lockstep_runtime::pipeline::{Execution, Plan};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_server::machine::{available_memory, cores};
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use lockstep_view::executed::verdict;
use lockstep_view::export::check_parent;
use lockstep_view::{quantity, report};
use serde_json::json;

use super::execute;
use crate::commands::run::LimitArgs;
use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::pipelines::{GivenArgs, is_pipeline, plan};

/// Pack a pipeline, a notebook or a run with its modules, inputs and expected digests
///
/// Runs tasks that have no cached result first. The same plan gives the same bytes.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep bundle create wine.yaml -o wine.tar
  lockstep bundle create wine.yaml -p depth=8 --outputs -o wine.tar
  lockstep bundle create analysis.ipynb -o analysis.tar
  lockstep bundle create 3fa9c1 -o run.tar       # one run, as `lockstep log` lists it")]
pub struct CreateArgs {
    /// Pipeline file, plan, notebook or record
    #[arg(value_name = "PIPELINE.yaml")]
    what: String,

    #[command(flatten)]
    given: GivenArgs,

    /// Output path: a file if it ends in .tar, otherwise a directory
    #[arg(short, long, value_name = "FILE.tar")]
    output: PathBuf,

    /// Include the outputs of tasks, not only their digests
    #[arg(long)]
    outputs: bool,

    /// Maximum concurrent tasks [default: number of cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    limits: LimitArgs,
}

pub fn run(args: CreateArgs, invocation: &Invocation) -> Result<()> {
    check_target(&args.output)?;
    check_parent(&args.output)?;
    let runtime = invocation.runtime(args.limits.engine())?;
    let interrupt = interrupt_on_ctrl_c()?;
    let execution = Execution {
        jobs: args.jobs.unwrap_or_else(cores),
        memory: available_memory(),
        limits: args.limits.limits(),
        ..Execution::default()
    };
    let plan = match is_pipeline(&args.what) {
        true => plan(&runtime, &args.what, args.given, &interrupt, invocation)?,
        false => of_record(&runtime, &args.what, &args.given)?,
    };
    let contents = gathered(&runtime, &plan, execution, &interrupt, args.outputs)?;
    contents.write(&args.output)?;
    if invocation.quiet && !invocation.json {
        return Ok(());
    }
    let text = format!(
        "{}: bundle {}, {}, {}\n",
        args.output.display(),
        contents.digest().short(),
        report::counted(plan.tasks().len(), "task"),
        quantity::bytes(contents.size()),
    );
    invocation.answer(text, || {
        json!({
            "output": args.output,
            "bundle": contents.digest(),
            "pipeline": plan.name,
            "tasks": plan.tasks().len(),
            "size": contents.size(),
        })
    })
}

fn gathered(runtime: &Runtime, plan: &Plan, execution: Execution, interrupt: &Interrupt, outputs: bool) -> Result<Contents> {
    let executed = execute(runtime, plan, execution, interrupt)?;
    let contents = Contents::gather(runtime, plan, &executed, outputs);
    if matches!(contents, Err(BundleError::Failed { .. })) {
        verdict(executed.tasks, interrupt)?;
    }
    Ok(contents?)
}

fn of_record(runtime: &Runtime, name: &str, given: &GivenArgs) -> Result<Plan> {
    if !given.is_empty() {
        return Err(Error::user("a run takes no parameters or inputs: they are part of it"));
    }
    match find(runtime, name)? {
        Named::Record(found) => {
            let (_, record, _) = *found;
            Ok(Plan::of_run(&report::title(&record), record.run))
        }
        Named::Artifact(_) => Err(Error::user(format_args!("{name} is neither a pipeline nor a record"))
            .hint("give PIPELINE.yaml, PLAN.json, NOTEBOOK.ipynb, or a record; `lockstep log` lists them")),
    }
}
