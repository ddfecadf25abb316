use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use lockstep_runtime::pipeline::{Plan, explain as explain_plan};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::step::OwnLimits;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::ErrorAnswer;
use super::runs::accepted;
use crate::extract::{Body, blocking};
use crate::needs::{check, check_memory};
use crate::works::Submission;
use crate::{Answer, Caller, Namespace, Refusal, Server};

/// Request to execute a plan.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanRequest {
    /// Output of `lockstep plan PIPELINE.yaml -o FILE`. Upload all modules and inputs that it names first.
    #[schema(value_type = Object)]
    pub(super) plan: Value,
    /// Default limits, for tasks without their own.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) limits: OwnLimits,
    /// Ignore cached results.
    #[serde(default)]
    pub(super) fresh: bool,
    /// After a failure, run the tasks that do not depend on it.
    #[serde(default)]
    pub(super) keep_going: bool,
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
    let submission = submission(&server, &caller, &runtime, request).await?;
    accepted(&server, &caller, runtime, submission).await
}

/// Checks a request against the caller's store and quotas.
pub(super) async fn submission(
    server: &Server,
    caller: &Caller,
    runtime: &Runtime,
    request: PlanRequest,
) -> Answer<Submission> {
    let owner = &caller.namespace.owner;
    let (namespace, leased, quota) = (caller.namespace.clone(), runtime.clone(), server.gate.quota(owner));
    let read = blocking(move || {
        namespace.room.check(&quota)?;
        Ok((read(&namespace, &leased, &request.plan)?, request))
    });
    let (
        plan,
        PlanRequest {
            limits,
            fresh,
            keep_going,
            ..
        },
    ) = read.await?;
    check_memory(server, owner, &plan, &limits)?;
    Ok(Submission::Plan {
        plan: Box::new(plan),
        limits,
        fresh,
        keep_going,
    })
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
        let plan = read(&caller.namespace, runtime, &request.plan)?;
        let explained = explain_plan(runtime, &plan, &limits)?;
        Ok(Json(
            json!({ "pipeline": plan.name, "plan": plan.digest()?, "tasks": explained }),
        ))
    })
    .await
}

/// Parses a plan and checks that the caller's store has its modules and inputs.
fn read(namespace: &Namespace, runtime: &Runtime, plan: &Value) -> Answer<Plan> {
    let plan = Plan::read(plan.to_string().as_bytes()).map_err(Refusal::bad)?;
    check(namespace, runtime, &plan)?;
    Ok(plan)
}
