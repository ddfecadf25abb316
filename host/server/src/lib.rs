//! The host: one process that runs sandboxes for its users, over HTTP.
//!
//! Each user has a [`Namespace`] with a separate store, so users can't read or name each other's artifacts. Authentication happens in one
//! place ([`access`]), before any handler; handlers get the [`Caller`] with its namespace.

mod access;
mod answer;
mod answers;
mod api;
mod audit;
pub mod backup;
mod cache;
mod check;
mod extract;
mod fair;
mod gate;
mod gateway;
mod listen;
pub mod machine;
mod metrics;
mod namespace;
mod needs;
mod pages;
pub mod prepare;
mod quotas;
mod ready;
mod request_id;
mod room;
mod schedules;
mod settings;
pub mod sweep;
mod timer;
mod traces;
mod works;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::get;
use lockstep_cluster::new_secret;
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::{Engine, EngineOptions};
use lockstep_view::error::{Error, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, OnceCell, Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use access::Access;
use audit::Audit;
use gate::{Gate, Place};
use listen::Tls;
use metrics::{Counted, Metrics};
use request_id::RequestId;
use traces::Traces;
use works::{Submission, WorkItem};

use access::Caller;
use answer::{Answer, Refusal};
use extract::blocking;
use machine::Surroundings;
use namespace::Namespace;

pub use access::{Scope, Token, TokenFile, user_name};
pub use check::{Checked, check};
pub use settings::Settings;

/// Maximum time on shutdown to write copies of kernels to the shared store.
const FLUSH: Duration = Duration::from_secs(4);

/// A namespace, once it is open.
type Opened = Arc<OnceCell<Arc<Namespace>>>;

/// Maximum time on shutdown for interrupted work to end.
const LAST: Duration = Duration::from_secs(4);

/// Minimum length of a token from the environment, in characters.
const SHORTEST: usize = 16;

/// State shared by all requests.
pub(crate) struct Server {
    pub settings: Settings,
    surroundings: Surroundings,
    engine: Engine,
    workshop: Arc<gateway::Workshop>,
    /// Source of kernel pods; `None` if kernels run in this process.
    pods: Option<Arc<gateway::Source>>,
    namespaces: Mutex<BTreeMap<Option<String>, Opened>>,
    access: Access,
    audit: Audit,
    gate: Arc<Gate>,
    metrics: Metrics,
    /// When the store was last found writable.
    ready: Mutex<Option<Instant>>,
    /// Places of connections.
    connections: Arc<Semaphore>,
    /// Held while work runs that was running when an earlier process of the host ended.
    suspects: tokio::sync::Mutex<()>,
    /// Told when a time of a schedule may have become the next one.
    rescheduled: Notify,
    /// Locked, so that no other host serves the store.
    _lock: File,
}

impl Server {
    async fn new(settings: Settings, surroundings: &Surroundings, tokens: TokenFile, secret: Option<&str>) -> Result<Self> {
        let loopback = settings.bind().ip().is_loopback();
        let memory = settings.memory();
        let gate = Gate::new(
            settings.jobs(),
            settings.queue(),
            memory,
            settings.limits(memory),
            settings.quotas()?,
        );
        Ok(Self {
            _lock: namespace::lock(&surroundings.host_directory())?,
            access: Access::new(tokens, secret, settings.trust_header(), loopback, settings.allowed_hosts()),
            audit: Audit::open(&surroundings.host_directory())?,
            gate: Arc::new(gate),
            metrics: Metrics::default(),
            connections: Arc::new(Semaphore::new(settings.connections())),
            rescheduled: Notify::new(),
            ready: Mutex::default(),
            suspects: tokio::sync::Mutex::default(),
            engine: machine::engine(&surroundings.cache, EngineOptions::default())?,
            workshop: Arc::new(gateway::Workshop::new(surroundings)),
            pods: gateway::Source::connect(&settings, surroundings).await?.map(Arc::new),
            namespaces: Mutex::default(),
            surroundings: surroundings.clone(),
            settings,
        })
    }

    /// Returns the namespace of `user`. Opening it resumes the work that an earlier process left unfinished. What prevents that is tried again
    /// with the next request.
    pub async fn namespace(self: &Arc<Self>, user: Option<&str>) -> Result<Arc<Namespace>> {
        let opened = self.opened().entry(user.map(str::to_owned)).or_default().clone();
        let opened = opened.get_or_try_init(async || {
            let (server, user) = (self.clone(), user.map(str::to_owned));
            let open = tokio::task::spawn_blocking(move || server.open(user.as_deref()));
            open.await
                .unwrap_or_else(|e| Err(Error::host(format_args!("internal error: {e}"))))
        });
        opened.await.cloned()
    }

    fn open(self: &Arc<Self>, user: Option<&str>) -> Result<Arc<Namespace>> {
        let (namespace, unfinished) = Namespace::open(user, self)?;
        let namespace = Arc::new(namespace);
        for work in &unfinished {
            let place = self.gate.place_again(&namespace.owner);
            let runtime = namespace.runtime.leased();
            if work.attempts() == 0 {
                self.start(&namespace, runtime, work, place);
            } else {
                let works = namespace.works.clone();
                tokio::spawn(works.carry_out_suspect(work.clone(), runtime, self.clone(), place));
            }
        }
        self.rescheduled.notify_one();
        Ok(namespace)
    }

    /// Accepts work of the user of `namespace`, submitted with the token `token`: puts it on disk and carries it out. `runtime` has the lease on
    /// what the work needs.
    async fn accept(
        self: &Arc<Self>,
        namespace: &Arc<Namespace>,
        runtime: Runtime,
        submission: Submission,
        token: Option<String>,
    ) -> Answer<Arc<WorkItem>> {
        let place = self.gate.place(&namespace.owner)?;
        let work = namespace.works.submit(submission, token);
        let (works, own) = (namespace.works.clone(), work.clone());
        let kept = blocking(move || Ok(works.keep(&own, true)?)).await;
        if kept.is_err() {
            namespace.works.drop_unaccepted(&work);
        }
        kept?;
        self.start(namespace, runtime, &work, place);
        Ok(work)
    }

    /// Carries out `work`. `runtime` has the lease on what the work needs.
    fn start(self: &Arc<Self>, namespace: &Namespace, runtime: Runtime, work: &Arc<WorkItem>, place: Place) {
        let works = namespace.works.clone();
        tokio::spawn(works.carry_out(work.clone(), runtime, self.clone(), place));
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Opened>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open namespaces, by user.
    fn namespaces(&self) -> BTreeMap<Option<String>, Arc<Namespace>> {
        let opened = self.opened();
        let open = opened
            .iter()
            .filter_map(|(user, opened)| Some((user.clone(), opened.get()?.clone())));
        open.collect()
    }

    /// Returns the number of active kernels.
    fn kernels(&self) -> usize {
        self.namespaces().values().map(|namespace| namespace.kernels.count()).sum()
    }
}

fn check_token(given: Option<&str>) -> Result<()> {
    match given {
        Some(given) if given.chars().count() < SHORTEST => Err(Error::config(format_args!(
            "LOCKSTEP_TOKEN is too short: it must have at least {SHORTEST} characters"
        ))
        .hint("`openssl rand -hex 32` generates one; without LOCKSTEP_TOKEN, the host prints a token at its start")),
        _ => Ok(()),
    }
}

/// Serves requests until SIGTERM or SIGINT.
pub fn serve(settings: Settings, surroundings: &Surroundings) -> Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let threads = threads.map_err(|e| Error::host(format_args!("can't start threads: {e}")))?;
    let served = threads.block_on(async {
        let traces = settings.traces().map(Traces::to).transpose()?;
        log_to_stderr(surroundings, traces.as_ref())?;
        let served = run(settings, surroundings).await;
        if let Some(traces) = traces {
            // shutdown blocks, and needs this runtime's threads to send
            let _ = tokio::task::spawn_blocking(move || traces.end()).await;
        }
        served
    });
    threads.shutdown_timeout(Duration::from_secs(1));
    served
}

fn log_to_stderr(surroundings: &Surroundings, traces: Option<&Traces>) -> Result<()> {
    let said = surroundings.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(said).map_err(|e| Error::config(format_args!("invalid LOCKSTEP_LOG `{said}`: {e}")))?;
    let spans = format!("{}=off", traces::TARGET).parse().map_err(Error::host)?;
    let filter = filter.add_directive(spans);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match surroundings.json {
        true => log.json().with_filter(filter).boxed(),
        false => log.with_target(false).with_filter(filter).boxed(),
    };
    let all = tracing_subscriber::registry().with(log).with(traces.map(Traces::layer));
    // fails if this process serves a second time, as in tests
    let _ = all.try_init();
    Ok(())
}

async fn run(settings: Settings, surroundings: &Surroundings) -> Result<()> {
    let tokens = TokenFile::new(&surroundings.host_directory());
    let given = surroundings.token.clone();
    check_token(given.as_deref())?;
    let is_known = !tokens.all()?.is_empty() || settings.trust_header().is_some();
    let secret = given.clone().or_else(|| (!is_known).then(new_secret));
    let server = Arc::new(Server::new(settings, surroundings, tokens, secret.as_deref()).await?);
    // resume unfinished work now, not at the user's first request
    let own = server.namespace(None).await?;
    if surroundings.cache_from.is_some() {
        let (workshop, runtime) = (server.workshop.clone(), own.runtime.clone());
        // the first kernel reports a failure
        tokio::task::spawn_blocking(move || workshop.prepare(&runtime));
    }
    for user in namespace::users(&surroundings.directory) {
        // the others can use the host; this one's requests are answered with the error
        if let Err(error) = server.namespace(Some(&user)).await {
            tracing::error!(user, "can't open the store of a user: {error}");
        }
    }
    if let Some(every) = server.settings.gc_every() {
        tokio::spawn(sweep::repeat(server.clone(), every));
    }
    tokio::spawn(timer::keep_time(server.clone()));
    let settings = &server.settings;
    let tls = tls(settings)?.map(Arc::new);
    reload_when_told(&server, tls.clone())?;
    let (listener, address) = listen::bind(settings.bind()).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}{}/", settings.base_path());
    // do not log a token from the configuration
    let shown = match (&secret, &given) {
        (Some(secret), None) => format!("{url}?token={secret}"),
        _ => url.clone(),
    };
    match surroundings.json {
        true => lockstep_view::print::print_json(&json!({ "url": url, "token": given.is_none().then_some(&secret) }))?,
        false => anstream::eprintln!("listening on {shown}"),
    }
    let (connections, grace) = (server.connections.clone(), settings.grace());
    let (ending, finished) = told_to_end(&server)?;
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
    // connections may have ended before the work has
    let _ = finished.await;
    let namespaces = server.namespaces();
    for namespace in namespaces.values() {
        namespace.kernels.note_shutdown();
        namespace.kernels.flush(FLUSH);
    }
    tracing::info!("shutdown complete");
    Ok(())
}

