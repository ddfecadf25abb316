//! Export of a plan as an Argo `WorkflowTemplate`. Each task is a container that executes its part of the plan and finds results of other
//! tasks in the shared store by run key. So parts and conditions may depend on those results.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_cluster::pod::{self, COMMAND, RETRIES};
use lockstep_runtime::pipeline::{Plan, Task, Use};
use lockstep_runtime::run::Runtime;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::needs::needs_of_plan;
use serde_json::{Value, json};

use super::pipeline::{omitted, yaml};
use super::{Containers, Labels, Written};

/// Exports a plan; `uses` lists the uses of the pipeline's parameters.
pub fn write(runtime: &Runtime, plan: &Plan, uses: &[Use], containers: &Containers) -> Result<Written> {
    let Some(shared) = &containers.shared else {
        return Err(Error::user("shared store required, for access from containers")
            .hint("set --shared s3://BUCKET/PREFIX or LOCKSTEP_SHARED"));
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
    let fixed = |name: &str| format!("parameter `{name}` is fixed to its current value: plans have no parameters");
    Ok(Written {
        text: yaml(&template)?,
        notes: names.into_iter().map(fixed).chain(omitted(plan)).collect(),
    })
}

/// Returns the template with the DAG of tasks.
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

/// Returns the template of a task, with its index as a parameter.
fn task(plan: &str, shared: &str, containers: &Containers) -> Value {
    let again = [Kind::Host, Kind::Interrupted].map(|kind| kind.code().to_string()).join(", ");
    json!({
        "name": "task",
        "inputs": { "parameters": [{ "name": "task" }, { "name": "index" }] },
        "metadata": { "annotations": {
            "lockstep.dev/plan": plan,
            "lockstep.dev/tasks": "{{inputs.parameters.task}}",
        }},
        // other failures are deterministic
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
