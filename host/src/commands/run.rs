use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use lockstep_kubeflow::ContainerInputs;
use lockstep_kubeflow::launcher::ExecutorInput;
use lockstep_runtime::pipeline::Execution;
use lockstep_runtime::run::{Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::{CompileBudget, EngineOptions, Interrupt};
use lockstep_runtime::step::{Artifact, Limits, OwnLimits};
use lockstep_view::columns::fit;
use lockstep_view::error::{Error, Result};
use lockstep_view::export::{check_parent, export};
use lockstep_view::print::print_json;
use lockstep_view::quantity::{parse_bytes, parse_count, parse_duration};
use lockstep_view::report;
use serde_json::json;

use crate::executor::Executor;
use crate::invocation::{GlobalArgs, Invocation, interrupt_on_ctrl_c};
use crate::pipelines::{GivenArgs, is_pipeline, kept, pair};

mod cluster;
mod pipeline;
mod target;

pub use cluster::WhereArgs;
pub use pipeline::{ELSEWHERE, shown};

/// Run a step, a plain program or a pipeline
///
/// A run with the same module, parameters and inputs as an earlier one is not executed again: its outputs and log come from the store.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep run steps.wasm#clean --input raw=data/wine.csv --param column=species --output rows=clean.csv
  lockstep run steps.wasm#clean --input raw=data/people.csv --type raw.zip=text
  lockstep run steps.wasm#train --input rows=3fa9c1        # an artifact in the store, by digest
  lockstep run steps.wasm#train --input rows=8b01d2/rows   # an output of a record
  lockstep run wc.wasm --input text=README.md@/data/text --stdout counts:text/plain -- -l /data/text
  lockstep run wine.yaml -p depth=8 --keep-going
  lockstep run wine.yaml --parameters deep.yaml --jobs 2 --output model=model.cbor
  lockstep run plan.json                                   # written by `lockstep plan -o plan.json`
  lockstep run wine.yaml --on kubernetes --shared s3://team/store       # as Jobs; also for single steps
  lockstep run kfp.yaml -p trees=50                        # a Kubeflow pipeline whose containers run lockstep
  lockstep run sha256:ab12...#clean --executor-input '{{$}}'    # in a container of Kubeflow Pipelines
  lockstep run steps.wasm#clean -i raw=big.csv --memory 1GiB --time 30s --json")]
pub struct RunArgs {
    /// MODULE#STEP, PROGRAM.wasm, PIPELINE.yaml, NOTEBOOK.ipynb or PLAN.json; modules and plans can be digests
    #[arg(value_name = "WHAT")]
    what: String,

    #[command(flatten)]
    given: GivenArgs,

    /// Write an output to a file. For a plain program, also declares the output, which it writes to /out/NAME
    #[arg(short, long = "output", value_name = "NAME[:TYPE][=PATH]", value_parser = output)]
    outputs: Vec<Output>,

    /// Set an environment variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, help_heading = "Plain programs")]
    env: Vec<(String, String)>,

    /// Pass this input to stdin
    #[arg(long, value_name = "NAME", help_heading = "Plain programs")]
    stdin: Option<String>,

    /// Store stdout as this output
    #[arg(long, value_name = "NAME[:TYPE][=PATH]", value_parser = output, help_heading = "Plain programs")]
    stdout: Option<Output>,

    /// Arguments of the program
    #[arg(last = true, value_name = "ARGS", help_heading = "Plain programs")]
    args: Vec<String>,

    /// Set an input of a serde type from JSON
    #[arg(long = "value", value_name = "NAME=JSON", value_parser = pair)]
    values: Vec<(String, String)>,

    /// Make a module callable under this name
    #[arg(long = "module", value_name = "NAME=MODULE", value_parser = pair)]
    modules: Vec<(String, String)>,

    /// Executor input of Kubeflow Pipelines, passed as {{$}}: sets parameters and inputs, and the paths for outputs and their digests
    #[arg(long, value_name = "JSON", help_heading = "Kubeflow Pipelines")]
    executor_input: Option<String>,

    /// Seed of the random number generator
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    /// Ignore cached results
    #[arg(long, action = ArgAction::SetTrue)]
    no_cache: bool,

    #[command(flatten)]
    pipeline: pipeline::PipelineArgs,

    #[command(flatten)]
    cluster: cluster::ClusterArgs,

    #[command(flatten)]
    limits: LimitArgs,
}

/// Resource limits of a run.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Maximum memory of the guest [default: 4GiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,

    /// Maximum number of instructions, approximately [default: unlimited]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    fuel: Option<u64>,

    /// Maximum wall-clock time [default: unlimited]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    time: Option<Duration>,

    /// Maximum total size of files [default: 64GiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    output_limit: Option<u64>,

    /// Maximum output to stdout and stderr [default: 16MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    log_limit: Option<u64>,

    /// Raise compile limits for modules as large as CPython; only for modules that you trust
    #[arg(long)]
    pub(super) large_module: bool,
}