fn tls(settings: &Settings) -> Result<Option<Tls>> {
    let files = settings.tls();
    files.map(|(certificate, key)| Tls::load(certificate, key)).transpose()
}

/// On SIGHUP, reloads the TLS certificate and the quotas. After an error, the host keeps the old ones. Tokens are reloaded without a signal.
fn reload_when_told(server: &Arc<Server>, tls: Option<Arc<Tls>>) -> Result<()> {
    let mut told = signal(SignalKind::hangup()).map_err(no_signals)?;
    let server = server.clone();
    tokio::spawn(async move {
        while told.recv().await.is_some() {
            let (server, tls) = (server.clone(), tls.clone());
            let reload = move || -> Result<()> {
                let quotas = server.settings.quotas()?;
                tls.map_or(Ok(()), |tls| tls.reload())?;
                server.gate.set_quotas(quotas);
                Ok(())
            };
            match tokio::task::spawn_blocking(reload).await {
                Ok(Ok(())) => tracing::info!("reloaded the TLS certificate and the quotas"),
                Ok(Err(error)) => tracing::error!("can't reload; everything stays as it was: {error}"),
                Err(error) => tracing::error!("can't reload; internal error: {error}"),
            }
        }
    });
    Ok(())
}

fn no_signals(error: std::io::Error) -> Error {
    Error::host(format_args!("can't install signal handlers: {error}"))
}

