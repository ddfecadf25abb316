//! Kernelspecs. There is exactly one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use lockstep_kernel::kernelspec::{LOGO_PNG, LOGO_SVG, SHOWN, spec};
use serde_json::{Value, json};

use super::declined::Declined;
use crate::Server;

/// Name of the kernelspec.
pub const NAME: &str = "lockstep";

/// Files of the kernelspec: name, media type, content.
const FILES: [(&str, &str, &[u8]); 2] = [
    ("logo-svg.svg", "image/svg+xml", LOGO_SVG),
    ("logo-64x64.png", "image/png", LOGO_PNG),
];

pub async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

pub async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let model = model(&server.settings.base_path());
    Json(json!({ "default": NAME, "kernelspecs": { NAME: model } }))
}

pub async fn one(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Result<Json<Value>, Declined> {
    match name == NAME {
        true => Ok(Json(model(&server.settings.base_path()))),
        false => Err(Declined::no_kernelspec(&name)),
    }
}

pub async fn file(Path((name, file)): Path<(String, String)>) -> Result<impl IntoResponse, Declined> {
    // Jupyter's server omits the extension
    let asked = |known: &str| known == file || known.rsplit_once('.').is_some_and(|(stem, _)| stem == file);
    let found = FILES.iter().find(|(known, ..)| name == NAME && asked(known));
    let (_, media_type, bytes) = found.ok_or_else(|| Declined::no_kernelspec(&format!("{name}/{file}")))?;
    Ok(([(CONTENT_TYPE, *media_type)], *bytes))
}

fn model(base: &str) -> Value {
    let resource = |(file, ..): &(&str, &str, &[u8])| {
        let name = file.rsplit_once('.').map_or(*file, |(stem, _)| stem);
        (name.to_owned(), json!(format!("{base}/kernelspecs/{NAME}/{file}")))
    };
    let resources: serde_json::Map<_, _> = FILES.iter().map(resource).collect();
    json!({ "name": NAME, "spec": spec(SHOWN, &[]), "resources": resources })
}
