use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Input, Run, Runtime, bind, choose};
use lockstep_runtime::step::{Artifact, GuestPath, Interface, MediaType, OwnLimits};
use lockstep_view::artifacts::known;
use lockstep_view::error::Error;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::ErrorAnswer;
use crate::answers::Answered;
use crate::extract::{Query, blocking, bytes, digest, json};
use crate::gate::ending;
use crate::needs::{check_directory, present};
use crate::works::{Attended, Submission, WorkItem};
use crate::{Answer, Caller, Namespace, Refusal, Server};

/// Request for a run. Modules and inputs are named by digest. Upload missing ones first, with `PUT /api/v1/artifacts/{digest}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    /// Digest of the module.
    module: String,
    /// Name of the step; optional if the module has only one.
    step: Option<String>,
    /// Parameters of the step; omitted parameters have their defaults.
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    /// Inputs, by name.
    #[serde(default)]
    inputs: BTreeMap<String, InputRequest>,
    /// Outputs of a plain program: name to media type.
    #[serde(default)]
    outputs: BTreeMap<String, String>,
    /// Arguments of a plain program.
    #[serde(default)]
    args: Vec<String>,
    /// Environment variables of a plain program.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Input that a plain program reads from stdin.
    stdin: Option<String>,
    /// Output that captures the stdout of a plain program.
    stdout: Option<String>,
    /// Modules whose steps the run may call: name to digest.
    #[serde(default)]
    modules: BTreeMap<String, String>,
    /// Seed of the random number generator.
    #[serde(default)]
    seed: u64,
    /// Resource limits: `memory`, `output` and `log` in bytes, `fuel` in instructions, `time_ms`.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: OwnLimits,
    /// Ignore cached results.
    #[serde(default)]
    fresh: bool,
}

/// An input: a digest, or an object with more properties.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum InputRequest {
    Digest(String),
    Placed(Placed),
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Placed {
    digest: String,
    /// Media type; by default the one that the artifact was uploaded with.
    media_type: Option<String>,
    /// Path of the input for a plain program [default: `/in/NAME`].
    at: Option<String>,
}

/// Maximum time that a request waits for its run.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait for the run.
    wait: Option<u64>,
}

/// Submit a run
///
/// Returns 200 with the result if the run is cached or finishes within `wait` seconds, also if the guest failed. Otherwise returns 202
/// with the `Location` of a work item; the run continues in the background.
#[utoipa::path(
    post, path = "/api/v1/runs",
    params(("wait" = Option<u64>, Query, description = "seconds to wait for the result, at most 60 [default: 60]")),
    request_body = RunRequest,
    responses(
        (status = 200, description = "the record, as printed by `lockstep run --json`", body = Object),
        (status = 202, description = "the run continues; `Location` is its work item", body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "the queue or the disk is full; see `Retry-After`", body = ErrorAnswer),
    )
)]
pub async fn submit(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Query(query): Query<Wait>,
    request: Request,
) -> Answer<Response> {
    let body = bytes(request).await?;
    let asked = Digest::of(&body);
    let namespace = caller.namespace.clone();
    let start = Instant::now();
    if let Some(answered) = namespace.answers.0.get(&asked)
        && answered.holds(&namespace).await?
    {
        server.metrics.ran(&answered.ran);
        server.metrics.took(start.elapsed());
        return Ok(answer(answered.body.clone()));
    }
    let wait = query.wait.map_or(WAIT, |seconds| Duration::from_secs(seconds).min(WAIT));
    let request: RunRequest = json(&body)?;
    let (limits, fresh) = (request.limits, request.fresh);
    let owner = &namespace.owner;
    server.gate.check_memory(owner, &limits)?;
    let runtime = namespace.runtime.leased();
    // a cached run needs no turn
    let look_first = !fresh && (wait.is_zero() || server.gate.is_full());
    let all = look_first.then(|| server.gate.limits(owner, &limits));
    let (own, leased, quota) = (namespace.clone(), runtime.clone(), server.gate.quota(owner));
    let (run, cached) = blocking(move || {
        own.room.check(&quota)?;
        let run = bound(&own, &leased, request)?;
        let cached = match all {
            Some(all) => leased.recall(run.key()?, &all)?,
            None => None,
        };
        Ok((run, cached))
    })
    .await?;
    if let Some(ran) = cached {
        server.metrics.ran(&ran);
        server.metrics.took(start.elapsed());
        return Ok(answer(Bytes::from(ran.to_json().to_string())));
    }
    let submission = Submission::Run {
        run: Box::new(run),
        limits,
        fresh,
    };
    if wait.is_zero() {
        return accepted(&server, &caller, runtime, submission).await;
    }
    let place = server.gate.place(owner)?;
    let works = &namespace.works;
    let work = works.submit(submission, caller.token.clone());
    let carried_out = works.clone().carry_out(work.clone(), runtime, server.clone(), place);
    let mut attended = Attended::new(works, &work, carried_out);
    match attended.result(wait.saturating_sub(start.elapsed())).await {
        Some(Some(ran)) => {
            let ran = ran?;
            let body = Bytes::from(ran.to_json().to_string());
            if !fresh && ran.record.outcome.is_deterministic() {
                namespace.answers.0.insert(asked, Arc::new(Answered::new(ran)));
            }
            Ok(answer(body))
        }
        Some(None) => Err(ending()),
        None => {
            let (works, kept) = (works.clone(), work.clone());
            blocking(move || Ok(works.keep(&kept, true)?)).await?;
            Ok(located(&server, &work))
        }
    }
}

