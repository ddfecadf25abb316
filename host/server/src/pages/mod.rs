//! The dashboard. Pages are rendered here; their script only refreshes them.

mod artifact;
mod assets;
mod chart;
mod compare;
mod curves;
mod kernels;
mod lineage;
mod log;
mod notebooks;
mod overview;
mod parts;
mod pipelines;
mod run;
mod runs;
mod schedules;
mod search;
mod shell;
mod tree;
mod view;
mod wrong;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::get;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_runtime::store::Store;
use lockstep_view::artifacts;
use lockstep_view::error::Error;
use serde::de::DeserializeOwned;

use super::access::Caller;
use super::extract::blocking;
use super::{Answer, Namespace, Refusal, Server};

pub use assets::routes as assets;
pub use wrong::as_pages;

/// Routes of the pages. Their [`assets`] need no authentication.
pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/runs", get(runs::page))
        .route("/runs/{record}", get(run::page))
        .route("/runs/{record}/provenance", get(run::provenance))
        .route("/artifacts/{digest}", get(artifact::page))
        .route("/artifacts/{digest}/picture", get(artifact::picture))
        .route("/artifacts/{digest}/download", get(artifact::download))
        .route("/lineage/{digest}", get(lineage::page))
        .route("/compare", get(compare::choose))
        .route("/compare/{left}/{right}", get(compare::page))
        .route("/curves", get(curves::page))
        .route("/notebooks", get(notebooks::page))
        .route("/kernels", get(kernels::page))
        .route("/kernels/{id}/stop", get(kernels::ask).post(kernels::stop))
        .route("/search", get(search::page))
        .merge(pipelines::routes())
        .merge(schedules::routes())
}

/// Context of a page: the base of its links, and the user's namespace.
pub struct Site {
    /// Prefix of all paths; see [`Settings::base_path`](super::Settings::base_path).
    base: String,
    namespace: Arc<Namespace>,
}

/// A page without the common header and footer.
pub struct Page {
    pub tab: Tab,
    pub title: String,
    pub body: maud::Markup,
}

/// Tabs of the dashboard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Runs,
    Pipelines,
    Notebooks,
    /// None of the tabs.
    Elsewhere,
}

impl FromRequestParts<Arc<Server>> for Site {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Answer<Self> {
        let caller = Caller::from_request_parts(parts, server).await?;
        Ok(Self {
            base: server.settings.base_path(),
            namespace: caller.namespace,
        })
    }
}

impl Site {
    /// Responds with the result of `make`, which may block.
    async fn answer(self, make: impl FnOnce(&Self) -> Answer<Response> + Send + 'static) -> Answer<Response> {
        blocking(move || make(&self)).await
    }

    /// Responds with a page.
    async fn page(self, write: impl FnOnce(&Self) -> Answer<Page> + Send + 'static) -> Answer<Response> {
        self.answer(|site| Ok(shell::document(&site.base, write(site)?))).await
    }

    fn runtime(&self) -> &Runtime {
        &self.namespace.runtime
    }

    fn store(&self) -> &Store {
        &self.namespace.runtime.store
    }

    /// Resolves a full or abbreviated digest.
    fn digest(&self, text: &str) -> Answer<Digest> {
        artifacts::digest(self.store(), text)?.ok_or_else(|| {
            let error = Error::user(format_args!("artifact or record {text} not found"));
            Refusal::new(
                axum::http::StatusCode::NOT_FOUND,
                error.hint("search for a digest by its first four or more digits"),
            )
        })
    }

    /// Returns the address of `path`, which starts with a slash.
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn run(&self, record: &Digest) -> String {
        format!("{}/runs/{}", self.base, record.hex())
    }

    fn artifact(&self, digest: &Digest) -> String {
        format!("{}/artifacts/{}", self.base, digest.hex())
    }

    fn lineage(&self, digest: &Digest) -> String {
        format!("{}/lineage/{}", self.base, digest.hex())
    }

    fn compare(&self, left: &Digest, right: &Digest) -> String {
        format!("{}/compare/{}/{}", self.base, left.hex(), right.hex())
    }
}

/// Query string; its errors have the format of all other errors.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Sync + Send> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let read = Query::from_request_parts(parts, state).await;
        let refused = |text: String| {
            let reason = text.trim_start_matches("Failed to deserialize query string: ");
            Refusal::bad(format_args!("invalid query: {reason}"))
        };
        read.map(|Query(asked)| Self(asked)).map_err(|e| refused(e.body_text()))
    }
}

/// Returns `path` with a query. Omits empty values.
fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    // only its query is used
    let url = reqwest::Url::parse_with_params("http://localhost/", pairs).ok();
    match url.as_ref().and_then(reqwest::Url::query).unwrap_or_default() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}
