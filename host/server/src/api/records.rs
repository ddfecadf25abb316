use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Observed, Record};
use lockstep_runtime::store::Runs;
use lockstep_view::{record, runs};
use serde::Deserialize;
use serde_json::{Value, json};

use super::artifacts::lineage_of;
use super::{ErrorAnswer, LineageQuery, Way};
use crate::extract::{Named, Query, blocking};
use crate::gate::{Stop, ending};
use crate::{Answer, Caller, Refusal, Server};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    most: Option<usize>,
    step: Option<String>,
    module: Option<String>,
    outcome: Option<String>,
    #[serde(default)]
    since_ms: u64,
}

/// Maximum number of records in a response.
const MOST: usize = 10_000;

/// List records, newest first
#[utoipa::path(
    get, path = "/api/v1/records",
    params(
        ("most" = Option<usize>, Query, description = "maximum number of records [default: 20]"),
        ("step" = Option<String>, Query, description = "name of the step"),
        ("module" = Option<String>, Query, description = "prefix of the module's digest"),
        ("outcome" = Option<String>, Query, description = "`succeeded`, `failed` or `interrupted`"),
        ("since_ms" = Option<u64>, Query, description = "earliest start time, as Unix time in milliseconds"),
    ),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn list(caller: Caller, Query(query): Query<ListQuery>) -> Answer<Json<Value>> {
    if query
        .module
        .as_ref()
        .is_some_and(|hex| hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(Refusal::bad("`module` must be a digest prefix: hexadecimal digits"));
    }
    let known = ["succeeded", "failed", "interrupted"];
    if query.outcome.as_deref().is_some_and(|word| !known.contains(&word)) {
        return Err(Refusal::bad("`outcome` must be succeeded, failed or interrupted"));
    }
    let runs = Runs {
        step: query.step,
        module: query.module.map(|hex| hex.to_ascii_lowercase()),
        word: query.outcome,
        since_ms: query.since_ms,
        ..Runs::newest(query.most.unwrap_or(20).min(MOST))
    };
    blocking(move || {
        let rows = caller.namespace.runtime.runs(&runs)?;
        Ok(Json(json!({ "runs": rows.iter().map(runs::to_json).collect::<Vec<_>>() })))
    })
    .await
}

fn find(caller: &Caller, digest: &Digest) -> Answer<(Record, Observed)> {
    let found = caller.namespace.runtime.record(digest)?;
    found.ok_or_else(|| Refusal::not_found(format_args!("record {digest} not found")))
}

/// Get a record, as printed by `lockstep show --json`
#[utoipa::path(
    get, path = "/api/v1/records/{digest}",
    params(("digest" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn get(caller: Caller, Named(digest): Named) -> Answer<Json<Value>> {
    blocking(move || {
        let (record, observed) = find(&caller, &digest)?;
        Ok(Json(record::to_json(&digest, &record, &observed)))
    })
    .await
}

/// Get the lineage of a record: the runs that produced its inputs, or consumed its outputs
#[utoipa::path(
    get, path = "/api/v1/records/{digest}/lineage",
    params(("digest" = String, Path, description = "64 hexadecimal digits"), ("direction" = Option<Way>, Query)),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn lineage(caller: Caller, Named(digest): Named, Query(query): Query<LineageQuery>) -> Answer<Json<Value>> {
    blocking(move || {
        find(&caller, &digest)?;
        lineage_of(&caller, &digest, query.direction)
    })
    .await
}

/// Repeat a run and compare the result
///
/// `same` is true if the results are identical. `again` is the digest of the new record.
#[utoipa::path(
    post, path = "/api/v1/records/{digest}/verify",
    params(("digest" = String, Path, description = "64 hexadecimal digits")),
    responses(
        (status = 200, body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "the queue or the disk is full", body = ErrorAnswer),
    )
)]
pub async fn verify(State(server): State<Arc<Server>>, caller: Caller, Named(digest): Named) -> Answer<Json<Value>> {
    let own = caller.clone();
    let (record, _) = blocking(move || find(&own, &digest)).await?;
    if !record.outcome.is_deterministic() {
        return Err(Refusal::bad(format_args!(
            "the run is not deterministic, its result may depend on the machine: {}",
            record.outcome
        )));
    }
    let (gate, owner, stop) = (&server.gate, &caller.namespace.owner, Arc::<Stop>::default());
    let turn = gate.turn(gate.place(owner)?, &stop).await.ok_or_else(ending)?;
    let memory = gate.memory(owner, record.limits().memory, &stop).await;
    blocking(move || {
        let _admitted = (turn, memory);
        let ran = caller.namespace.runtime.leased().again(&record, &stop.interrupt)?;
        Ok(Json(
            json!({ "record": digest, "again": ran.digest, "same": ran.digest == digest }),
        ))
    })
    .await
}
