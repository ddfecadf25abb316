//! The host: one process that holds sandboxes for others, over HTTP.
//!
//! Each user has a [`Namespace`]: a store of its own, so that nobody can read or name what another one has. Who asks is found out in one
//! place ([`access`]), before any handler; handlers see the [`Caller`] and what belongs to it.

mod access;
mod answer;
mod api;
mod audit;
mod cache;
mod extract;
mod gate;
mod gateway;
mod listen;
pub mod machine;
mod metrics;
mod namespace;
mod pages;
pub mod prepare;
mod settings;
mod traces;
mod works;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use lockstep_cluster::new_secret;
use lockstep_runtime::sandbox::{Engine, EngineOptions};
use lockstep_view::error::{Error, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use access::Access;
use audit::Audit;
use gate::Gate;
use metrics::{Counted, Metrics};
use traces::Traces;
use works::Work;

use access::Caller;
use answer::{Answer, Refusal};
use machine::Surroundings;
use namespace::Namespace;

pub use access::{Scope, Token, TokenFile, user_name};
pub use settings::Settings;

/// How long the host waits, when it ends, for copies of its kernels to be put.
const FLUSH: Duration = Duration::from_secs(4);

/// What all requests share.
pub(crate) struct Server {
    pub settings: Settings,
    surroundings: Surroundings,
    engine: Engine,
    workshop: Arc<gateway::Workshop>,
    /// Where kernels get pods, if they have any.
    pods: Option<Arc<gateway::Source>>,
    namespaces: Mutex<BTreeMap<Option<String>, Arc<Namespace>>>,
    access: Access,
    audit: Audit,
    gate: Arc<Gate>,
    metrics: Metrics,
}

impl Server {
    async fn new(settings: Settings, surroundings: &Surroundings, tokens: TokenFile, secret: Option<&str>) -> Result<Self> {
        let loopback = settings.bind().ip().is_loopback();
        Ok(Self {
            access: Access::new(tokens, secret, settings.trust_header(), loopback, settings.allowed_hosts()),
            audit: Audit::open(&surroundings.host_directory())?,
            gate: Arc::new(Gate::new(settings.jobs(), settings.queue())),
            metrics: Metrics::default(),
            engine: machine::engine(&surroundings.cache, EngineOptions::default())?,
            workshop: Arc::new(gateway::Workshop::new(surroundings)),
            pods: gateway::Source::connect(&settings, surroundings).await?.map(Arc::new),
            namespaces: Mutex::default(),
            surroundings: surroundings.clone(),
            settings,
        })
    }

    /// What belongs to `user`. Work that a host before this one left is gone on with.
    pub fn namespace(self: &Arc<Self>, user: Option<&str>) -> Result<Arc<Namespace>> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let name = user.map(str::to_owned);
        if let Some(namespace) = namespaces.get(&name) {
            return Ok(namespace.clone());
        }
        let (namespace, unfinished) = Namespace::open(user, self)?;
        let namespace = Arc::new(namespace);
        unfinished.iter().for_each(|work| self.start(&namespace, work));
        namespaces.insert(name, namespace.clone());
        Ok(namespace)
    }

    /// Carries out `work` when its turn comes.
    fn start(&self, namespace: &Namespace, work: &Arc<Work>) {
        let works = namespace.works.clone();
        tokio::spawn(works.carry_out(work.clone(), namespace.runtime.clone(), self.gate.clone()));
    }

    /// How many kernels are alive.
    fn kernels(&self) -> usize {
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.values().map(|namespace| namespace.kernels.count()).sum()
    }
}

/// Serves until it is told to end by SIGTERM or SIGINT.
pub fn serve(settings: Settings, surroundings: &Surroundings) -> Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let threads = threads.map_err(|e| Error::host(format_args!("the system gave no threads: {e}")))?;
    let served = threads.block_on(async {
        let traces = settings.traces().map(Traces::to).transpose()?;
        log_to_stderr(surroundings, traces.as_ref())?;
        let served = run(settings, surroundings).await;
        if let Some(traces) = traces {
            // it waits for what is sent from here
            let _ = tokio::task::spawn_blocking(move || traces.end()).await;
        }
        served
    });
    threads.shutdown_timeout(Duration::from_secs(1));
    served
}

fn log_to_stderr(surroundings: &Surroundings, traces: Option<&Traces>) -> Result<()> {
    let said = surroundings.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(said).map_err(|e| Error::config(format_args!("LOCKSTEP_LOG is `{said}`: {e}")))?;
    let spans = format!("{}=off", traces::TARGET).parse().map_err(Error::host)?;
    let filter = filter.add_directive(spans);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match surroundings.json {
        true => log.json().with_filter(filter).boxed(),
        false => log.with_target(false).with_filter(filter).boxed(),
    };
    let all = tracing_subscriber::registry().with(log).with(traces.map(Traces::layer));
    // there is one already if this process serves a second time, as in tests
    let _ = all.try_init();
    Ok(())
}

