use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use lockstep_view::error::{Error, Kind};
use serde_json::json;
use sha2::Sha256;

use super::ErrorAnswer;
use super::runs::located;
use crate::audit::{Asked, Who};
use crate::extract::{Path, blocking, next, too_large};
use crate::schedules::{Cause, Schedule, Start};
use crate::works::now_ms;
use crate::{Answer, Namespace, Refusal, Server, timer};

/// Maximum size of a call in bytes: that of GitHub's.
const LIMIT: u64 = 25 << 20;

/// Header with the signature, as GitHub and others send it: `sha256=` and the hexadecimal HMAC-SHA-256 of the body.
const SIGNATURE: &str = "x-hub-signature-256";

/// Call the webhook of a schedule
///
/// `X-Hub-Signature-256` must be `sha256=` and the HMAC-SHA-256 of the body with the secret of the webhook. A body that was received before starts
/// nothing again, and the response is 200 with the first work item. The body is not passed to the pipeline.
#[utoipa::path(
    post, path = "/api/v1/hooks/{id}",
    params(("id" = String, Path), ("X-Hub-Signature-256" = String, Header)),
    request_body(content = String, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "received before, or the event `ping`", body = Object),
        (status = 202, description = "accepted; `Location` is the work item", body = Object),
        (status = "4XX", body = ErrorAnswer),
        (status = 503, description = "the queue is full; see `Retry-After`", body = ErrorAnswer),
    ),
    security(())
)]
pub async fn receive(State(server): State<Arc<Server>>, Path(id): Path, request: Request) -> Answer<Response> {
    let asked = Asked::of(&request);
    let found = find(&server, &id);
    let secret = found
        .as_ref()
        .and_then(|(_, _, schedule)| Some(schedule.hook.as_ref()?.secret.as_str()));
    let (parts, body) = request.into_parts();
    // an unknown webhook and a wrong signature look alike
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.unwrap_or_default().as_bytes()).map_err(Error::host)?;
    let (mut pieces, mut size) = (body.into_data_stream(), 0);
    while let Some(piece) = next(&mut pieces).await? {
        size += piece.len() as u64;
        if size > LIMIT {
            return Err(too_large(LIMIT, "calls of webhooks"));
        }
        mac.update(&piece);
    }
    let (bytes, signature) = signature(&parts.headers).unwrap_or_default();
    let is_valid = mac.verify_slice(&bytes).is_ok();
    let Some((user, namespace, schedule)) = found.filter(|_| is_valid) else {
        let refusal = unsigned();
        server.audit.refused(asked, None, refusal.status, "signature");
        return Err(refusal);
    };
    if parts.headers.get("x-github-event").is_some_and(|event| event == "ping") {
        return Ok(Json(json!({ "schedule": schedule.name })).into_response());
    }
    let answer = called(&server, &namespace, &schedule, &signature).await;
    let status = answer.as_ref().map_or_else(|refusal| refusal.status, Response::status);
    let token = schedule.token.as_ref().map(|(name, _)| name.clone());
    server.audit.done(asked, Who { user, token }, status);
    answer
}

type Found = (Option<String>, Arc<Namespace>, Arc<Schedule>);

fn find(server: &Server, id: &str) -> Option<Found> {
    let mut namespaces = server.namespaces().into_iter();
    namespaces.find_map(|(user, namespace)| {
        let schedule = namespace.schedules.of_hook(id)?;
        Some((user, namespace, schedule))
    })
}

/// Returns the signature of a call, as bytes and in hexadecimal.
fn signature(headers: &HeaderMap) -> Option<(Vec<u8>, String)> {
    let hex = headers.get(SIGNATURE)?.to_str().ok()?.strip_prefix("sha256=")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = (0..hex.len()).step_by(2).filter(|_| is_hex);
    let bytes = bytes.filter_map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
    is_hex.then(|| (bytes.collect(), hex.to_ascii_lowercase()))
}

fn unsigned() -> Refusal {
    let error = Error::new(Kind::Denied, "unknown webhook or wrong signature")
        .hint("send X-Hub-Signature-256: sha256=HMAC, where HMAC is the hexadecimal HMAC-SHA-256 of the body with the secret of the webhook");
    Refusal::new(StatusCode::UNAUTHORIZED, error)
}

/// Starts a schedule whose webhook was called with a valid signature.
async fn called(server: &Arc<Server>, namespace: &Arc<Namespace>, schedule: &Schedule, signature: &str) -> Answer<Response> {
    // one call after the other, so that two equal ones are not both the first
    let _calling = namespace.schedules.calling.lock().await;
    let (own, name, key) = (namespace.clone(), schedule.name.clone(), signature.to_owned());
    let before = blocking(move || Ok(own.schedules.called(&name, &key)?)).await?;
    if let Some(before) = before {
        return Ok(Json(json!({ "work": before.work, "repeated": true })).into_response());
    }
    let token = schedule.token.as_ref().map(|(name, _)| name.clone());
    let started = timer::start(server, namespace, schedule, token, Cause::Webhook).await;
    let (work, why) = match &started {
        Ok(work) => (Some(work.id.clone()), None),
        Err(refusal) => (None, Some(refusal.error.message().to_owned())),
    };
    let start = Start {
        at_ms: now_ms(),
        due_ms: None,
        by: Cause::Webhook,
        work: work.clone(),
        why,
    };
    // what did not start may be sent again
    let signature = work.is_some().then(|| signature.to_owned());
    let (own, name) = (namespace.clone(), schedule.name.clone());
    blocking(move || Ok(own.schedules.note(&name, &start, signature.as_deref())?)).await?;
    started.map(|work| located(server, &work))
}
