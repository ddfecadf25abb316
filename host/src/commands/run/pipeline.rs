use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use clap::Args;
use lockstep_runtime::pipeline::{Done, End, Executed, Execution, Plan, Skipped};
use lockstep_runtime::run::{Names, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::Artifact;
use serde_json::{Value, json};

use super::{Output, RunArgs};
use crate::error::{Error, Kind, Result};
use crate::export::{check_parent, export};
use crate::invocation::{Invocation, available_memory, print};
use crate::logs::Logs;
use crate::quantity::parse_bytes;
use crate::remote::Remote;
use crate::{pipelines, report};

/// How a pipeline is carried out.
#[derive(Args)]
#[command(next_help_heading = "Pipelines")]
pub struct PipelineArgs {
    /// So many tasks at a time [default: one for each core]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Memory for all guests that run at a time [default: what is free]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_budget: Option<u64>,

    /// After a failure, run what does not depend on it
    #[arg(short, long)]
    keep_going: bool,
}

impl PipelineArgs {
    /// The first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--jobs", self.jobs.is_some()),
            ("--memory-budget", self.memory_budget.is_some()),
            ("--keep-going", self.keep_going),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    fn jobs(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.jobs.unwrap_or_else(cores)
    }
}

pub(super) fn run(args: RunArgs, invocation: &Invocation, runtime: &Runtime, interrupt: &Interrupt) -> Result<()> {
    refuse_what_the_file_says(&args)?;
    let execution = Execution {
        jobs: args.pipeline.jobs(),
        memory: args.pipeline.memory_budget.or_else(available_memory).unwrap_or(u64::MAX),
        reuse: args.reuse(),
        limits: args.limits.limits(),
        keep_going: args.pipeline.keep_going,
        ..Execution::default()
    };
    let plan = pipelines::plan(runtime, &args.what, args.given, interrupt, invocation)?;
    check_outputs(&plan, &args.outputs)?;
    let start = Instant::now();
    let remote = Remote::of(invocation)?;
    let executed = shown(runtime, remote.as_ref(), &plan, &execution, interrupt, invocation)?;
    if invocation.json {
        print(format_args!("{}\n", to_json(&plan, &executed)?))?;
    } else if !invocation.quiet {
        anstream::eprint!("{}", report::tasks(&executed.tasks, start.elapsed()));
    }
    let Executed { tasks, outputs } = executed;
    verdict(tasks, interrupt).map_err(|error| if invocation.json { error.reported() } else { error })?;
    write_outputs(runtime, remote.as_ref(), &outputs, &args.outputs)
}

/// Carries out the plan and shows how far it is.
fn shown(
    runtime: &Runtime,
    remote: Option<&Remote>,
    plan: &Plan,
    execution: &Execution,
    interrupt: &Interrupt,
    invocation: &Invocation,
) -> Result<Executed> {
    let logs = Logs::of_tasks(&plan.name, plan.tasks().len(), invocation.json);
    pipelines::carry_out(runtime, remote, plan, execution, interrupt, logs, true)
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
            Error::user(format_args!("a pipeline takes no {what}: its file says what its tasks get"))
                .hint("parameters of the pipeline are given with --param NAME=VALUE"),
        ),
    }
}

/// Checks that the pipeline has the outputs that are to be written, and that they can be.
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

fn write_outputs(
    runtime: &Runtime,
    remote: Option<&Remote>,
    made: &BTreeMap<String, Artifact>,
    outputs: &[Output],
) -> Result<()> {
    for Output { name, path, .. } in outputs {
        if let (Some(path), Some(artifact)) = (path, made.get(name)) {
            remote.map_or(Ok(()), |remote| remote.take(&runtime.store, artifact))?;
            export(&runtime.store, artifact, path)?;
        }
    }
    Ok(())
}

/// An error unless every task succeeded or is skipped by a condition.
pub fn verdict(tasks: Vec<Done>, interrupt: &Interrupt) -> Result<()> {
    let succeeded = tasks.iter().filter(|done| succeeded(&done.end)).count();
    let left = tasks.iter().any(|done| !succeeded_or_skipped(&done.end));
    if interrupt.is_triggered() && left {
        let message = format!("interrupted after {succeeded} of {} tasks", tasks.len());
        return Err(Error::new(Kind::Interrupted, message).hint("what they made is kept: the same command goes on from here"));
    }
    let mut failed = tasks.into_iter().filter(|done| is_failure(&done.end));
    let Some(Done { task, end }) = failed.next() else {
        return Ok(());
    };
    let error = match end {
        End::Ran(ran) => report::verdict(&ran, Some(&task)),
        End::Error(error) => Err(Error::from(error).of(format_args!("task `{task}`"))),
        End::Skipped(_) | End::NotStarted => Ok(()),
    };
    let others: Vec<String> = failed.map(|done| done.task).collect();
    error.map_err(|error| match others[..] {
        [] => error,
        _ => error.detail(format_args!("also failed: {}", others.join(", "))),
    })
}

fn succeeded(end: &End) -> bool {
    matches!(end, End::Ran(ran) if ran.record.outcome.succeeded())
}

fn succeeded_or_skipped(end: &End) -> bool {
    succeeded(end) || matches!(end, End::Skipped(_))
}

fn is_failure(end: &End) -> bool {
    matches!(end, End::Ran(_) | End::Error(_)) && !succeeded(end)
}

/// What a pipeline came to, as JSON: its tasks in the order of the plan.
pub fn to_json(plan: &Plan, executed: &Executed) -> Result<Value> {
    let tasks: Vec<Value> = executed.tasks.iter().map(task_to_json).collect();
    Ok(json!({
        "pipeline": plan.name,
        "plan": plan.digest()?,
        "tasks": tasks,
        "outputs": executed.outputs,
    }))
}

/// What a task came to, as JSON: what [`Ran::to_json`] tells, or `skipped`, `error` or `started`; and `task`.
pub fn task_to_json(done: &Done) -> Value {
    let nothing = |key: &str, value: Value| json!({ "outputs": {}, key: value });
    let mut object = match &done.end {
        End::Ran(ran) => ran.to_json(),
        End::Skipped(Skipped::When(when)) => nothing("skipped", json!({ "when": when.to_string() })),
        End::Skipped(Skipped::After(task)) => nothing("skipped", json!({ "after": task })),
        End::Error(error) => nothing("error", json!(error.to_string())),
        End::NotStarted => nothing("started", json!(false)),
    };
    object["task"] = json!(done.task);
    object
}