impl RunArgs {
    fn reuse(&self) -> Reuse {
        if self.no_cache { Reuse::Nothing } else { Reuse::Records }
    }
}

impl LimitArgs {
    /// Returns the limits, with defaults.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            memory: self.memory.unwrap_or(default.memory),
            fuel: self.fuel.unwrap_or(default.fuel),
            output: self.output_limit.unwrap_or(default.output),
            log: self.log_limit.unwrap_or(default.log),
            time: self.time,
        }
    }

    /// Returns the limits that were given.
    pub fn own(&self) -> OwnLimits {
        OwnLimits {
            memory: self.memory,
            fuel: self.fuel,
            output: self.output_limit,
            log: self.log_limit,
            time_ms: self.time.map(|time| time.as_millis() as u64),
        }
    }

    /// Returns the options of the engine.
    pub fn engine(&self) -> EngineOptions {
        let budget = if self.large_module {
            CompileBudget::large()
        } else {
            CompileBudget::default()
        };
        EngineOptions {
            budget,
            ..EngineOptions::default()
        }
    }
}

/// An output on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Output {
    name: String,
    media_type: Option<String>,
    path: Option<PathBuf>,
}

fn output(text: &str) -> Result<Output, &'static str> {
    let (name, path) = match text.split_once('=') {
        Some((_, "")) => return Err("expected NAME=PATH"),
        Some((name, path)) => (name, Some(path.into())),
        None => (text, None),
    };
    let (name, media_type) = match name.split_once(':') {
        Some((name, media_type)) => (name, Some(media_type.to_owned())),
        None => (name, None),
    };
    match name {
        "" => Err("expected NAME=PATH"),
        name => Ok(Output {
            name: name.to_owned(),
            media_type,
            path,
        }),
    }
}

pub fn run(args: RunArgs, invocation: &Invocation) -> Result<()> {
    // a pod or a container succeeds only after the shared store has the results
    let (has_events, is_container) = (args.pipeline.events, args.executor_input.is_some());
    if !has_events && !is_container {
        return execute(args, invocation);
    }
    let ended = execute(args, invocation).and_then(|()| invocation.check_published());
    if !has_events {
        return ended;
    }
    pipeline::line("ended", ended.as_ref().map_or_else(Error::to_json, |()| json!({})))?;
    ended.map_err(Error::reported)
}

fn execute(mut args: RunArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(args.limits.engine())?;
    let interrupt = interrupt_on_ctrl_c()?;
    for (_, source) in &args.given.inputs {
        invocation.bring(&runtime, source)?;
    }
    args.given.apply_types(&runtime)?;
    match is_pipeline(&args.what) || kept(&runtime, &args.what)?.is_some() {
        true => pipeline::run(args, invocation, &runtime, &interrupt),
        false => run_alone(args, invocation, &runtime, &interrupt),
    }
}

