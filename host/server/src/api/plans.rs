use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Plan, Source, explain as explain_plan};
use lockstep_runtime::step::{Artifact, Limits, OwnLimits};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::ErrorAnswer;
use super::runs::{accepted, check_directory, present};
use crate::extract::{Body, blocking};
use crate::works::Submission;
use crate::{Answer, Caller, Refusal, Server};

/// A plan that is to be carried out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanRequest {
    /// What `lockstep plan PIPELINE.yaml -o FILE` writes. All modules and inputs that it names must be here.
    #[schema(value_type = Object)]
    plan: Value,
    /// What tasks may use that set no limits themselves.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: OwnLimits,
    /// Run what is known, too.
    #[serde(default)]
    fresh: bool,
    /// After a failure, run what does not depend on it.
    #[serde(default)]
    keep_going: bool,
}

/// Ask for a plan to be carried out
///
/// What of it is known is not run again.
#[utoipa::path(
    post, path = "/api/v1/plans",
    request_body = PlanRequest,
    responses(
        (status = 202, description = "it goes on; `Location` says where to watch it", body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "too many wait already", body = ErrorAnswer),
    )
)]
pub async fn submit(State(server): State<Arc<Server>>, caller: Caller, Body(request): Body<PlanRequest>) -> Answer<Response> {
    let namespace = caller.namespace.clone();
    let plan = blocking(move || read(&caller, &request.plan).map(|plan| (plan, request))).await?;
    let (
        plan,
        PlanRequest {
            limits,
            fresh,
            keep_going,
            ..
        },
    ) = plan;
    let submission = Submission::Plan {
        plan: Box::new(plan),
        limits,
        fresh,
        keep_going,
    };
    accepted(&server, &namespace, submission).await
}

/// Say of each task of a plan whether it would be run, and why
#[utoipa::path(
    post, path = "/api/v1/plans/explain",
    request_body = PlanRequest,
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn explain(caller: Caller, Body(request): Body<PlanRequest>) -> Answer<Json<Value>> {
    blocking(move || {
        let plan = read(&caller, &request.plan)?;
        let explained = explain_plan(&caller.namespace.runtime, &plan, &request.limits.or(&Limits::default()))?;
        Ok(Json(
            json!({ "pipeline": plan.name, "plan": plan.digest()?, "tasks": explained }),
        ))
    })
    .await
}

/// A plan whose modules and inputs this caller has.
fn read(caller: &Caller, plan: &Value) -> Answer<Plan> {
    let runtime = &caller.namespace.runtime;
    let plan = Plan::read(plan.to_string().as_bytes()).map_err(Refusal::bad)?;
    let has = |what: &str, task: &str, digest: &Digest| present(runtime, &format!("{what} of task `{task}`"), digest);
    let artifact = |what: &str, task: &str, artifact: &Artifact| {
        has(what, task, &artifact.digest)?;
        check_directory(runtime, artifact)
    };
    for task in plan.tasks() {
        let module = |digest| caller.namespace.module(&format!("a module of task `{}`", task.name), digest);
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
