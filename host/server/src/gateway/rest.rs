//! REST API for kernels, as used by Jupyter servers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use lockstep_view::error::Error;
use serde::Deserialize;
use serde_json::Value;

use super::KNOWN;
use super::declined::Declined;
use super::hosted::{Env, Model};
use super::specs::NAME;
use crate::{Caller, Server};

/// Request to start a kernel. Other fields are ignored, such as the path of a notebook on the client's machine.
#[derive(Deserialize, Default)]
pub struct Wanted {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    env: Env,
}

pub async fn list(caller: Caller) -> Result<Json<Value>, Declined> {
    let models = caller.namespace.kernels.models().await?;
    Ok(Json(models.iter().map(Model::json).collect()))
}

pub async fn create(State(server): State<Arc<Server>>, caller: Caller, body: String) -> Result<impl IntoResponse, Declined> {
    let wanted: Wanted = match body.trim() {
        "" => Wanted::default(),
        body => serde_json::from_str(body).map_err(|e| Error::user(format_args!("invalid request body: {e}")))?,
    };
    if let Some(name) = wanted.name.filter(|name| !name.is_empty() && name != NAME) {
        return Err(Declined::no_kernelspec(&name));
    }
    let mut env = wanted.env;
    env.retain(|name, _| KNOWN.contains(&name.as_str()));
    let most = server.gate.quota(&caller.namespace.owner).kernels();
    let model = caller.namespace.kernels.create(env, most).await?;
    let location = [(LOCATION, format!("/api/kernels/{}", model.id))];
    Ok((StatusCode::CREATED, location, Json(model.json())))
}

pub async fn show(caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Declined> {
    let model = caller.namespace.kernels.model(&id).await?;
    Ok(Json(model.ok_or_else(|| Declined::no_kernel(&id))?.json()))
}

pub async fn delete(caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Declined> {
    done(&id, caller.namespace.kernels.end(&id).await?)
}

pub async fn interrupt(caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Declined> {
    done(&id, caller.namespace.kernels.interrupt(&id).await?)
}

pub async fn restart(caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Declined> {
    let model = caller.namespace.kernels.restart(&id).await?;
    Ok(Json(model.ok_or_else(|| Declined::no_kernel(&id))?.json()))
}

pub async fn channels(caller: Caller, Path(id): Path<String>, request: Request) -> Result<Response, Declined> {
    caller.namespace.kernels.attach(&id, request).await
}

fn done(id: &str, is_there: bool) -> Result<StatusCode, Declined> {
    match is_there {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Declined::no_kernel(id)),
    }
}
