//! Kernels over plain HTTP, as Jupyter's servers ask a gateway.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;

use super::declined::Declined;
use super::hosted::{Env, Hosted};
use super::specs::NAME;
use crate::error::Error;
use crate::serve::Caller;

/// What kernel is wanted. Clients say more, such as the path of a notebook on their machine.
#[derive(Deserialize, Default)]
pub struct Wanted {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    env: Env,
}

/// The caller's kernel of this id.
pub fn find(caller: &Caller, id: &str) -> Result<Arc<Hosted>, Declined> {
    caller.namespace.kernels.get(id).ok_or_else(|| Declined::no_kernel(id))
}

pub async fn list(caller: Caller) -> Json<Value> {
    let kernels = caller.namespace.kernels.all();
    Json(kernels.iter().map(|hosted| hosted.model().json()).collect())
}

pub async fn create(caller: Caller, body: String) -> Result<impl IntoResponse, Declined> {
    let wanted: Wanted = match body.trim() {
        "" => Wanted::default(),
        body => serde_json::from_str(body)
            .map_err(|e| Error::user(format_args!("the body is not what a kernel is asked for with: {e}")))?,
    };
    if let Some(name) = wanted.name.filter(|name| !name.is_empty() && name != NAME) {
        return Err(Declined::no_kernelspec(&name));
    }
    let model = caller.namespace.kernels.create(wanted.env)?.model();
    let location = [(LOCATION, format!("/api/kernels/{}", model.id))];
    Ok((StatusCode::CREATED, location, Json(model.json())))
}

pub async fn show(caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Declined> {
    Ok(Json(find(&caller, &id)?.model().json()))
}

pub async fn delete(caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Declined> {
    match caller.namespace.kernels.end(&id, false).await {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Declined::no_kernel(&id)),
    }
}

pub async fn interrupt(caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Declined> {
    find(&caller, &id)?.interrupt();
    Ok(StatusCode::NO_CONTENT)
}

pub async fn restart(caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Declined> {
    let hosted = find(&caller, &id)?;
    hosted.restart().await?;
    Ok(Json(hosted.model().json()))
}
