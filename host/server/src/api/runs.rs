use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Input, Ran, Run, Runtime, bind, choose};
use lockstep_runtime::step::{Artifact, GuestPath, Interface, Limits, MediaType, OwnLimits, base, interfaces};
use lockstep_view::artifacts::known;
use lockstep_view::error::Error;
use lockstep_view::module::not_a_module;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::ErrorAnswer;
use crate::extract::{Query, blocking, bytes, digest, json};
use crate::namespace::ModuleFacts;
use crate::works::{Submission, run_one};
use crate::{Answer, Caller, Namespace, Refusal, Server};

/// A run that is asked for. Modules and inputs are named by digest; what the host lacks is sent first, with
/// `PUT /api/v1/artifacts/{digest}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    /// The module's digest.
    module: String,
    /// Which step of the module; not needed if it has one.
    step: Option<String>,
    /// Parameters of the step; those left out have their defaults.
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    /// Inputs by name.
    #[serde(default)]
    inputs: BTreeMap<String, InputRequest>,
    /// Of a plain program: its outputs, name to media type.
    #[serde(default)]
    outputs: BTreeMap<String, String>,
    /// Of a plain program: its arguments.
    #[serde(default)]
    args: Vec<String>,
    /// Of a plain program: its environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Of a plain program: the input that it reads as stdin.
    stdin: Option<String>,
    /// Of a plain program: the output that its stdout is kept as.
    stdout: Option<String>,
    /// The modules whose steps it may call: name to digest.
    #[serde(default)]
    modules: BTreeMap<String, String>,
    /// Where random numbers start.
    #[serde(default)]
    seed: u64,
    /// What it may use: `memory`, `output` and `log` in bytes, `fuel` in instructions, `time_ms`.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: OwnLimits,
    /// Run it although it may be known.
    #[serde(default)]
    fresh: bool,
}

/// An input: its digest, or more than that.
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
    /// What kind of bytes they are, when that is not what they were sent as.
    media_type: Option<String>,
    /// Of a plain program: where it finds the input, when that is not `/in/NAME`.
    at: Option<String>,
}

/// What requests were answered with lately, by the digest of their body: the same body leads to the same run. An answer holds as long as
/// the store has all of it.
pub struct Answers(Cache<Digest, Arc<Answered>>);

struct Answered {
    ran: Ran,
    body: Bytes,
    /// When the store was last asked whether it has all of it.
    asked: Mutex<Instant>,
}

/// The store is not asked again before.
const HOLDS: Duration = Duration::from_secs(1);

impl Answered {
    fn new(mut ran: Ran) -> Self {
        ran.cached = true;
        Self {
            body: Bytes::from(ran.to_json().to_string()),
            ran,
            asked: Mutex::new(Instant::now()),
        }
    }

    fn holds(&self, runtime: &Runtime) -> Answer<bool> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.elapsed() < HOLDS {
            return Ok(true);
        }
        *asked = Instant::now();
        Ok(runtime.is_kept(&self.ran.digest, &self.ran.record)?)
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::new(4096))
    }
}

/// Nobody waits longer than this in one request.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// In seconds.
    wait: Option<u64>,
}

/// Ask for a run
///
/// A run that is known, or ends within `wait` seconds, is answered with 200 and what it came to, a failure of the guest too. Else 202
/// comes with the `Location` of work to watch; that goes on whether anybody watches or not.
#[utoipa::path(
    post, path = "/api/v1/runs",
    params(("wait" = Option<u64>, Query, description = "in seconds, at most 60, which is the default")),
    request_body = RunRequest,
    responses(
        (status = 200, description = "the record, as `lockstep run --json` writes it", body = Object),
        (status = 202, description = "it goes on", body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "too many wait already", body = ErrorAnswer),
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
        && answered.holds(&namespace.runtime)?
    {
        server.metrics.ran(&answered.ran, start.elapsed());
        return Ok(answer(answered.body.clone()));
    }
    let wait = query.wait.map_or(WAIT, |seconds| Duration::from_secs(seconds).min(WAIT));
    let request: RunRequest = json(&body)?;
    let (limits, fresh) = (request.limits, request.fresh);
    // when there is no turn to be had in time, the run waits for it without the client
    let turn = match wait.is_zero() {
        true => None,
        false => tokio::time::timeout(wait, server.gate.turn()).await.ok().transpose()?,
    };
    let Some(turn) = turn else {
        let own = namespace.clone();
        let run = blocking(move || bound(&own, request)).await?;
        return watched(&server, &namespace, run, limits, fresh).await;
    };
    let run = Arc::new(OnceLock::new());
    let (own, place, request_span) = (namespace.clone(), run.clone(), tracing::Span::current());
    let mut running = tokio::task::spawn_blocking(move || -> Answer<Ran> {
        let _within = request_span.entered();
        let bound = bound(&own, request)?;
        let run = place.get_or_init(|| bound);
        let limits = limits.or(&Limits::default());
        Ok(run_one(&own.runtime, run, &limits, fresh, &turn.interrupt, &mut |_, _| {})?)
    });
    let ran = match tokio::time::timeout(wait.saturating_sub(start.elapsed()), &mut running).await {
        Ok(ran) => ran.map_err(|e| Error::host(format_args!("the run could not be carried out: {e}")))??,
        // the work that it becomes boards the flight of the run that goes on
        Err(_) => match run.get() {
            Some(run) => return watched(&server, &namespace, run.clone(), limits, false).await,
            None => return Err(Refusal::busy("the module and the inputs could not be looked at in time")),
        },
    };
    server.metrics.ran(&ran, start.elapsed());
    let body = Bytes::from(ran.to_json().to_string());
    if !fresh && ran.record.outcome.is_deterministic() {
        namespace.answers.0.insert(asked, Arc::new(Answered::new(ran)));
    }
    Ok(answer(body))
}