async fn ended(mut ending: watch::Receiver<bool>) {
    // the sender lives as long as the process
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Handles signals. The receiver becomes true when the host shuts down: nothing new starts, and work still running after the grace period
/// is interrupted. The task ends when no work is running any more.
fn told_to_end(server: &Arc<Server>) -> Result<(watch::Receiver<bool>, JoinHandle<()>)> {
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let (tell, ending) = watch::channel(false);
    let server = server.clone();
    let finished = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let grace = server.settings.grace();
        let (running, _) = server.gate.counts();
        tracing::info!("shutting down: {running} runs and cells have {} s to finish", grace.as_secs());
        server.gate.close();
        tell.send_replace(true);
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            () = server.gate.idle() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        server.gate.interrupt();
        // a guest ends within milliseconds; a compiler in this process takes longer
        let _ = tokio::time::timeout(LAST, server.gate.jobs_ended()).await;
    });
    Ok((ending, finished))
}

/// Builds the router. Routes in `open` need no authentication.
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
        .route("/health/ready", get(ready::ready))
        .merge(pages::assets())
        .merge(api::hooks(&server));
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

/// Authenticates and counts requests.
async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let counted = Counted::new(&request);
    let response = access::check(&server, request, next).await;
    server.metrics.answered(counted, response.status());
    response
}

/// Gives the request its ID, renders errors as pages for browsers, and adds security headers.
async fn outward(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", id = &*id.0);
    let answer = async {
        let response = pages::as_pages(&server, request, next).await;
        if let (StatusCode::INTERNAL_SERVER_ERROR, Some(error)) = (response.status(), response.extensions().get::<Arc<Error>>())
        {
            tracing::error!("a request failed: {error}");
        }
        response
    };
    let mut response = id.mark(answer.instrument(span).await).await;
    make_safe(response.headers_mut());
    response
}

/// Liveness probe.
async fn live() -> &'static str {
    "ok\n"
}

async fn nothing_here() -> Refusal {
    Refusal::not_found("resource not found")
}

async fn not_so() -> Refusal {
    let error = Error::user("method not allowed");
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        error.hint("GET /api/v1/openapi.json lists the methods of each path"),
    )
}

/// Default security headers of responses: no content sniffing, no referrer, no caching, no framing by other origins.
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
    // room for these and the headers of the connection
    headers.reserve(SAFE.len() + 3);
    for (name, value) in SAFE {
        headers.entry(name).or_insert(value);
    }
}
