use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Direction;
use lockstep_runtime::step::Artifact;
use lockstep_runtime::store::Content;
use lockstep_view::artifacts::known;
use lockstep_view::error::Error;
use lockstep_view::{lineage as told, module as inspect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ErrorAnswer, LineageQuery, Way};
use crate::extract::{Named, Path, Query, blocking};
use crate::{Answer, Caller, Refusal, Server};

/// Size of a chunk in bytes.
const PIECE: u64 = 1 << 20;

/// Returns the artifact `digest` of this caller's store.
pub(super) fn find(caller: &Caller, digest: &Digest) -> Answer<Artifact> {
    let store = &caller.namespace.runtime.store;
    match store.contains(digest)? {
        true => Ok(known(store, digest)?),
        false => Err(Refusal::not_found(format_args!("artifact {digest} not found"))),
    }
}

/// Complete a digest prefix to artifacts and records
#[utoipa::path(
    get, path = "/api/v1/digests/{start}",
    params(("start" = String, Path, description = "at least 4 hexadecimal digits", min_length = 4)),
    responses((status = 200, description = "up to 10 matches", body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn resolve(caller: Caller, Path(start): Path) -> Answer<Json<Value>> {
    if start.len() < 4 || !start.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Refusal::bad("invalid digest prefix: use at least 4 hexadecimal digits"));
    }
    blocking(move || {
        Ok(Json(
            json!({ "digests": caller.namespace.runtime.store.resolve_prefix(&start)? }),
        ))
    })
    .await
}

/// Download an artifact
///
/// Supports `Range`. The content never changes. Headers keep browsers from showing it as a page of this host.
#[utoipa::path(
    get, path = "/api/v1/artifacts/{digest}",
    params(("digest" = String, Path, description = "64 hexadecimal digits")),
    responses(
        (status = 200, description = "the content; Lockstep-Media-Type has the media type", body = [u8], content_type = "application/octet-stream"),
        (status = 206, description = "the requested range", body = [u8], content_type = "application/octet-stream"),
        (status = 304, description = "not modified"),
        (status = "4XX", body = ErrorAnswer),
    )
)]
pub async fn get(caller: Caller, Named(digest): Named, headers: HeaderMap) -> Answer<Response> {
    blocking(move || {
        let artifact = find(&caller, &digest)?;
        let etag = format!("\"{}\"", digest.hex());
        if headers
            .get(IF_NONE_MATCH)
            .is_some_and(|seen| seen.as_bytes() == etag.as_bytes())
        {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
        let content = caller.namespace.runtime.store.open_file(&digest)?;
        let len = content.len();
        let range = headers
            .get(RANGE)
            .and_then(|range| range.to_str().ok())
            .map(|range| read_range(range, len));
        let (status, from, to) = match range {
            None | Some(Range::Ignored) => (StatusCode::OK, 0, len),
            Some(Range::Bytes(from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
            Some(Range::Beyond) => {
                let error = Error::user(format_args!("range not satisfiable: the artifact has {len} bytes"));
                let mut response = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, error).into_response();
                insert(&mut response, CONTENT_RANGE, &format!("bytes */{len}"));
                return Ok(response);
            }
        };
        let mut response = (status, body(content, from, to)).into_response();
        insert(&mut response, CONTENT_TYPE, "application/octet-stream");
        insert(&mut response, CONTENT_DISPOSITION, "attachment");
        insert(&mut response, CONTENT_LENGTH, &(to - from).to_string());
        insert(&mut response, ACCEPT_RANGES, "bytes");
        insert(&mut response, CACHE_CONTROL, "private, max-age=31536000, immutable");
        insert(&mut response, ETAG, &etag);
        if let Ok(media_type) = HeaderValue::from_str(artifact.media_type.as_str()) {
            response.headers_mut().insert("lockstep-media-type", media_type);
        }
        if status == StatusCode::PARTIAL_CONTENT {
            insert(
                &mut response,
                CONTENT_RANGE,
                &format!("bytes {from}-{}/{len}", to.saturating_sub(1)),
            );
        }
        Ok(response)
    })
    .await
}

fn insert(response: &mut Response, name: axum::http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Streams the bytes in `from..to`.
fn body(content: Content, from: u64, to: u64) -> Body {
    if let Content::Bytes(bytes) = content {
        return Body::from(bytes.slice(from as usize..to as usize));
    }
    let content = Arc::new(content);
    let pieces = futures::stream::try_unfold(from, move |at| {
        let content = content.clone();
        async move {
            if at >= to {
                return Ok::<_, std::io::Error>(None);
            }
            let most = PIECE.min(to - at) as usize;
            let piece = tokio::task::spawn_blocking(move || content.piece(at, most)).await??;
            match piece.len() as u64 {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => Ok(Some((piece, at + count))),
            }
        }
    });
    Body::from_stream(pieces)
}

#[derive(PartialEq, Eq, Debug)]
enum Range {
    /// A half-open range.
    Bytes(u64, u64),
    /// Not a single range of bytes, which a server may ignore: RFC 9110, 14.2.
    Ignored,
    Beyond,
}

fn read_range(text: &str, len: u64) -> Range {
    let Some((from, to)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Ignored;
    };
    let (from, to) = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(len)),
        (Ok(from), Err(_)) if to.trim().is_empty() => (from, len),
        (Err(_), Ok(last)) if from.trim().is_empty() => (len.saturating_sub(last), len),
        _ => return Range::Ignored,
    };
    if from < to { Range::Bytes(from, to) } else { Range::Beyond }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewQuery {
    rows: Option<usize>,
}

/// Maximum number of rows in a preview.
const ROWS: usize = 10_000;

/// Preview an artifact as JSON: the first rows of a table, a text, or a value
#[utoipa::path(
    get, path = "/api/v1/artifacts/{digest}/preview",
    params(
        ("digest" = String, Path, description = "64 hexadecimal digits"),
        ("rows" = Option<usize>, Query, description = "maximum number of rows of a table [default: 20]", maximum = 10000),
    ),
    responses((status = 200, body = Value), (status = "4XX", body = ErrorAnswer))
)]
pub async fn preview(caller: Caller, Named(digest): Named, Query(query): Query<PreviewQuery>) -> Answer<Json<Value>> {
    blocking(move || {
        let artifact = find(&caller, &digest)?;
        let rows = query.rows.unwrap_or(20).min(ROWS);
        Ok(Json(
            lockstep_view::content::Content::read(&caller.namespace.runtime.store, &artifact, 0..rows)?.to_json(),
        ))
    })
    .await
}

