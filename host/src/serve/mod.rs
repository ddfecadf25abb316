//! The host: one process that holds sandboxes for others, over HTTP.
//!
//! Each user has a [`Namespace`]: a store of its own, so that nobody can read or name what another one has.

mod access;
mod answer;
mod gateway;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::serve::ListenerExt;
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::EngineOptions;

use crate::error::{Error, Result};
use crate::invocation::Invocation;

pub use access::{Caller, Scope};
pub use answer::{Answer, Refusal};
pub use settings::Settings;

/// What all requests share.
pub struct Server {
    pub settings: Settings,
    invocation: Invocation,
    workshop: Arc<gateway::Workshop>,
    namespaces: Mutex<BTreeMap<Option<String>, Arc<Namespace>>>,
}

/// What belongs to one user, or to all where users are not told apart.
pub struct Namespace {
    pub runtime: Runtime,
    /// What the host keeps beside the store.
    pub directory: PathBuf,
    pub kernels: Arc<gateway::Kernels>,
}

impl Server {
    fn new(settings: Settings, invocation: &Invocation) -> Self {
        Self {
            settings,
            invocation: invocation.clone(),
            workshop: Arc::new(gateway::Workshop::new(invocation)),
            namespaces: Mutex::default(),
        }
    }

    /// What belongs to `user`.
    pub fn namespace(&self, user: Option<&str>) -> Result<Arc<Namespace>> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let user = user.map(str::to_owned);
        if let Some(namespace) = namespaces.get(&user) {
            return Ok(namespace.clone());
        }
        let runtime = self.invocation.runtime(EngineOptions::default())?;
        let directory = self.invocation.locations.store.join("host");
        let cull = gateway::Cull::new(&self.settings);
        let namespace = Arc::new(Namespace {
            kernels: gateway::Kernels::open(&runtime, directory.clone(), self.workshop.clone(), cull),
            runtime,
            directory,
        });
        namespaces.insert(user, namespace.clone());
        Ok(namespace)
    }
}

/// Serves until it is told to end.
pub fn serve(settings: Settings, invocation: &Invocation) -> Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let threads = threads.map_err(|e| Error::host(format_args!("the system gave no threads: {e}")))?;
    let server = Arc::new(Server::new(settings, invocation));
    threads.block_on(listen(server))
}

async fn listen(server: Arc<Server>) -> Result<()> {
    let address = server.settings.bind();
    let failed = |e: std::io::Error| {
        Error::host(format_args!("can't listen on {address}: {e}")).hint("--bind ADDRESS:PORT takes another")
    };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let base = server.settings.base_path();
    anstream::eprintln!("listening on http://{address}{base}/");
    // What is small must not wait for what was before to be acknowledged; without it things are only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router(server)).await.map_err(failed)
}

/// All that is served. What stands before the check of who asks is open to everybody.
fn router(server: Arc<Server>) -> Router {
    let closed = Router::new().merge(gateway::routes());
    let closed = closed.layer(from_fn_with_state(server.clone(), access::check));
    let open = Router::new().route("/health/live", get(|| async { "ok\n" }));
    let all = open.merge(closed);
    let all = match server.settings.base_path().as_str() {
        "" => all,
        base => Router::new().nest(base, all),
    };
    all.with_state(server)
}
