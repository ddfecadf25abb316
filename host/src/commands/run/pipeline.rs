use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use clap::Args;
use lockstep_client::Remote;
use lockstep_cluster::{Cluster, Settings};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{End, Event, Executed, Execution, Plan, execute};
use lockstep_runtime::run::{Names, Ran, Run, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::Artifact;
use lockstep_server::machine::available_memory;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::events;
use lockstep_view::executed::{to_json, verdict};
use lockstep_view::export::{check_parent, export};
use lockstep_view::logs::Logs;
use lockstep_view::print::print;
use lockstep_view::quantity::parse_bytes;
use lockstep_view::report;
use serde_json::{Value, json};

use super::{Output, RunArgs};
use crate::invocation::Invocation;
use crate::pipelines;
use crate::pipelines::Place;

/// So many tasks at a time where this machine does not do the work.
pub const ELSEWHERE: NonZeroUsize = NonZeroUsize::new(256).unwrap();

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

    /// Tell each event as a line of JSON on stdout; pods do
    #[arg(long, conflicts_with_all = ["json", "on"])]
    pub(super) events: bool,

    /// Of the tasks only that of this index, counted from 0, and what it waits for
    #[arg(long, value_name = "INDEX")]
    only: Option<usize>,
}

impl PipelineArgs {
    /// The first option that was given.
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

    /// Here as many tasks at a time as there are cores; of those elsewhere this machine only waits for the end.
    fn jobs(&self, elsewhere: bool) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.jobs.unwrap_or_else(|| if elsewhere { ELSEWHERE } else { cores() })
    }
}

pub(super) fn run(args: RunArgs, invocation: &Invocation, runtime: &Runtime, interrupt: &Interrupt) -> Result<()> {
    refuse_what_the_file_says(&args)?;
    let execution = Execution {
        jobs: args.pipeline.jobs(args.cluster.on.is_some()),
        memory: args.pipeline.memory_budget.or_else(available_memory).unwrap_or(u64::MAX),
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
    if args.pipeline.events {
        return told(runtime, &plan, &execution, interrupt);
    }
    if args.cluster.on.is_some() {
        let cluster = args.cluster.place.connect()?;
        let settings = args.cluster.settings(&execution, args.limits.large_module, invocation)?;
        let outputs = in_cluster(&cluster, &settings, &plan, &execution, invocation, runtime, interrupt)?;
        return write_outputs(runtime, None, &outputs, &args.outputs);
    }
    let remote = invocation.remote()?;
    let place = remote.as_ref().map_or(Place::Here, Place::Host);
    let outputs = shown(&place, &plan, &execution, invocation, runtime, interrupt)?;
    write_outputs(runtime, remote.as_ref(), &outputs, &args.outputs)
}

/// Carries out the plan, shows how far it is and tells what it came to: the pipeline's outputs, if all went well.
fn shown(
    place: &Place,
    plan: &Plan,
    execution: &Execution,
    invocation: &Invocation,
    runtime: &Runtime,
    interrupt: &Interrupt,
) -> Result<BTreeMap<String, Artifact>> {
    let start = Instant::now();
    let logs = Logs::of_tasks(&plan.name, plan.tasks().len(), invocation.json);
    let executed = pipelines::carry_out(runtime, place, plan, execution, interrupt, logs, true)?;
    if invocation.json {
        print(format_args!("{}\n", to_json(plan, &executed)?))?;
    } else if !invocation.quiet {
        anstream::eprint!("{}", report::tasks(&executed.tasks, start.elapsed()));
    }
    let Executed { tasks, outputs } = executed;
    verdict(tasks, interrupt).map_err(|error| if invocation.json { error.reported() } else { error })?;
    Ok(outputs)
}

/// Carries out the plan in a cluster: the pipeline's outputs, if all went well. What is interrupted here goes on there.
pub fn in_cluster(
    cluster: &Cluster,
    settings: &Settings,
    plan: &Plan,
    execution: &Execution,
    invocation: &Invocation,
    runtime: &Runtime,
    interrupt: &Interrupt,
) -> Result<BTreeMap<String, Artifact>> {
    let digest = plan.digest()?;
    let made = shown(
        &Place::Cluster(cluster, settings),
        plan,
        execution,
        invocation,
        runtime,
        interrupt,
    );
    let made = made.map_err(|error| match interrupt.is_triggered() {
        true => left(&digest, invocation),
        false => error,
    })?;
    remove(cluster, &digest);
    Ok(made)
}

/// Carries out a run in a cluster, as the only task of a plan.
pub(super) fn alone_in_cluster(
    cluster: &Cluster,
    settings: &Settings,
    run: &Run,
    execution: &Execution,
    invocation: &Invocation,
    runtime: &Runtime,
    interrupt: &Interrupt,
) -> Result<Ran> {
    let plan = Plan::of_run(&run.entry.title(), run.clone());
    let digest = plan.digest()?;
    let logs = Logs::of_tasks(&plan.name, 1, invocation.json);
    let place = Place::Cluster(cluster, settings);
    let executed = pipelines::carry_out(runtime, &place, &plan, execution, interrupt, logs, true)?;
    let ran = match executed.tasks.into_iter().next().map(|done| done.end) {
        Some(End::Ran(ran)) => ran,
        Some(End::Error(error)) => return Err(error.into()),
        Some(End::Skipped(_) | End::NotStarted) | None => return Err(left(&digest, invocation)),
    };
    remove(cluster, &digest);
    Ok(*ran)
}

/// Removes what carried out a plan. What was made is whole all the same.
fn remove(cluster: &Cluster, plan: &Digest) {
    if let Err(error) = cluster.delete(plan) {
        anstream::eprintln!("{} is left in the cluster: {}", plan.short(), error.message());
    }
}

/// What somebody is told who does not wait for the cluster.
fn left(plan: &Digest, invocation: &Invocation) -> Error {
    let short = plan.short();
    let error = Error::new(Kind::Interrupted, "left to the cluster, where what has begun goes on").hint(format_args!(
        "`lockstep attach {short}` follows it again, `lockstep attach {short} --cancel` ends it"
    ));
    if invocation.json { error.reported() } else { error }
}

/// Carries out the plan, and writes each event as a line of JSON: `event`, and what belongs to it.
fn told(runtime: &Runtime, plan: &Plan, execution: &Execution, interrupt: &Interrupt) -> Result<()> {
    let mut on = |event: Event| {
        let (name, told) = events::told(&event);
        // who reads it may have gone; what is made is kept all the same
        let _ = line(name, told);
    };
    let executed = execute(runtime, plan, execution, interrupt, &mut on)?;
    verdict(executed.tasks, interrupt)
}

/// A line of JSON that tells an event.
pub(super) fn line(name: &str, mut told: Value) -> Result<()> {
    told["event"] = json!(name);
    print(format_args!("{told}\n"))
}

/// The task of this index, and what it waits for.
fn only(plan: &Plan, index: usize) -> Result<Plan> {
    let Some(task) = plan.tasks().get(index) else {
        return Err(Error::user(format_args!(
            "--only {index}: the plan has {} tasks, counted from 0",
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
