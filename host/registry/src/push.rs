use std::io::Read;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_runtime::bundle::oci::{Descriptor, INDEX, blob_name};
use lockstep_runtime::bundle::{Bundle, BundleError};
use lockstep_runtime::digest::Digest;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, StatusCode, Url};

use super::session::{Doing, Registry, persist};
use super::{Counts, PARALLEL, PART, Progress, RegistryError, Transferred};

impl Registry {
    /// Pushes `bundle`. Skips blobs that the registry already has. [Verify](Bundle::verify) the bundle first.
    pub fn push(&self, bundle: &Bundle, on: &(dyn Fn(Progress) + Sync)) -> Result<Transferred, RegistryError> {
        self.wait(self.push_all(bundle, on))
    }

    async fn push_all(&self, bundle: &Bundle, on: &(dyn Fn(Progress) + Sync)) -> Result<Transferred, RegistryError> {
        let is_manifest = |digest: &Digest| bundle.manifests().iter().any(|manifest| manifest.digest == *digest);
        let blobs: Vec<(Digest, u64)> = bundle.blobs().iter().map(|(digest, size)| (*digest, *size)).collect();
        let blobs: Vec<(Digest, u64)> = blobs.into_iter().filter(|(digest, _)| !is_manifest(digest)).collect();
        on(Progress::Total(blobs.iter().map(|(_, size)| size).sum()));
        let counts = Counts::default();
        let send = async |(digest, size): (Digest, u64)| {
            match self.has(&digest).await? {
                true => counts.add_known(),
                false => {
                    self.push_blob(bundle, &digest, size).await?;
                    counts.add(size);
                }
            }
            on(Progress::Moved(size));
            Ok::<(), RegistryError>(())
        };
        let sent = stream::iter(blobs).map(send).buffer_unordered(PARALLEL);
        sent.try_collect::<()>().await?;
        for manifest in bundle.manifests() {
            self.push_manifest(manifest, &manifest.digest.to_string(), bundle.manifest(manifest)?)
                .await?;
        }
        let index = bundle.index()?;
        let named = Descriptor::of(INDEX, &index);
        self.push_manifest(&named, &self.reference.tag, index).await?;
        Ok(counts.transferred(named.digest))
    }

    async fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let ask = async || {
            let response = self.send(Method::HEAD, &url, Doing::Write, |request| request).await?;
            match response.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refusal(response, Doing::Read, &format!("blob {digest}")).await),
            }
        };
        persist(ask).await
    }

    async fn push_blob(&self, bundle: &Bundle, digest: &Digest, size: u64) -> Result<(), RegistryError> {
        // read the file outside of the retries: a local error does not go away
        if size <= PART as u64 {
            let bytes = read_part(&mut bundle.reader(digest)?, digest)?;
            return persist(async || self.push_whole(digest, bytes.clone()).await).await;
        }
        self.push_parts(bundle, digest).await
    }

    async fn push_whole(&self, digest: &Digest, bytes: Bytes) -> Result<(), RegistryError> {
        let url = self.start_upload(digest).await?;
        self.end_upload(digest, url, bytes).await
    }

    async fn push_parts(&self, bundle: &Bundle, digest: &Digest) -> Result<(), RegistryError> {
        let mut url = persist(async || self.start_upload(digest).await).await?;
        let (mut reader, mut start) = (bundle.reader(digest)?, 0);
        loop {
            let part = read_part(&mut reader, digest)?;
            if part.is_empty() {
                return self.end_upload(digest, url, part).await;
            }
            let end = start + part.len() as u64;
            let with = |request: RequestBuilder| {
                let range = format!("{start}-{}", end - 1);
                request.header(CONTENT_RANGE, range).body(part.clone())
            };
            url = self.upload(digest, Method::PATCH, &url, with).await?;
            start = end;
        }
    }

    async fn start_upload(&self, digest: &Digest) -> Result<Url, RegistryError> {
        let url = self.url("blobs/uploads/");
        self.upload(digest, Method::POST, &url, |request| request.body(Bytes::new()))
            .await
    }

    /// Sends a part of a blob, and returns the URL for the rest.
    async fn upload(
        &self,
        digest: &Digest,
        method: Method,
        url: &Url,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Url, RegistryError> {
        let typed = |request: RequestBuilder| with(request.header(CONTENT_TYPE, "application/octet-stream"));
        let response = self.send(method, url, Doing::Write, typed).await?;
        let next = self.location(&response);
        match next.filter(|_| response.status() == StatusCode::ACCEPTED) {
            Some(next) => Ok(next),
            None => Err(self.refusal(response, Doing::Write, &format!("blob {digest}")).await),
        }
    }

    async fn end_upload(&self, digest: &Digest, mut url: Url, rest: Bytes) -> Result<(), RegistryError> {
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let with = |request: RequestBuilder| request.header(CONTENT_TYPE, "application/octet-stream").body(rest.clone());
        let response = self.send(Method::PUT, &url, Doing::Write, with).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.refusal(response, Doing::Write, &format!("blob {digest}")).await),
        }
    }

    async fn push_manifest(&self, manifest: &Descriptor, name: &str, json: Bytes) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{name}"));
        let put = async || {
            let with = |request: RequestBuilder| request.header(CONTENT_TYPE, &manifest.media_type).body(json.clone());
            let response = self.send(Method::PUT, &url, Doing::Write, with).await?;
            match response.status() {
                StatusCode::CREATED => Ok(()),
                _ => Err(self.refusal(response, Doing::Write, &format!("manifest {name}")).await),
            }
        };
        persist(put).await
    }
}

/// Reads the next part of a blob: at most [`PART`] bytes.
fn read_part(reader: &mut dyn Read, digest: &Digest) -> Result<Bytes, RegistryError> {
    let mut part = Vec::new();
    let read = reader.take(PART as u64).read_to_end(&mut part);
    read.map_err(BundleError::file("read", blob_name(digest)))?;
    Ok(part.into())
}
