use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use axum::routing::get;
use lockstep_runtime::digest::Digest;

use crate::Server;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Version in the paths of assets, for caching.
pub static EDITION: LazyLock<String> = LazyLock::new(|| Digest::of([STYLE, SCRIPT, ICON].concat()).short());

/// Routes of the assets, which are public.
pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/assets/{edition}/style.css", get(|| async { asset("text/css", STYLE) }))
        .route(
            "/assets/{edition}/script.js",
            get(|| async { asset("text/javascript", SCRIPT) }),
        )
        .route("/assets/{edition}/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
}

fn asset(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}
