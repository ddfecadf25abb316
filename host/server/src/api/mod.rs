//! The HTTP API below `/api/v1`. Its OpenAPI document is generated from this code.

mod artifacts;
mod gc;
mod hooks;
mod plans;
mod records;
mod runs;
mod schedules;
mod uploads;
mod works;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::metrics::Counted;
use super::{Caller, Server};

pub use schedules::set_paused;

/// An error response.
#[derive(Serialize, ToSchema)]
struct ErrorAnswer {
    error: ErrorContent,
}

#[derive(Serialize, ToSchema)]
struct ErrorContent {
    /// Cause of the error: `user`, `config`, `guest`, `denied`, `host` or `interrupted`.
    kind: String,
    /// Error message.
    message: String,
    /// Additional lines of the message.
    details: Vec<String>,
    /// Suggested remedies.
    hints: Vec<String>,
}

/// The authenticated caller.
#[derive(Serialize, ToSchema)]
struct Me {
    /// User name; null on a host without users.
    user: Option<String>,
    /// `read`, `run` or `admin`.
    scope: String,
    /// Version of the host.
    version: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lockstep",
        description = "Runs are pure functions of digests: the same module, step, parameters, inputs and seed produce the same bytes."
    ),
    paths(
        me,
        openapi,
        artifacts::resolve,
        artifacts::get,
        artifacts::preview,
        artifacts::lineage,
        uploads::put,
        uploads::patch,
        uploads::status,
        runs::submit,
        plans::submit,
        plans::explain,
        works::list,
        works::get,
        works::events,
        works::cancel,
        records::list,
        records::get,
        records::lineage,
        records::verify,
        artifacts::module,
        gc::collect,
        schedules::list,
        schedules::add,
        schedules::get,
        schedules::remove,
        schedules::pause,
        schedules::resume,
        schedules::trigger,
        hooks::receive
    ),
    components(schemas(ErrorAnswer, Way)),
    security(("token" = [])),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Direction of a lineage.
#[derive(Deserialize, ToSchema, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// Towards inputs.
    #[default]
    Up,
    /// Towards outputs.
    Down,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineageQuery {
    #[serde(default)]
    direction: Way,
}

/// All routes.
pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/v1/digests/{start}", get(artifacts::resolve))
        .route(
            "/api/v1/artifacts/{digest}",
            get(artifacts::get).put(uploads::put).patch(uploads::patch),
        )
        .route("/api/v1/artifacts/{digest}/upload", get(uploads::status))
        .route("/api/v1/artifacts/{digest}/preview", get(artifacts::preview))
        .route("/api/v1/artifacts/{digest}/lineage", get(artifacts::lineage))
        .route("/api/v1/modules/{digest}", get(artifacts::module))
        .route("/api/v1/runs", post(runs::submit))
        .route("/api/v1/plans", post(plans::submit))
        .route("/api/v1/plans/explain", post(plans::explain))
        .route("/api/v1/works", get(works::list))
        .route("/api/v1/works/{id}", get(works::get).delete(works::cancel))
        .route("/api/v1/works/{id}/events", get(works::events))
        .route("/api/v1/records", get(records::list))
        .route("/api/v1/records/{digest}", get(records::get))
        .route("/api/v1/records/{digest}/lineage", get(records::lineage))
        .route("/api/v1/records/{digest}/verify", post(records::verify))
        .route("/api/v1/gc", post(gc::collect))
        .route("/api/v1/schedules", get(schedules::list).post(schedules::add))
        .route("/api/v1/schedules/{name}", get(schedules::get).delete(schedules::remove))
        .route("/api/v1/schedules/{name}/pause", post(schedules::pause))
        .route("/api/v1/schedules/{name}/resume", post(schedules::resume))
        .route("/api/v1/schedules/{name}/trigger", post(schedules::trigger))
}

/// Routes of webhooks, which are authenticated by signatures.
pub fn hooks(server: &Arc<Server>) -> Router<Arc<Server>> {
    Router::new()
        .route("/api/v1/hooks/{id}", post(hooks::receive))
        .layer(from_fn_with_state(server.clone(), count))
}

/// Counts requests.
async fn count(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let counted = Counted::new(&request);
    let response = next.run(request).await;
    server.metrics.answered(counted, response.status());
    response
}

/// Show the authenticated caller
#[utoipa::path(get, path = "/api/v1/me", responses((status = 200, body = Me), (status = "4XX", body = ErrorAnswer)))]
async fn me(caller: Caller) -> Json<Me> {
    Json(Me {
        user: caller.user.clone(),
        scope: caller.scope.word().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Get this OpenAPI document
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer)))]
async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
