//! A plan as a `WorkflowTemplate` of Argo Workflows. Each task is a container that carries out its part of the plan; what others made is in the
//! shared store, where it is found by its run key. So a task may also be run for parts or under conditions that are known only then.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_cluster::pod::{self, COMMAND, RETRIES};
use lockstep_runtime::pipeline::{Plan, Task, Use};
use lockstep_runtime::run::Runtime;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::needs::needs_of_plan;
use serde_json::{Value, json};

use super::pipeline::yaml;
use super::{Containers, Labels, Written};

/// The template of a plan, whose file uses its parameters so.
pub fn write(runtime: &Runtime, plan: &Plan, uses: &[Use], containers: &Containers) -> Result<Written> {
    let Some(shared) = &containers.shared else {
        return Err(Error::user("containers need a store that they reach too")
            .hint("--shared s3://BUCKET/PREFIX, or LOCKSTEP_SHARED, names one"));
    };
    let digest = runtime.store.put(plan.write()?)?;
    let needs = needs_of_plan(&runtime.store, plan)?;
    runtime.store.share(needs.into_keys().chain([digest]))?;
    let template = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {
            "name": Labels::default().of(&plan.name),
            "labels": pod::labels("task"),
            "annotations": { "lockstep.dev/plan": digest },
        },
        "spec": {
            "entrypoint": "pipeline",
            "podMetadata": { "labels": pod::labels("task") },
            "securityContext": pod::security(),
            "volumes": pod::volumes(),
            "templates": [dag(plan), task(&digest.to_string(), shared, containers)],
        },
    });
    let names: BTreeSet<&str> = uses.iter().map(|one| one.parameter.as_str()).collect();
    let fixed = |name: &str| format!("parameter `{name}` has the value that it has now: a plan has no parameters");
    Ok(Written {
        text: yaml(&template)?,
        notes: names.into_iter().map(fixed).collect(),
    })
}

/// The tasks, each after those that it waits for.
fn dag(plan: &Plan) -> Value {
    let mut labels = Labels::default();
    let labels: BTreeMap<&str, String> = plan
        .tasks()
        .iter()
        .map(|task| (task.name.as_str(), labels.of(&task.name)))
        .collect();
    let task = |(index, task): (usize, &Task)| {
        let waits_for: BTreeSet<&String> = task.waits_for().filter_map(|name| labels.get(name)).collect();
        let mut object = json!({
            "name": labels[task.name.as_str()],
            "template": "task",
            "arguments": { "parameters": [
                { "name": "task", "value": task.name },
                { "name": "index", "value": index.to_string() },
            ]},
        });
        if !waits_for.is_empty() {
            object["dependencies"] = json!(waits_for);
        }
        object
    };
    let tasks: Vec<Value> = plan.tasks().iter().enumerate().map(task).collect();
    json!({ "name": "pipeline", "dag": { "tasks": tasks } })
}

/// The container of a task, which is named by its index.
fn task(plan: &str, shared: &str, containers: &Containers) -> Value {
    let again = [Kind::Host, Kind::Interrupted].map(|kind| kind.code().to_string()).join(", ");
    json!({
        "name": "task",
        "inputs": { "parameters": [{ "name": "task" }, { "name": "index" }] },
        "metadata": { "annotations": {
            "lockstep.dev/plan": plan,
            "lockstep.dev/tasks": "{{inputs.parameters.task}}",
        }},
        // all else comes to the same another time
        "retryStrategy": {
            "limit": RETRIES,
            "retryPolicy": "Always",
            "expression": format!("lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [{again}]"),
            "backoff": { "duration": "10s", "factor": 2 },
        },
        "container": {
            "image": containers.image,
            "command": [COMMAND],
            "args": ["run", plan, "--only", "{{inputs.parameters.index}}", "--events"],
            "env": pod::environment(shared, []),
            "envFrom": pod::environment_from(&containers.secret),
            "securityContext": pod::container_security(),
            "volumeMounts": pod::mounts(),
        },
    })
}