fn answer(body: Bytes) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], body).into_response()
}

/// Accepts work: 202 with the location of the work item. `runtime` has the lease on what the work needs.
pub(super) async fn accepted(
    server: &Arc<Server>,
    caller: &Caller,
    runtime: Runtime,
    submission: Submission,
) -> Answer<Response> {
    let work = server
        .accept(&caller.namespace, runtime, submission, caller.token.clone())
        .await?;
    Ok(located(server, &work))
}

/// 202 with the location of the work item.
pub(super) fn located(server: &Server, work: &WorkItem) -> Response {
    let location = format!("{}/api/v1/works/{}", server.settings.base_path(), work.id);
    let mut response = (StatusCode::ACCEPTED, Json(work.to_json())).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Resolves the requested run. Fails if the module or an input is missing.
fn bound(namespace: &Namespace, runtime: &Runtime, request: RunRequest) -> Answer<Run> {
    let module = digest(&request.module)?;
    let facts = namespace.module(runtime, "module", &module)?;
    let mut inputs = BTreeMap::new();
    for (name, input) in &request.inputs {
        inputs.insert(name.clone(), placed(runtime, name, input)?);
    }
    let mut modules = BTreeMap::new();
    for (name, text) in &request.modules {
        let digest = digest(text)?;
        namespace.module(runtime, &format!("module `{name}`"), &digest)?;
        modules.insert(name.clone(), digest);
    }
    let interface = match (&facts.interfaces[..], &request.step) {
        ([], None) => None,
        ([only], None) => Some(only),
        (all, Some(step)) => Some(choose(all, step)?),
        (_, None) => {
            return Err(Refusal::bad(
                Error::user("the module has several steps").hint("select one with `step`"),
            ));
        }
    };
    let mut run = match interface {
        Some(interface) => step(module, interface, inputs, &request)?,
        None => program(module, inputs, request)?,
    };
    run.modules.extend(modules);
    Ok(runtime.equip(run)?)
}

fn step(module: Digest, interface: &Interface, inputs: BTreeMap<String, Input>, request: &RunRequest) -> Answer<Run> {
    let for_programs = [
        ("args", !request.args.is_empty()),
        ("env", !request.env.is_empty()),
        ("stdin", request.stdin.is_some()),
        ("stdout", request.stdout.is_some()),
        ("outputs", !request.outputs.is_empty()),
        ("at", inputs.values().any(|input| input.at.is_some())),
    ];
    if let Some((what, _)) = for_programs.into_iter().find(|(_, given)| *given) {
        let error = Error::user(format_args!(
            "step `{}` does not accept `{what}`, which is only for plain programs",
            interface.step
        ));
        return Err(Refusal::bad(error));
    }
    let inputs = inputs.into_iter().map(|(name, input)| (name, input.artifact)).collect();
    Ok(bind(module, interface, inputs, &request.parameters, request.seed)?)
}

fn program(module: Digest, inputs: BTreeMap<String, Input>, request: RunRequest) -> Answer<Run> {
    if let Some(name) = request.parameters.keys().next() {
        return Err(Refusal::bad(format_args!(
            "parameter `{name}` is not accepted: the module is a plain program"
        )));
    }
    let outputs = request
        .outputs
        .into_iter()
        .map(|(name, media_type)| (name, MediaType::new(media_type)));
    let run = Run {
        module,
        entry: Entry::Program {
            args: request.args,
            env: request.env,
            stdin: request.stdin,
            stdout: request.stdout,
        },
        inputs,
        outputs: outputs.collect(),
        modules: BTreeMap::new(),
        seed: request.seed,
    };
    Ok(run)
}

fn placed(runtime: &Runtime, name: &str, input: &InputRequest) -> Answer<Input> {
    let (text, media_type, at) = match input {
        InputRequest::Digest(text) => (text, None, None),
        InputRequest::Placed(placed) => (&placed.digest, placed.media_type.as_ref(), placed.at.as_ref()),
    };
    let digest = digest(text)?;
    present(runtime, &format!("input `{name}`"), &digest)?;
    let mut artifact: Artifact = known(&runtime.store, &digest)?;
    if let Some(media_type) = media_type {
        artifact.media_type = MediaType::new(media_type);
    }
    check_directory(runtime, &artifact)?;
    let at = at
        .map(|at| GuestPath::try_from(at.clone()))
        .transpose()
        .map_err(Refusal::bad)?;
    Ok(Input { artifact, at })
}