async fn run(settings: Settings, surroundings: &Surroundings) -> Result<()> {
    let tokens = TokenFile::new(&surroundings.host_directory());
    let given = surroundings.token.clone();
    let is_known = !tokens.all()?.is_empty() || settings.trust_header().is_some();
    let secret = given.clone().or_else(|| (!is_known).then(new_secret));
    let server = Arc::new(Server::new(settings, surroundings, tokens, secret.as_deref()).await?);
    // what was left by the host before is gone on with, whoever asks first
    let own = server.namespace(None)?;
    if surroundings.cache_from.is_some() {
        let (workshop, runtime) = (server.workshop.clone(), own.runtime.clone());
        // what fails here is told by the first kernel, to who asks for it
        tokio::task::spawn_blocking(move || workshop.prepare(&runtime));
    }
    for user in namespace::users(&surroundings.directory) {
        server.namespace(Some(&user))?;
    }
    let settings = &server.settings;
    let tls = settings
        .tls()
        .map(|(certificate, key)| listen::tls(certificate, key))
        .transpose()?;
    let (listener, address) = listen::bind(settings.bind()).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}{}/", settings.base_path());
    // a token that somebody gave is not for logs
    let shown = match (&secret, &given) {
        (Some(secret), None) => format!("{url}?token={secret}"),
        _ => url.clone(),
    };
    match surroundings.json {
        true => lockstep_view::print::print(format_args!(
            "{}\n",
            json!({ "url": url, "token": given.is_none().then_some(&secret) })
        ))?,
        false => anstream::eprintln!("listening on {shown}"),
    }
    let (connections, grace) = (settings.connections(), settings.grace());
    let ending = told_to_end(&server)?;
    let router = router(server.clone());
    listen::serve(
        listener,
        router,
        tls,
        connections,
        ended(ending),
        grace + Duration::from_secs(1),
    )
    .await;
    let namespaces = server.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
    namespaces.values().for_each(|namespace| namespace.kernels.flush(FLUSH));
    tracing::info!("ended");
    Ok(())
}

async fn ended(mut ending: watch::Receiver<bool>) {
    // it hangs up only with the process
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Becomes true when a signal tells the host to end. Nothing is begun from then on; what runs has the time of grace, and is then interrupted.
fn told_to_end(server: &Arc<Server>) -> Result<watch::Receiver<bool>> {
    let failed = |e| Error::host(format_args!("can't listen for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (tell, ending) = watch::channel(false);
    let server = server.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let grace = server.settings.grace();
        let (running, _) = server.gate.counts();
        tracing::info!("ending: {running} at work have {} s", grace.as_secs());
        server.gate.close();
        tell.send_replace(true);
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        server.gate.interrupt();
    });
    Ok(ending)
}

/// All that is served. What stands beside the check of who asks is open to everybody.
fn router(server: Arc<Server>) -> Router {
    let closed = Router::new()
        .merge(api::routes())
        .merge(gateway::routes())
        .merge(pages::routes())
        .route("/metrics", get(metrics::metrics))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(server.clone(), guard));
    let closed = match server.settings.traces() {
        None => closed,
        Some(_) => closed.layer(from_fn(traces::trace)),
    };
    let open = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .merge(pages::assets());
    let all = open.merge(closed);
    let all = match server.settings.base_path().as_str() {
        "" => all,
        base => {
            let root = format!("{base}/");
            let there = |RawQuery(query): RawQuery| async move {
                let query = query.map_or(String::new(), |query| format!("?{query}"));
                Redirect::permanent(&format!("{root}{query}"))
            };
            Router::new().nest(&format!("{base}/"), all).route(base, get(there))
        }
    };
    all.layer(from_fn_with_state(server.clone(), outward)).with_state(server)
}

/// Finds out who asks, and counts what that came to.
async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let counted = Counted::new(&request);
    let response = access::check(&server, request, next).await;
    server.metrics.answered(counted, response.status());
    response
}

/// Shows errors to whoever can read pages as such, and tells browsers what they may do with an answer.
async fn outward(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let mut response = pages::as_pages(&server, request, next).await;
    make_safe(response.headers_mut());
    response
}

/// This process answers.
async fn live() -> &'static str {
    "ok\n"
}

/// It takes in work: not any more once it was told to end.
async fn ready(State(server): State<Arc<Server>>) -> Answer<Json<serde_json::Value>> {
    match server.gate.is_closing() {
        true => Err(Refusal::busy("the host is ending")),
        false => Ok(Json(json!({ "ready": true }))),
    }
}

async fn nothing_here() -> Refusal {
    Refusal::not_found("there is nothing at this address")
}

async fn not_so() -> Refusal {
    let error = Error::user("this address can't be asked in this way");
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        error.hint("GET /api/v1/openapi.json says how"),
    )
}

/// What every answer tells browsers: to believe its type, to tell nobody where they came from, to keep nothing that is not said to be kept, and to
/// show it in no frame of others.
const SAFE: [(HeaderName, HeaderValue); 5] = [
    (
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    ),
    (
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("x-frame-options"),
        HeaderValue::from_static("SAMEORIGIN"),
    ),
    (HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'self'; sandbox"),
    ),
];

fn make_safe(headers: &mut HeaderMap) {
    // for these, and for those of the connection
    headers.reserve(SAFE.len() + 3);
    for (name, value) in SAFE {
        headers.entry(name).or_insert(value);
    }
}
