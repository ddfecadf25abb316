use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lockstep_cluster::new_secret;
use lockstep_runtime::step::OwnLimits;
use lockstep_view::error::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::ErrorAnswer;
use super::plans::{PlanRequest, submission};
use super::runs::located;
use crate::extract::{Body, Path, blocking};
use crate::schedules::{Cause, Hook, Schedule, Start, State as ScheduleState, Times};
use crate::works::{Submission, now_ms};
use crate::{Answer, Caller, Namespace, Refusal, Server, timer};

/// A schedule: a plan, and when to run it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleRequest {
    /// 1 to 63 letters, digits, `-`, `_` and `.`.
    name: String,
    /// Cron expression of five fields: minute, hour, day of the month, month, day of the week.
    cron: Option<String>,
    /// Time zone of the IANA database, such as Europe/Vienna [default: UTC]
    zone: Option<String>,
    /// Also start it when its webhook is called. The response has `url` and `secret`.
    #[serde(default)]
    webhook: bool,
    /// Start it once for all times that passed while the host did not run.
    #[serde(default)]
    catch_up: bool,
    /// Start it although the work item of its last start still runs.
    #[serde(default)]
    overlap: bool,
    /// Replace the schedule with this name. Its history stays.
    #[serde(default)]
    replace: bool,
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

/// Number of starts that a schedule is shown with.
const STARTS: usize = 50;

/// Length of the ID of a webhook, in characters of 64 kinds.
const HOOK_ID: usize = 24;

/// List schedules, by name
#[utoipa::path(
    get, path = "/api/v1/schedules",
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn list(caller: Caller) -> Answer<Json<Value>> {
    blocking(move || {
        let namespace = &caller.namespace;
        let all = namespace.schedules.all();
        let all = all.iter().map(|schedule| with_starts(namespace, schedule, 1));
        Ok(Json(json!({ "schedules": all.collect::<Answer<Vec<_>>>()? })))
    })
    .await
}

/// Show a schedule, with its last starts
#[utoipa::path(
    get, path = "/api/v1/schedules/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn get(caller: Caller, Path(name): Path) -> Answer<Json<Value>> {
    blocking(move || {
        let schedule = caller.namespace.schedules.get(&name)?;
        Ok(Json(with_starts(&caller.namespace, &schedule, STARTS)?))
    })
    .await
}

/// Returns a schedule with its newest starts, and the states of their work items.
fn with_starts(namespace: &Namespace, schedule: &Schedule, most: usize) -> Answer<Value> {
    let mut object = schedule.to_json();
    let starts = namespace.schedules.starts(&schedule.name, most)?;
    let starts = starts.iter().map(|start| -> Answer<Value> {
        let mut told = json!(start);
        if let Some(id) = &start.work {
            told["state"] = json!(namespace.works.get(id)?.map(|work| work.state()));
        }
        Ok(told)
    });
    object["starts"] = json!(starts.collect::<Answer<Vec<_>>>()?);
    Ok(object)
}

/// Add a schedule
///
/// What it runs is fixed: the plan with all modules and inputs that it names by digest.
#[utoipa::path(
    post, path = "/api/v1/schedules",
    request_body = ScheduleRequest,
    responses(
        (status = 201, description = "the schedule; with a webhook, also its path `url` and its `secret`, which are shown only now", body = Object),
        (status = "4XX", body = ErrorAnswer),
    )
)]
pub async fn add(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Body(request): Body<ScheduleRequest>,
) -> Answer<(StatusCode, Json<Value>)> {
    check_name(&request.name)?;
    let now = now_ms();
    let times = times(&request)?;
    let namespace = caller.namespace.clone();
    let runtime = namespace.runtime.leased();
    let plan = PlanRequest {
        plan: request.plan,
        limits: request.limits,
        fresh: request.fresh,
        keep_going: request.keep_going,
    };
    let submission = submission(&server, &caller, &runtime, plan).await?;
    let Submission::Plan { plan, .. } = &submission else {
        return Err(Error::host("internal error: the submission has no plan").into());
    };
    let mut schedule = Schedule {
        name: request.name,
        times,
        hook: request.webhook.then(|| Hook {
            id: new_secret().chars().rev().take(HOOK_ID).collect(),
            secret: new_secret(),
        }),
        overlap: request.overlap,
        state: ScheduleState::Active,
        token: token(&server, &caller).await?,
        created_ms: now,
        pipeline: plan.name.clone(),
        plan: plan.digest().map_err(Error::from)?,
        next_ms: None,
    };
    schedule.next_ms = schedule.next(now);
    if schedule.times.is_some() && schedule.next_ms.is_none() {
        return Err(Refusal::bad("the cron expression names no time that ever comes"));
    }
    let mut told = schedule.to_json();
    if let Some(hook) = &schedule.hook {
        told["url"] = json!(format!("{}/api/v1/hooks/{}", server.settings.base_path(), hook.id));
        told["secret"] = json!(hook.secret);
    }
    let most = server.gate.quota(&namespace.owner).schedules();
    blocking(move || namespace.schedules.add(schedule, &submission, request.replace, most, runtime)).await?;
    server.rescheduled.notify_one();
    Ok((StatusCode::CREATED, Json(told)))
}

