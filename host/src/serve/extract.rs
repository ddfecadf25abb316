//! What handlers take from requests, with errors in the one shape that all errors have.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use lockstep_runtime::digest::Digest;
use serde::de::DeserializeOwned;

use super::answer::{Answer, Refusal};
use crate::error::Error;

/// The body, read as JSON.
pub struct Body<T>(pub T);

/// Bodies of JSON up to this many bytes are read: enough for a plan of 100,000 tasks.
pub const BODY_LIMIT: usize = 64 << 20;

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let bytes = bytes(request, state).await?;
        json(&bytes).map(Self)
    }
}

/// The whole body; refused when it is too large, or does not come.
pub async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Answer<Bytes> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| Refusal::new(rejection.status(), Error::user(rejection.body_text())))
}

/// `bytes` as JSON.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let error = Error::user(format_args!("the body can't be read: {error}"));
        Refusal::bad(error.hint("the OpenAPI document says what it must be: GET /api/v1/openapi.json"))
    })
}

/// What stands behind the question mark.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        query
            .map(|query| Self(query.0))
            .map_err(|rejection| Refusal::bad(rejection.body_text()))
    }
}

/// The one part of the path that is not fixed.
pub struct Path(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|rejection| Refusal::bad(rejection.body_text()))
    }
}

/// A digest in the path: 64 hexadecimal digits, with or without `sha256:` before them.
pub struct Named(pub Digest);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let Path(text) = Path::from_request_parts(parts, state).await?;
        digest(&text).map(Self)
    }
}

/// The digest that `text` spells.
pub fn digest(text: &str) -> Answer<Digest> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    Digest::from_hex(hex).map_err(|error| Refusal::bad(Error::user(error).hint("a digest has 64 hexadecimal digits")))
}

/// Calls something that blocks on a thread that may.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| {
        let error = Error::host(format_args!("the request could not be carried out: {error}"));
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error))
    })
}
