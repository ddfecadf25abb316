use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Plan, Source, explain as explain_plan};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::step::{Artifact, OwnLimits};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::ErrorAnswer;
use super::runs::{accepted, check_directory, present};
use crate::extract::{Body, blocking};
use crate::works::Submission;
use crate::{Answer, Caller, Refusal, Server};

/// Request to execute a plan.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanRequest {
    /// Output of `lockstep plan PIPELINE.yaml -o FILE`. Upload all modules and inputs that it names first.
    #[schema(value_type = Object)]
    plan: Value,
    /// Default limits, for tasks without their own.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: OwnLimits,
    /// Ignore cached results.
    #[serde(default)]
    fresh: bool,
    /// After a failure, run the tasks that do not depend on it.
    #[serde(default)]
    keep_going: bool,
}

/// Submit a plan
///
/// Cached tasks are not run again.
#[utoipa::path(
    post, path = "/api/v1/plans",
    request_body = PlanRequest,
    responses(
        (status = 202, description = "accepted; `Location` is the work item", body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "the queue or the disk is full; see `Retry-After`", body = ErrorAnswer),
    )
)]
pub async fn submit(State(server): State<Arc<Server>>, caller: Caller, Body(request): Body<PlanRequest>) -> Answer<Response> {
    let runtime = caller.namespace.runtime.leased();
    let (own, leased, quota) = (caller.clone(), runtime.clone(), server.gate.quota(&caller.namespace.owner));
    let plan = blocking(move || {
        own.namespace.check_store(&quota)?;
        Ok((read(&own, &leased, &request.plan)?, request))
    });
    let plan = plan.await?;
    let (
        plan,
        PlanRequest {
            limits,
            fresh,
            keep_going,
            ..
        },
    ) = plan;
    let own = plan.tasks().iter().map(|task| &task.limits);
    own.chain([&limits])
        .try_for_each(|limits| server.gate.check_memory(&caller.namespace.owner, limits))?;
    let submission = Submission::Plan {
        plan: Box::new(plan),
        limits,
        fresh,
        keep_going,
    };
    accepted(&server, &caller, runtime, submission).await
}

/// Explain for each task of a plan whether it would run, and why
#[utoipa::path(
    post, path = "/api/v1/plans/explain",
    request_body = PlanRequest,
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn explain(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Body(request): Body<PlanRequest>,
) -> Answer<Json<Value>> {
    blocking(move || {
        let runtime = &caller.namespace.runtime;
        let limits = server.gate.limits(&caller.namespace.owner, &request.limits);
        let plan = read(&caller, runtime, &request.plan)?;
        let explained = explain_plan(runtime, &plan, &limits)?;
        Ok(Json(
            json!({ "pipeline": plan.name, "plan": plan.digest()?, "tasks": explained }),
        ))
    })
    .await
}

/// Parses a plan and checks that the caller's store has its modules and inputs.
fn read(caller: &Caller, runtime: &Runtime, plan: &Value) -> Answer<Plan> {
    let plan = Plan::read(plan.to_string().as_bytes()).map_err(Refusal::bad)?;
    let has = |what: &str, task: &str, digest: &Digest| present(runtime, &format!("{what} of task `{task}`"), digest);
    let artifact = |what: &str, task: &str, artifact: &Artifact| {
        has(what, task, &artifact.digest)?;
        check_directory(runtime, artifact)
    };
    for task in plan.tasks() {
        let module = |digest| {
            caller
                .namespace
                .module(runtime, &format!("a module of task `{}`", task.name), digest)
        };
        module(&task.run.module)?;
        task.run.modules.values().try_for_each(|digest| module(digest).map(drop))?;
        for input in task.run.inputs.values() {
            artifact("an input", &task.name, &input.artifact)?;
        }
        for wire in task.wires.values() {
            if let Source::Pinned(pinned) = &wire.from {
                artifact("an input", &task.name, pinned)?;
            }
        }
    }
    for (name, source) in &plan.outputs {
        if let Source::Pinned(pinned) = source {
            artifact("an output", name, pinned)?;
        }
    }
    Ok(plan)
}