/// Get the lineage of an artifact: the runs that produced it, or used it
#[utoipa::path(
    get, path = "/api/v1/artifacts/{digest}/lineage",
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

pub(super) fn lineage_of(caller: &Caller, digest: &Digest, way: Way) -> Answer<Json<Value>> {
    let direction = match way {
        Way::Up => Direction::Up,
        Way::Down => Direction::Down,
    };
    let runtime = &caller.namespace.runtime;
    let lineage = runtime.lineage(digest, direction)?;
    let known = |artifact: &Digest| Ok(runtime.store.artifact(artifact)?);
    Ok(Json(told::to_json(&lineage, digest, direction, known)?))
}

/// Describe a module: its steps with their inputs, parameters and outputs
#[utoipa::path(
    get, path = "/api/v1/modules/{digest}",
    params(("digest" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn module(State(_): State<Arc<Server>>, caller: Caller, Named(digest): Named) -> Answer<Json<Value>> {
    blocking(move || {
        find(&caller, &digest)?;
        let wasm = caller.namespace.runtime.store.get(&digest)?;
        let module = inspect::Module::read(digest, &wasm);
        let module = module.map_err(|error| inspect::not_a_module(&digest.short(), &wasm, error))?;
        Ok(Json(module.to_json()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        let table = [
            ("bytes=0-3", Range::Bytes(0, 4)),
            ("bytes=4-", Range::Bytes(4, 10)),
            ("bytes=-3", Range::Bytes(7, 10)),
            ("bytes=-30", Range::Bytes(0, 10)),
            ("bytes=8-99", Range::Bytes(8, 10)),
            ("bytes=10-", Range::Beyond),
            ("bytes=-0", Range::Beyond),
            ("bytes=3-1", Range::Ignored),
            ("bytes=0-1,3-4", Range::Ignored),
            ("rows=0-1", Range::Ignored),
            ("bytes=18446744073709551615-18446744073709551615", Range::Beyond),
        ];
        for (text, range) in table {
            assert_eq!(read_range(text, 10), range, "{text}");
        }
        assert_eq!(read_range("bytes=0-", 0), Range::Beyond);
    }
}
