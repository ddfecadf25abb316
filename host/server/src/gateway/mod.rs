//! The gateway: kernels that live in this process, or each in a pod, for Jupyter's servers and for `lockstep kernel run --host`.
//!
//! A kernel belongs to a [`super::Namespace`]. What it was asked and has not answered for certain is in a journal on disk, so that
//! a host that was killed runs those cells again, from the session as it was before the first of them: runs are pure.

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

/// The variable of a kernel's `env` that says which id it is to have.
const ID: &str = "KERNEL_ID";

/// The id that a kernel is asked for by, if it is.
fn id_in(env: &Env) -> Result<Option<Uuid>> {
    let id = env.get(ID).map(|id| {
        let id = Uuid::parse_str(id);
        id.map_err(|_| Error::user(format_args!("{ID} is `{}`, which is no UUID", env[ID])))
    });
    id.transpose()
}

/// Whether it is one of Jupyter's servers that asks for `path`.
pub fn is_asked(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/kernel")
}

/// What Jupyter's servers ask a gateway.
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