/// Runs a step or a program, outside of a pipeline.
fn run_alone(mut args: RunArgs, invocation: &Invocation, runtime: &Runtime, interrupt: &Interrupt) -> Result<()> {
    refuse_for_pipelines(&args)?;
    invocation.bring(runtime, args.what.split('#').next().unwrap_or_default())?;
    let execution = Execution {
        reuse: args.reuse(),
        limits: args.limits.limits(),
        ..Execution::default()
    };
    let (cluster, large_module) = (args.cluster.clone(), args.limits.large_module);
    // a step by its name, a program by its file
    let title = args.what.rsplit_once('#').map_or(args.what.as_str(), |(_, step)| step);
    let title = format!("`{}`", fit(title, 60));
    let container = args.executor_input.take();
    let container = container.map(|json| ExecutorInput::read(&json)).transpose()?;
    let given = container.as_ref().map(|input| input.take(runtime)).transpose()?;
    let (run, outputs) = target::bind(args, runtime, given.unwrap_or_default())?;
    container.as_ref().map_or(Ok(()), |input| input.check(&run.outputs))?;
    outputs
        .iter()
        .filter_map(|output| output.path.as_deref())
        .try_for_each(check_parent)?;
    let executor = Executor {
        backend: cluster.backend(&execution, large_module, invocation)?,
        runtime,
        execution,
        interrupt,
    };
    let ran = executor.run(&run, invocation.json)?;
    if let Some(container) = container.filter(|_| ran.record.outcome.succeeded()) {
        container.write(runtime, &ran)?;
    }
    let written = match ran.record.outcome.succeeded() {
        true => write_outputs(&executor, &ran.record.outputs, &outputs)?,
        false => BTreeMap::new(),
    };
    report_run(&ran, &title, &written, invocation)
}

/// Reports the outcome of a run, which `title` names.
fn report_run(ran: &Ran, title: &str, written: &BTreeMap<&str, &Path>, invocation: &Invocation) -> Result<()> {
    if invocation.json {
        let mut object = ran.to_json();
        if !written.is_empty() {
            object["written"] = json!(written);
        }
        print_json(&object)?;
    } else if !invocation.quiet && ran.record.outcome.succeeded() {
        anstream::eprint!("{}", report::summary(ran));
    }
    report::verdict(ran, title).map_err(|error| if invocation.json { error.reported() } else { error })
}

fn refuse_for_pipelines(args: &RunArgs) -> Result<()> {
    let file = args.given.parameters_file.as_ref().map(|_| "--parameters");
    match args.pipeline.given().or(file) {
        None => Ok(()),
        Some(option) => Err(
            Error::user(format_args!("{option} needs a pipeline, and {} is not one", args.what))
                .hint("a pipeline is a file that ends in .yaml, or a plan that ends in .json"),
        ),
    }
}

/// A command line of `lockstep run`.
#[derive(Parser)]
#[command(name = "lockstep")]
struct CommandLine {
    #[command(flatten)]
    _global: GlobalArgs,

    #[command(subcommand)]
    command: OnlyRun,
}

#[derive(Subcommand)]
enum OnlyRun {
    Run(Box<RunArgs>),
}

/// Parses the arguments of a `lockstep run`; the first is `run`. Global options are ignored: they apply where the command runs.
pub fn parse(args: &[String]) -> Result<RunArgs> {
    let command_line = std::iter::once("lockstep").chain(args.iter().map(String::as_str));
    let parsed = CommandLine::try_parse_from(command_line).map_err(|e| Error::config(e.to_string().trim_end()))?;
    let OnlyRun::Run(args) = parsed.command;
    Ok(*args)
}

/// Resolves the command of a container to a run, and returns the limits that it sets.
pub fn bind_container(args: &[String], runtime: &Runtime, given: ContainerInputs) -> Result<(Run, OwnLimits)> {
    let args = parse(args)?;
    let limits = args.limits.own();
    Ok((target::bind(args, runtime, given)?.0, limits))
}

/// Writes the outputs in `made` to the requested files. Returns their paths, by name.
fn write_outputs<'a>(
    executor: &Executor,
    made: &BTreeMap<String, Artifact>,
    outputs: &'a [Output],
) -> Result<BTreeMap<&'a str, &'a Path>> {
    let mut written = BTreeMap::new();
    for Output { name, path, .. } in outputs {
        if let (Some(path), Some(artifact)) = (path, made.get(name)) {
            executor.fetch(artifact)?;
            export(&executor.runtime.store, artifact, path)?;
            written.insert(name.as_str(), path.as_path());
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_in_all_their_forms() {
        let output = |text| output(text).map(|o| (o.name, o.media_type, o.path));
        assert_eq!(output("rows"), Ok(("rows".into(), None, None)));
        assert_eq!(output("rows=a=b"), Ok(("rows".into(), None, Some("a=b".into()))));
        assert_eq!(
            output("n:text/plain=n.txt"),
            Ok(("n".into(), Some("text/plain".into()), Some("n.txt".into())))
        );
        assert!(output("=x").is_err());
        assert!(output("x=").is_err());
    }
}
