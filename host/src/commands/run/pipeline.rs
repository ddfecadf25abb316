use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use clap::Args;
use lockstep_runtime::pipeline::{Event, Executed, Execution, Plan};
use lockstep_runtime::run::{Names, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::Artifact;
use lockstep_server::machine::{available_memory, cores};
use lockstep_view::error::{Error, Result};
use lockstep_view::events;
use lockstep_view::executed::{to_json, verdict};
use lockstep_view::export::check_parent;
use lockstep_view::logs::Logs;
use lockstep_view::print::print_json;
use lockstep_view::quantity::parse_bytes;
use lockstep_view::report;
use serde_json::{Value, json};

use super::{Output, RunArgs, write_outputs};
use crate::executor::Executor;
use crate::invocation::Invocation;
use crate::pipelines;

/// The maximum of concurrent tasks when they run elsewhere.
pub const ELSEWHERE: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How a pipeline runs.
#[derive(Args)]
#[command(next_help_heading = "Pipelines")]
pub struct PipelineArgs {
    /// Maximum concurrent tasks [default: number of cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Memory for all concurrent guests [default: available memory]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_budget: Option<u64>,

    /// After a failure, continue with tasks that do not depend on it
    #[arg(short, long)]
    keep_going: bool,

    /// Print each event as a line of JSON to stdout; used in pods
    #[arg(long, conflicts_with_all = ["json", "on"])]
    pub(super) events: bool,

    /// Run only the task with this index, counted from 0, and its dependencies
    #[arg(long, value_name = "INDEX")]
    only: Option<usize>,
}

impl PipelineArgs {
    /// Returns the first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--jobs", self.jobs.is_some()),
            ("--memory-budget", self.memory_budget.is_some()),
            ("--keep-going", self.keep_going),
            ("--events", self.events),
            ("--only", self.only.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// Returns the maximum of concurrent tasks: the number of cores here, more for tasks that run elsewhere.
    fn jobs(&self, elsewhere: bool) -> NonZeroUsize {
        self.jobs.unwrap_or_else(|| if elsewhere { ELSEWHERE } else { cores() })
    }
}

pub(super) fn run(args: RunArgs, invocation: &Invocation, runtime: &Runtime, interrupt: &Interrupt) -> Result<()> {
    refuse_what_the_file_says(&args)?;
    let execution = Execution {
        jobs: args.pipeline.jobs(args.cluster.on.is_some()),
        memory: args.pipeline.memory_budget.unwrap_or_else(available_memory),
        reuse: args.reuse(),
        limits: args.limits.limits(),
        keep_going: args.pipeline.keep_going,
        ..Execution::default()
    };
    let plan = match pipelines::kept(runtime, &args.what)? {
        Some(plan) => plan,
        None => pipelines::plan(runtime, &args.what, args.given, interrupt, invocation)?,
    };
    let plan = match args.pipeline.only {
        Some(index) => only(&plan, index)?,
        None => plan,
    };
    check_outputs(&plan, &args.outputs)?;
    let backend = args.cluster.backend(&execution, args.limits.large_module, invocation)?;
    let executor = Executor {
        backend,
        runtime,
        execution,
        interrupt,
    };
    if args.pipeline.events {
        return told(&executor, &plan);
    }
    let outputs = shown(&executor, &plan, invocation)?;
    write_outputs(&executor, &outputs, &args.outputs).map(drop)
}

/// Executes the plan, shows its progress and reports its result. Returns the outputs of the pipeline.
pub fn shown(executor: &Executor, plan: &Plan, invocation: &Invocation) -> Result<BTreeMap<String, Artifact>> {
    let start = Instant::now();
    let logs = Logs::of_tasks(&plan.name, plan.tasks().len(), invocation.json);
    let executed = executor.plan(plan, logs, true)?;
    if invocation.json {
        print_json(&to_json(plan, &executed)?)?;
    } else if !invocation.quiet {
        anstream::eprint!("{}", report::tasks(&executed.tasks, start.elapsed()));
    }
    let Executed { tasks, outputs } = executed;
    let ended = executor.complete(plan, verdict(tasks, executor.interrupt));
    ended.map_err(|error| if invocation.json { error.reported() } else { error })?;
    Ok(outputs)
}

/// Executes the plan, and prints each event as a line of JSON.
fn told(executor: &Executor, plan: &Plan) -> Result<()> {
    let mut on = |event: Event| {
        let (name, told) = events::told(&event);
        // the reader may have gone; the results are stored anyway
        let _ = line(name, told);
    };
    let executed = executor.watched(plan, &mut on)?;
    verdict(executed.tasks, executor.interrupt)
}

/// Prints an event as a line of JSON.
pub(super) fn line(name: &str, mut told: Value) -> Result<()> {
    told["event"] = json!(name);
    print_json(&told)
}

/// Returns the plan with only the task of this index and its dependencies.
fn only(plan: &Plan, index: usize) -> Result<Plan> {
    let Some(task) = plan.tasks().get(index) else {
        return Err(Error::user(format_args!(
            "no task {index}: the plan has {} tasks, counted from 0",
            plan.tasks().len()
        )));
    };
    Ok(plan.up_to(|other| other.name == task.name))
}

fn refuse_what_the_file_says(args: &RunArgs) -> Result<()> {
    let given = [
        ("--env", !args.env.is_empty()),
        ("--stdin", args.stdin.is_some()),
        ("--stdout", args.stdout.is_some()),
        ("--value", !args.values.is_empty()),
        ("--module", !args.modules.is_empty()),
        ("--executor-input", args.executor_input.is_some()),
        ("--seed", args.seed != 0),
        ("arguments after `--`", !args.args.is_empty()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((what, _)) => Err(
            Error::user(format_args!("a pipeline takes no {what}: the pipeline file sets that"))
                .hint("set parameters of the pipeline with --param NAME=VALUE"),
        ),
    }
}

/// Checks that the pipeline declares the requested outputs, and that their paths are writable.
fn check_outputs(plan: &Plan, outputs: &[Output]) -> Result<()> {
    for Output { name, path, .. } in outputs {
        if !plan.outputs.contains_key(name) {
            let known = Names::of(plan.outputs.keys().map(String::as_str));
            return Err(
                Error::user(format_args!("the pipeline declares no output `{name}`; it declares {known}"))
                    .hint("write `outputs: { name: task.output }` in its file, or `lockstep show RECORD` for a task's"),
            );
        }
        path.as_deref().map_or(Ok(()), check_parent)?;
    }
    Ok(())
}
