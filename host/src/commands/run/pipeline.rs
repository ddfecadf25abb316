use std::path::Path;

use lockstep_runtime::pipeline::{Event, Pipeline, PipelineError, execute};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;

use super::{RunArgs, tasks_to_json, unique};
use crate::error::{Error, Result};
use crate::invocation::{Invocation, print};
use crate::logs::Logs;
use crate::report;

/// Whether `what` names a pipeline file.
pub(super) fn is_pipeline(what: &str) -> bool {
    Path::new(what)
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

pub(super) fn run(args: RunArgs, invocation: &Invocation, runtime: &Runtime, interrupt: &Interrupt) -> Result<()> {
    refuse_what_the_file_says(&args)?;
    let (limits, reuse) = (args.limits.limits(), args.reuse());
    let parameters = unique("parameter", args.parameters)?;
    let wrong = |error: PipelineError| Error::config(error);
    let pipeline = Pipeline::read(Path::new(&args.what)).map_err(wrong)?;
    let plan = pipeline.resolve(runtime, &parameters).map_err(wrong)?;

    let mut logs = Logs::of_tasks(invocation.json);
    let told = !invocation.json && !invocation.quiet;
    let mut on = |event: Event| match event {
        Event::Started { task } => logs.start(task),
        Event::Log { task, stream, bytes } => logs.write(task, stream, bytes),
        Event::Finished { task, ran } => {
            logs.finish(task);
            if told {
                logs.note(&report::task_line(task, ran));
            }
        }
    };
    let tasks = execute(runtime, &plan, reuse, &limits, interrupt, &mut on)?;
    if invocation.json {
        print(format_args!("{}\n", tasks_to_json(&plan.name, &tasks)))?;
    }
    for (task, ran) in &tasks {
        report::verdict(ran, Some(task)).map_err(|error| if invocation.json { error.reported() } else { error })?;
    }
    Ok(())
}

fn refuse_what_the_file_says(args: &RunArgs) -> Result<()> {
    let given = [
        ("--input", !args.inputs.is_empty()),
        ("--output", !args.outputs.is_empty()),
        ("--env", !args.env.is_empty()),
        ("--stdin", args.stdin.is_some()),
        ("--stdout", args.stdout.is_some()),
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
