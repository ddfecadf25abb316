//! Uploads of artifacts. They are named by digest, so a repeated upload is harmless, and resumable.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Store;
use lockstep_view::artifacts::known;
use lockstep_view::error::Error;
use serde::Serialize;
use utoipa::ToSchema;

use super::ErrorAnswer;
use crate::extract::{Named, blocking, next, too_large, whole};
use crate::{Answer, Caller, Refusal, Server};

/// Artifacts up to this size in bytes are stored without a temporary file.
const IN_MEMORY: u64 = 1 << 20;

/// Progress of an upload.
#[derive(Serialize, ToSchema)]
pub(super) struct Upload {
    /// Whether the artifact is complete.
    complete: bool,
    /// Number of bytes received; the offset at which to continue.
    offset: u64,
}

/// Show the progress of an upload
#[utoipa::path(
    get, path = "/api/v1/artifacts/{digest}/upload",
    params(("digest" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, body = Upload), (status = "4XX", body = ErrorAnswer))
)]
pub async fn status(caller: Caller, Named(digest): Named) -> Answer<Json<Upload>> {
    blocking(move || here(&caller, &digest).map(Json)).await
}

fn here(caller: &Caller, digest: &Digest) -> Answer<Upload> {
    let store = &caller.namespace.runtime.store;
    Ok(match store.contains(digest)? {
        true => Upload {
            complete: true,
            offset: known(store, digest)?.size,
        },
        false => Upload {
            complete: false,
            offset: std::fs::metadata(partial(caller, digest)).map_or(0, |file| file.len()),
        },
    })
}

/// Upload an artifact
///
/// `Content-Type` sets its media type. The body must match the digest. If the artifact exists already, the response is 200 before the
/// body is read.
#[utoipa::path(
    put, path = "/api/v1/artifacts/{digest}",
    params(("digest" = String, Path, description = "64 hexadecimal digits")),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "the artifact existed already", body = Upload),
        (status = 201, description = "the artifact was created", body = Upload),
        (status = "4XX", body = ErrorAnswer),
    )
)]
pub async fn put(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Named(digest): Named,
    request: Request,
) -> Answer<(StatusCode, Json<Upload>)> {
    let (parts, body) = request.into_parts();
    receive(server, caller, digest, 0, &parts.headers, body, true).await
}

/// Continue an interrupted upload
///
/// `Upload-Offset` is the offset of the body and must equal the number of bytes received. `Upload-Complete: ?0` announces further
/// requests. The headers follow the IETF draft "Resumable Uploads for HTTP".
#[utoipa::path(
    patch, path = "/api/v1/artifacts/{digest}",
    params(
        ("digest" = String, Path, description = "64 hexadecimal digits"),
        ("Upload-Offset" = u64, Header, description = "offset of the body in bytes"),
        ("Upload-Complete" = Option<String>, Header, description = "?0 if more requests follow"),
    ),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "the artifact existed already, or is not complete yet", body = Upload),
        (status = 201, description = "the artifact was created", body = Upload),
        (status = "4XX", body = ErrorAnswer),
    )
)]
pub async fn patch(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Named(digest): Named,
    request: Request,
) -> Answer<(StatusCode, Json<Upload>)> {
    let (parts, body) = request.into_parts();
    let offset = parts.headers.get("upload-offset").and_then(|text| text.to_str().ok());
    let offset = offset
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Refusal::bad("header Upload-Offset is missing or not a number"))?;
    let complete = match parts.headers.get("upload-complete").map(|text| text.as_bytes()) {
        None | Some(b"?1") => true,
        Some(b"?0") => false,
        Some(_) => return Err(Refusal::bad("header Upload-Complete must be ?1 or ?0")),
    };
    receive(server, caller, digest, offset, &parts.headers, body, complete).await
}