fn check_name(name: &str) -> Answer<()> {
    let is_name = (1..=63).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match is_name {
        true => Ok(()),
        false => Err(Refusal::bad(format_args!(
            "invalid name of a schedule: use 1 to 63 letters, digits, `-`, `_` and `.`, without `-` or `.` at the start: {name:?}"
        ))),
    }
}

fn times(request: &ScheduleRequest) -> Answer<Option<Times>> {
    let Some(cron) = &request.cron else {
        return match (request.webhook, request.catch_up || request.zone.is_some()) {
            (false, _) => Err(Refusal::bad("a schedule needs `cron` or `webhook`")),
            (true, true) => Err(Refusal::bad("`zone` and `catch_up` need `cron`")),
            (true, false) => Ok(None),
        };
    };
    let times = Times {
        cron: cron.clone(),
        zone: request.zone.clone().unwrap_or_else(|| "UTC".to_owned()),
        catch_up: request.catch_up,
    };
    times.when()?;
    Ok(Some(times))
}

/// Returns name and hash of the caller's token.
async fn token(server: &Server, caller: &Caller) -> Answer<Option<(String, lockstep_runtime::digest::Digest)>> {
    let Some(name) = &caller.token else { return Ok(None) };
    let hash = server.access.valid(name).await?;
    match hash {
        Some(hash) => Ok(Some((name.clone(), hash))),
        None => Err(Refusal::bad(format_args!("the token {name} has just been revoked"))),
    }
}

/// Remove a schedule; work that it started goes on
#[utoipa::path(
    delete, path = "/api/v1/schedules/{name}",
    params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn remove(caller: Caller, Path(name): Path) -> Answer<Json<Value>> {
    blocking(move || {
        caller.namespace.schedules.remove(&name)?;
        Ok(Json(json!({ "removed": name })))
    })
    .await
}

/// Pause a schedule
#[utoipa::path(
    post, path = "/api/v1/schedules/{name}/pause",
    params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn pause(State(server): State<Arc<Server>>, caller: Caller, Path(name): Path) -> Answer<Json<Value>> {
    let schedule = set_paused(&server, &caller, name, true).await?;
    Ok(Json(schedule.to_json()))
}

/// Resume a schedule that was paused or stopped; from now on it starts with the caller's token
#[utoipa::path(
    post, path = "/api/v1/schedules/{name}/resume",
    params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn resume(State(server): State<Arc<Server>>, caller: Caller, Path(name): Path) -> Answer<Json<Value>> {
    let schedule = set_paused(&server, &caller, name, false).await?;
    Ok(Json(schedule.to_json()))
}

/// Pauses or resumes a schedule.
pub async fn set_paused(server: &Server, caller: &Caller, name: String, paused: bool) -> Answer<Arc<Schedule>> {
    let token = token(server, caller).await?;
    let namespace = caller.namespace.clone();
    let changed = blocking(move || {
        namespace.schedules.change(&name, |schedule| {
            match paused {
                true => schedule.state = ScheduleState::Paused,
                false => (schedule.state, schedule.token) = (ScheduleState::Active, token),
            }
            // times that passed meanwhile are not caught up
            schedule.next_ms = schedule.next(now_ms());
        })
    });
    let changed = changed.await?;
    server.rescheduled.notify_one();
    Ok(changed)
}

/// Start a schedule now, with the caller's token, also if it is paused
#[utoipa::path(
    post, path = "/api/v1/schedules/{name}/trigger",
    params(("name" = String, Path)),
    responses(
        (status = 202, description = "accepted; `Location` is the work item", body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "the queue is full; see `Retry-After`", body = ErrorAnswer),
    )
)]
pub async fn trigger(State(server): State<Arc<Server>>, caller: Caller, Path(name): Path) -> Answer<Response> {
    let schedule = caller.namespace.schedules.get(&name)?;
    let namespace = caller.namespace.clone();
    let work = timer::start(&server, &namespace, &schedule, caller.token.clone(), Cause::Trigger).await?;
    let start = Start {
        at_ms: now_ms(),
        due_ms: None,
        by: Cause::Trigger,
        work: Some(work.id.clone()),
        why: None,
    };
    blocking(move || Ok(namespace.schedules.note(&name, &start, None)?)).await?;
    Ok(located(&server, &work))
}
