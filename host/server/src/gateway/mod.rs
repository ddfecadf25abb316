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

use super::{Refusal, Server};
use hosted::Env;

pub use cull::Cull;
pub use declined::Declined;
pub use here::Here;
pub use hosted::Model;
pub use kernels::Kernels;
pub use pods::{Pods, Source};
pub use running::Ground;
pub use workshop::Workshop;

/// Variable in a kernel's `env` with the requested ID.
const ID: &str = "KERNEL_ID";
/// Variable in a kernel's `env` with the path of its notebook.
const NOTEBOOK: &str = "JPY_SESSION_NAME";
/// Variable in a kernel's `env` with the directory of its notebook.
const WORKING_DIRECTORY: &str = "KERNEL_WORKING_DIR";
/// Variable in a kernel's `env` that marks one whose ID was not chosen by a client. Set by the host of a kernel's pod.
const UNNAMED: &str = "LOCKSTEP_UNNAMED";
/// The allowed variables in a kernel's `env`. All others are dropped: Jupyter servers may send secrets, and the `env` is written to disk, to the
/// shared store and to Kubernetes.
const KNOWN: [&str; 4] = [ID, NOTEBOOK, WORKING_DIRECTORY, UNNAMED];

/// Refusal of a kernel beyond the quota.
fn too_many(most: usize) -> Refusal {
    Refusal::quota("kernels", format_args!("you have {most} kernels; shut one down first"))
}

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
        .route("/api/kernels/{id}/channels", get(rest::channels))
}
