//! Results of pipelines.

use lockstep_runtime::pipeline::{Done, End, Executed, Plan, Skipped};
use lockstep_runtime::sandbox::Interrupt;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::report;

/// Returns an error unless every task succeeded or was skipped.
pub fn verdict(tasks: Vec<Done>, interrupt: &Interrupt) -> Result<()> {
    let succeeded = tasks.iter().filter(|done| succeeded(&done.end)).count();
    let left = tasks.iter().any(|done| !succeeded_or_skipped(&done.end));
    if interrupt.is_triggered() && left {
        let message = format!("interrupted after {succeeded} of {} tasks", tasks.len());
        return Err(
            Error::new(Kind::Interrupted, message).hint("results of finished tasks are kept; run the same command to continue")
        );
    }
    let mut failed = tasks.into_iter().filter(|done| is_failure(&done.end));
    let Some(Done { task, end }) = failed.next() else {
        return Ok(());
    };
    let error = match end {
        End::Ran(ran) => report::verdict(&ran, &format!("task `{task}`")),
        End::Error(error) => Err(Error::from(error).of(format_args!("task `{task}`"))),
        End::Skipped(_) | End::Empty | End::NotStarted => Ok(()),
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
    succeeded(end) || matches!(end, End::Skipped(_) | End::Empty)
}

fn is_failure(end: &End) -> bool {
    matches!(end, End::Ran(_) | End::Error(_)) && !succeeded(end)
}

/// Converts the result of a pipeline to JSON, with tasks in the order of the plan.
pub fn to_json(plan: &Plan, executed: &Executed) -> Result<Value> {
    let tasks: Vec<Value> = executed.tasks.iter().map(task_to_json).collect();
    Ok(json!({
        "pipeline": plan.name,
        "plan": plan.digest()?,
        "tasks": tasks,
        "outputs": executed.outputs,
    }))
}

/// Converts the result of a task to JSON: the object of [`Ran::to_json`], or `skipped`, `instances`, `error` or `started`; and `task`.
pub fn task_to_json(done: &Done) -> Value {
    let nothing = |key: &str, value: Value| json!({ "outputs": {}, key: value });
    let mut object = match &done.end {
        End::Ran(ran) => ran.to_json(),
        End::Skipped(Skipped::When(when)) => nothing("skipped", json!({ "when": when.to_string() })),
        End::Skipped(Skipped::After(task)) => nothing("skipped", json!({ "after": task })),
        End::Empty => nothing("instances", json!(0)),
        End::Error(error) => nothing("error", json!(error.to_string())),
        End::NotStarted => nothing("started", json!(false)),
    };
    object["task"] = json!(done.task);
    object
}
