//! Extractors of requests. Their errors have the format of all other errors.

use std::time::Duration;

use axum::body::{Body as AnyBody, BodyDataStream, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use futures::StreamExt;
use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Kind};
use serde::de::DeserializeOwned;
use tracing::Span;

use super::answer::{Answer, Refusal};

/// Request body, parsed as JSON.
pub struct Body<T>(pub T);

/// Maximum size of a JSON body in bytes: enough for a plan of 100,000 tasks.
pub const BODY_LIMIT: usize = 64 << 20;

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let bytes = bytes(request).await?;
        json(&bytes).map(Self)
    }
}

/// Reads the whole body, up to [`BODY_LIMIT`].
pub async fn bytes(request: Request) -> Answer<Bytes> {
    let (parts, body) = request.into_parts();
    let said: Option<usize> = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|text| text.to_str().ok()?.parse().ok());
    match said {
        Some(length) if length > BODY_LIMIT => Err(too_large(BODY_LIMIT as u64, "bodies")),
        _ => whole(body, BODY_LIMIT).await,
    }
}

/// Reads all of `body`; fails if it is larger than `limit`, or if the client stops sending.
pub async fn whole(body: AnyBody, limit: usize) -> Answer<Bytes> {
    let mut all = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = next(&mut pieces).await? {
        if all.len() + piece.len() > limit {
            return Err(too_large(limit as u64, "bodies"));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

/// A client that sends nothing for this long is disconnected.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads the next chunk of a body; fails if the client stops sending.
pub async fn next(pieces: &mut BodyDataStream) -> Answer<Option<Bytes>> {
    match tokio::time::timeout(SILENCE, pieces.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(Refusal::bad(format_args!("the request body is incomplete: {error}"))),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            Error::user(format_args!("request timeout: no data for {} s", SILENCE.as_secs())).hint("send the request again"),
        )),
    }
}

/// 413 Payload Too Large.
pub fn too_large(limit: u64, what: &str) -> Refusal {
    let error = Error::new(
        Kind::Denied,
        format_args!("{what} may not exceed {}", lockstep_view::quantity::bytes(limit)),
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
}

/// Parses `bytes` as JSON.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let error = Error::user(format_args!("invalid request body: {error}"));
        Refusal::bad(error.hint("GET /api/v1/openapi.json describes the expected body"))
    })
}

/// Query string.
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

/// The path's only parameter.
pub struct Path(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|rejection| Refusal::bad(rejection.body_text()))
    }
}

/// Digest in the path: 64 hexadecimal digits, with or without the prefix `sha256:`.
pub struct Named(pub Digest);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let Path(text) = Path::from_request_parts(parts, state).await?;
        digest(&text).map(Self)
    }
}

/// Parses a digest.
pub fn digest(text: &str) -> Answer<Digest> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    Digest::from_hex(hex).map_err(|error| Refusal::bad(Error::user(error).hint("a digest has 64 hexadecimal digits")))
}

/// Runs a blocking call on a thread for blocking calls.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    // log lines of the call have the ID of the request, too
    let span = Span::current();
    let within = move || span.in_scope(call);
    tokio::task::spawn_blocking(within).await.unwrap_or_else(|error| {
        let error = Error::host(format_args!("internal error: {error}"));
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error))
    })
}
