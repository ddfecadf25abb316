//! Kernel gateway for Jupyter servers and `lockstep kernel run --host`. Kernels run in this process or in one pod each.
//!
//! A kernel belongs to a [`super::Namespace`]. A journal on disk has its requests until their replies are delivered. So a host that was
//! killed runs those cells again, from the session before the first of them: runs are pure.

mod audience;
mod cull;
mod declined;
mod here;
mod hosted;
mod journal;
mod kernels;
mod mirror;
mod pods;
mod queue;
mod rate;
mod rest;
mod running;
mod socket;
mod specs;
mod tunnel;
mod workshop;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use lockstep_view::error::{Error, Result};

use uuid::Uuid;

use super::Server;
use hosted::Env;

pub use cull::Cull;
pub use declined::Declined;
pub use here::Here;
pub use hosted::Model;
pub use kernels::Kernels;
pub use pods::{Pods, Source};
pub use workshop::Workshop;

/// Variable in a kernel's `env` with the requested ID.
const ID: &str = "KERNEL_ID";

/// Returns the requested ID of a kernel, if any.
fn id_in(env: &Env) -> Result<Option<Uuid>> {
    let id = env.get(ID).map(|id| {
        let id = Uuid::parse_str(id);
        id.map_err(|_| Error::user(format_args!("{ID} is not a UUID: `{}`", env[ID])))
    });
    id.transpose()
}

/// Whether `path` belongs to Jupyter's API.
pub fn is_asked(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/kernel")
}

/// Routes of Jupyter's gateway API.
pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api", get(specs::version))
        .route("/api/kernelspecs", get(specs::list))
        .route("/api/kernelspecs/{name}", get(specs::one))
        .route("/kernelspecs/{name}/{file}", get(specs::file))
        .route("/api/kernels", get(rest::list).post(rest::create))
        .route("/api/kernels/{id}", get(rest::show).delete(rest::delete))
        .route("/api/kernels/{id}/interrupt", post(rest::interrupt))
        .route("/api/kernels/{id}/restart", post(rest::restart))
        .route("/api/kernels/{id}/channels", get(socket::channels))
}
