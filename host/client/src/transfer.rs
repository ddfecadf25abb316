//! Upload and download of artifacts, by digest. Skips what the other side has, and resumes interrupted uploads.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Run;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::{Content, Store};
use lockstep_view::artifacts::known;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::events::read;
use lockstep_view::needs::{Needs, needs_of_run};
use lockstep_view::progress;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method};
use serde::Deserialize;

use super::Remote;

/// The maximum number of concurrent transfers.
const AT_A_TIME: usize = 8;

/// The size of the pieces that are read.
const PIECE: usize = 1 << 20;

#[derive(Deserialize)]
struct Upload {
    complete: bool,
    offset: u64,
}

impl Remote {
    /// Uploads those of `needs` that the host lacks and the store has.
    pub(super) async fn send(&self, store: &Store, needs: Needs) -> Result<()> {
        let bar = progress::bytes("uploading");
        let sent = futures::stream::iter(needs).map(|(digest, media_type)| {
            let bar = &bar;
            async move { self.send_one(store, &digest, &media_type, bar).await }
        });
        let done = sent.buffer_unordered(AT_A_TIME).try_collect::<()>().await;
        bar.finish_and_clear();
        done
    }

    async fn send_one(
        &self,
        store: &Store,
        digest: &Digest,
        media_type: &MediaType,
        bar: &indicatif::ProgressBar,
    ) -> Result<()> {
        if !store.contains(digest)? {
            return Ok(());
        }
        let path = format!("artifacts/{}", digest.hex());
        let mut tried = 0;
        loop {
            let told = self.get(self.url(&format!("{path}/upload"))).await?;
            let Upload { complete, offset } = read(told)?;
            if complete {
                return Ok(());
            }
            let content = store.open_file(digest)?;
            let len = content.len();
            bar.inc_length(len.saturating_sub(offset));
            let method = if offset == 0 { Method::PUT } else { Method::PATCH };
            let request = self
                .request(method, self.url(&path))
                .header(CONTENT_TYPE, media_type.as_str())
                .header(CONTENT_LENGTH, len.saturating_sub(offset))
                .header("upload-offset", offset);
            let sent = self.sent(request.body(body(content, offset, bar.clone()))).await;
            tried += 1;
            match sent {
                Ok(_) => return Ok(()),
                Err(trouble) if tried == super::TRIES => return Err(self.error(trouble)),
                // resumes after what arrived
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200 << tried)).await,
            }
        }
    }

    /// Downloads an artifact into the store; for a directory, also its files.
    pub fn take(&self, store: &Store, artifact: &Artifact) -> Result<()> {
        self.threads.block_on(async {
            self.take_one(store, artifact).await?;
            if artifact.is_directory() {
                let files = store.list_directory(artifact)?;
                let taken = futures::stream::iter(files.values()).map(|file| self.take_one(store, file));
                taken.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
            }
            Ok(())
        })
    }

    /// Downloads everything that `run` reads, and that the store lacks.
    pub fn take_needs(&self, store: &Store, run: &Run) -> Result<()> {
        // the base of a module and the files of a directory are known once these are here
        loop {
            let mut lacks = needs_of_run(store, run)?;
            for digest in lacks.keys().copied().collect::<Vec<_>>() {
                if store.contains(&digest)? {
                    lacks.remove(&digest);
                }
            }
            if lacks.is_empty() {
                return Ok(());
            }
            for (digest, media_type) in lacks {
                let artifact = Artifact {
                    digest,
                    media_type,
                    size: 0,
                };
                self.threads.block_on(self.take_one(store, &artifact))?;
            }
        }
    }

    /// Downloads those of `artifacts` that the host has, with the files of directories.
    pub fn take_existing(&self, store: &Store, artifacts: &[Artifact]) -> Result<()> {
        for artifact in artifacts {
            match self.take(store, artifact) {
                Err(error) if error.kind() == Kind::User => {}
                taken => taken?,
            }
        }
        Ok(())
    }

    /// Downloads the artifact `digest` into the store, and returns it with its media type.
    pub(super) fn take_known(&self, store: &Store, digest: &Digest) -> Result<Artifact> {
        let artifact = Artifact {
            digest: *digest,
            media_type: MediaType::default(),
            size: 0,
        };
        self.take(store, &artifact)?;
        let artifact = known(store, digest)?;
        self.take(store, &artifact)?;
        Ok(artifact)
    }

    async fn take_one(&self, store: &Store, artifact: &Artifact) -> Result<()> {
        if store.contains(&artifact.digest)? {
            return Ok(());
        }
        let url = self.url(&format!("artifacts/{}", artifact.digest.hex()));
        let response = self
            .sent(self.request(Method::GET, url))
            .await
            .map_err(|trouble| self.error(trouble))?;
        let said = response
            .headers()
            .get("lockstep-media-type")
            .and_then(|said| said.to_str().ok());
        let media_type = said.map_or_else(|| artifact.media_type.clone(), MediaType::new);
        let mut writer = store.writer();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| self.away(&e))?;
            let at = writer.len();
            writer
                .write_at(at, &piece)
                .map_err(|e| Error::host(format_args!("can't store the response of the host: {e}")))?;
        }
        let size = writer.len();
        if let Err(found) = writer.finish_as(&artifact.digest)? {
            return Err(Error::host(format_args!(
                "the host sent {found} instead of {}",
                artifact.digest
            )));
        }
        store.note_artifact(&Artifact {
            digest: artifact.digest,
            media_type,
            size,
        })?;
        Ok(())
    }
}

/// Streams the bytes from `offset` in pieces, and counts them in `bar`.
fn body(content: Content, offset: u64, bar: indicatif::ProgressBar) -> Body {
    let content = Arc::new(content);
    let pieces = futures::stream::try_unfold(offset, move |at| {
        let (content, bar) = (content.clone(), bar.clone());
        async move {
            let piece = content.piece(at, PIECE)?;
            bar.inc(piece.len() as u64);
            let next = at + piece.len() as u64;
            Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, next)))
        }
    });
    Body::wrap_stream(pieces)
}