async fn receive(
    server: Arc<Server>,
    caller: Caller,
    digest: Digest,
    offset: u64,
    headers: &HeaderMap,
    body: Body,
    complete: bool,
) -> Answer<(StatusCode, Json<Upload>)> {
    let media_type = media_type(headers)?;
    let length: Option<u64> = headers.get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
    let limit = server.settings.upload_limit();
    if length.is_some_and(|length| offset.saturating_add(length) > limit) {
        return Err(over(limit));
    }
    let (asker, quota) = (caller.clone(), server.gate.quota(&caller.namespace.owner));
    let before = blocking(move || {
        let before = here(&asker, &digest)?;
        if !before.complete {
            asker.namespace.room.check(&quota)?;
        }
        Ok(before)
    });
    let before = before.await?;
    if before.complete {
        return Ok((StatusCode::OK, Json(before)));
    }
    let answer = |status, complete, offset| Ok((status, Json(Upload { complete, offset })));
    if offset == 0 && complete && length.is_some_and(|length| length <= IN_MEMORY) {
        let bytes = whole(body, IN_MEMORY as usize).await?;
        let size = bytes.len() as u64;
        caller.namespace.room.received(size);
        blocking(move || take_in(&caller.namespace.runtime.store, &digest, bytes, &media_type)).await?;
        return answer(StatusCode::CREATED, true, size);
    }
    let path = partial(&caller, &digest);
    // two clients that send the same artifact would write to the same file
    let _sending = caller.namespace.uploads.begin(&digest).ok_or_else(|| {
        Refusal::new(
            StatusCode::CONFLICT,
            Error::user("another upload of this artifact is in progress").hint("try again later"),
        )
    })?;
    let at = append(&path, offset, limit, body).await?;
    caller.namespace.room.received(at - offset);
    if !complete {
        return answer(StatusCode::OK, false, at);
    }
    blocking(move || take_in_file(&caller.namespace.runtime.store, &digest, &path, &media_type)).await?;
    answer(StatusCode::CREATED, true, at)
}

/// Appends the body to the file of received bytes. Returns the file's new size.
async fn append(path: &Path, offset: u64, limit: u64, body: Body) -> Answer<u64> {
    let mut file = open(path.to_owned(), offset).await?;
    let mut at = offset;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = next(&mut pieces).await? {
        at += piece.len() as u64;
        if at > limit {
            return Err(over(limit));
        }
        let place = path.to_owned();
        file = blocking(move || {
            file.write_all(&piece).map_err(|e| Error::file("write", &place, &e))?;
            Ok(file)
        })
        .await?;
    }
    Ok(at)
}

async fn open(path: PathBuf, offset: u64) -> Answer<File> {
    blocking(move || {
        let failed = |e| Error::file("write", &path, &e);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
        let here = file.metadata().map_err(failed)?.len();
        match (offset, here) {
            (0, 1..) => file.set_len(0).map_err(failed)?,
            (offset, here) if offset != here => {
                let error = Error::user(format_args!("Upload-Offset is {offset}, but {here} bytes were received"));
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    error.hint(format_args!("continue with Upload-Offset: {here}")),
                ));
            }
            _ => {}
        }
        Ok(file)
    })
    .await
}

fn take_in(store: &Store, digest: &Digest, bytes: Bytes, media_type: &MediaType) -> Answer<()> {
    let found = Digest::of(&bytes);
    if found != *digest {
        return Err(mismatch(digest, &found));
    }
    store.put_artifact(bytes, media_type)?;
    Ok(())
}

/// Stores a received file, and removes it. Fails if it does not match the digest.
fn take_in_file(store: &Store, digest: &Digest, path: &Path, media_type: &MediaType) -> Answer<()> {
    let found = read_into(store, digest, path);
    let removed = std::fs::remove_file(path).map_err(|e| Error::file("remove", path, &e));
    let size = found??;
    store.note_artifact(&Artifact {
        digest: *digest,
        media_type: media_type.clone(),
        size,
    })?;
    Ok(removed?)
}

fn read_into(store: &Store, digest: &Digest, path: &Path) -> Answer<Answer<u64>> {
    use std::io::Read;
    let failed = |e| Error::file("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let mut writer = store.writer();
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        let at = writer.len();
        writer.write_at(at, &piece[..count]).map_err(failed)?;
    }
    let size = writer.len();
    Ok(writer
        .finish_as(digest)?
        .map(|()| size)
        .map_err(|found| mismatch(digest, &found)))
}

fn mismatch(digest: &Digest, found: &Digest) -> Refusal {
    let error = Error::user(format_args!("digest mismatch: expected {digest}, received {found}"));
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        error.hint("the received bytes were discarded; send the artifact again"),
    )
}

fn over(limit: u64) -> Refusal {
    let mut refusal = too_large(limit, "artifacts");
    refusal.error = refusal.error.hint("raise the limit with `lockstep serve --upload-limit`");
    refusal
}

fn media_type(headers: &HeaderMap) -> Answer<MediaType> {
    let Some(text) = headers.get(CONTENT_TYPE) else {
        return Ok(MediaType::default());
    };
    let text = text
        .to_str()
        .map_err(|_| Refusal::bad("header Content-Type is not valid text"))?;
    Ok(MediaType::new(text))
}

/// The file of an incomplete upload.
fn partial(caller: &Caller, digest: &Digest) -> PathBuf {
    caller.namespace.directory.join("uploads").join(digest.hex())
}
