use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use lockstep_runtime::digest::Digest;
use lockstep_view::error::Error;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::ErrorAnswer;
use crate::extract::{Body, blocking};
use crate::sweep::{self, GRACE, Policy, plan_shared, to_json};
use crate::{Answer, Namespace, Server, namespace};

/// What to remove besides the data that no run needs, and what to keep.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GcRequest {
    /// Also remove runs older than this number of seconds.
    older_than_s: Option<u64>,
    /// Also remove the oldest runs of each store until it has at most this number of bytes.
    keep_size: Option<u64>,
    /// Remove nothing younger than this number of seconds [default: 3600]. Uploads are in use only when their run is submitted.
    grace_s: Option<u64>,
    /// Also remove blobs older than this number of seconds from the shared store that no record there needs.
    shared_grace_s: Option<u64>,
    /// Digests to keep, with everything they were made from.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    keep: BTreeSet<Digest>,
    /// Remove nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Remove data that no run needs from all stores of the host
///
/// Needs the scope `admin`. The response is what `lockstep gc --json` prints.
#[utoipa::path(
    post, path = "/api/v1/gc",
    request_body = GcRequest,
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn collect(State(server): State<Arc<Server>>, Body(request): Body<GcRequest>) -> Answer<Json<Value>> {
    let policy = Policy {
        older_than: request.older_than_s.map(Duration::from_secs),
        size: request.keep_size,
        grace: request.grace_s.map_or(GRACE, Duration::from_secs),
    };
    let mut namespaces: Vec<Arc<Namespace>> = vec![server.namespace(None).await?];
    for user in namespace::users(&server.surroundings.directory) {
        let opened = server.namespace(Some(&user)).await;
        namespaces.push(opened.map_err(|error: Error| error.of(format_args!("user {user}")))?);
    }
    blocking(move || {
        let own = &namespaces[0].runtime.store;
        let shared = request
            .shared_grace_s
            .map(|grace| plan_shared(own, Duration::from_secs(grace)));
        let shared = shared.transpose()?;
        let mut sweeps = Vec::new();
        for namespace in &namespaces {
            let sweep = sweep::plan(&namespace.runtime, &policy, &request.keep)?;
            if !request.dry_run {
                namespace.runtime.carry_out(&sweep, || ())?;
            }
            sweeps.push(sweep);
        }
        if let Some(shared) = shared {
            if !request.dry_run {
                own.carry_out_shared(&shared, || ())?;
            }
            sweeps.push(shared);
        }
        Ok(Json(to_json(&sweeps, request.dry_run)))
    })
    .await
}