fn answer(body: Bytes) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], body).into_response()
}

/// Makes it work that goes on by itself; one that is known is answered at once all the same.
async fn watched(
    server: &Arc<Server>,
    namespace: &Arc<Namespace>,
    run: Run,
    limits: OwnLimits,
    fresh: bool,
) -> Answer<Response> {
    if !fresh {
        let (runtime, key, all) = (namespace.runtime.clone(), run.key()?, limits.or(&Limits::default()));
        if let Some(ran) = blocking(move || Ok(runtime.find(key, &all)?)).await? {
            return Ok(answer(Bytes::from(ran.to_json().to_string())));
        }
    }
    let submission = Submission::Run {
        run: Box::new(run),
        limits,
        fresh,
    };
    accepted(server, namespace, submission).await
}

/// Takes in work: 202, and where to watch it.
pub(super) async fn accepted(server: &Arc<Server>, namespace: &Arc<Namespace>, submission: Submission) -> Answer<Response> {
    server.gate.check()?;
    let own = namespace.clone();
    let work = blocking(move || Ok(own.works.submit(submission)?)).await?;
    server.start(namespace, &work);
    let location = format!("{}/api/v1/works/{}", server.settings.base_path(), work.id);
    let mut response = (StatusCode::ACCEPTED, Json(work.to_json())).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// The run that is asked for, whose module and inputs are all here.
fn bound(namespace: &Namespace, request: RunRequest) -> Answer<Run> {
    let module = digest(&request.module)?;
    let runtime = &namespace.runtime;
    let facts = namespace.module("module", &module)?;
    let mut inputs = BTreeMap::new();
    for (name, input) in &request.inputs {
        inputs.insert(name.clone(), placed(runtime, name, input)?);
    }
    let mut modules = BTreeMap::new();
    for (name, text) in &request.modules {
        let digest = digest(text)?;
        namespace.module(&format!("module `{name}`"), &digest)?;
        modules.insert(name.clone(), digest);
    }
    let interface = match (&facts.interfaces[..], &request.step) {
        ([], None) => None,
        ([only], None) => Some(only),
        (all, Some(step)) => Some(choose(all, step)?),
        (_, None) => {
            return Err(Refusal::bad(
                Error::user("the module has several steps").hint("say which one: `step`"),
            ));
        }
    };
    let mut run = match interface {
        Some(interface) => step(module, interface, inputs, &request)?,
        None => program(module, inputs, request)?,
    };
    run.modules = modules;
    Ok(run)
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
            "step `{}` takes no `{what}`: that is for plain programs",
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
            "the module is a plain program: it has no parameter `{name}`"
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

/// A directory lists artifacts, all of which must be here.
pub(super) fn check_directory(runtime: &Runtime, artifact: &Artifact) -> Answer<()> {
    if !artifact.is_directory() {
        return Ok(());
    }
    let files = runtime
        .store
        .list_directory(artifact)
        .map_err(|error| Refusal::bad(error.to_string()))?;
    files
        .iter()
        .try_for_each(|(path, file)| present(runtime, &format!("file `{path}`"), &file.digest))
}

/// Refuses what this caller does not have: whoever else may have it.
pub(super) fn present(runtime: &Runtime, what: &str, digest: &Digest) -> Answer<()> {
    if runtime.store.contains(digest)? {
        return Ok(());
    }
    let error = Error::user(format_args!("{what} is not here: {digest}"));
    let mut refusal = Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        error.hint(format_args!("send it: PUT /api/v1/artifacts/{}", digest.hex())),
    );
    refusal.missing = Some(*digest);
    Err(refusal)
}

impl Namespace {
    /// What there is to know of a module; refused unless this caller has it, and what it is based on. An engine knows what others have as well.
    pub(super) fn module(&self, what: &str, module: &Digest) -> Answer<Arc<ModuleFacts>> {
        present(&self.runtime, what, module)?;
        let facts = match self.modules.get(module) {
            Some(facts) => facts,
            None => {
                let wasm = self.runtime.store.get(module)?;
                let interfaces = interfaces(&wasm).map_err(|error| not_a_module(&module.short(), &wasm, error))?;
                let base = base(&wasm).map_err(|error| Error::config(format_args!("module {}: {error}", module.short())))?;
                let facts = Arc::new(ModuleFacts { interfaces, base });
                self.modules.insert(*module, facts.clone());
                facts
            }
        };
        if let Some(base) = &facts.base {
            present(&self.runtime, &format!("what {what} is based on"), base)?;
        }
        Ok(facts)
    }
}
