use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_runtime::bundle::oci::{
    BUNDLE, Descriptor, INDEX, INDEX_FILE, Index, LAYOUT, LAYOUT_FILE, MANIFEST, MANIFEST_SIZE, Manifest, blob_name,
};
use lockstep_runtime::bundle::{Bundle, BundleError, check_digest, check_target, parent, parse};
use lockstep_runtime::digest::{Digest, Hasher};
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder};

use super::session::{Doing, Registry, away, limited, persist};
use super::{Counts, PARALLEL, Progress, RegistryError, Transferred};

impl Registry {
    /// Pulls a bundle to `path`, atomically: as a tar archive if `path` ends in `.tar`, otherwise as a directory, which must not exist
    /// yet. Checks everything.
    pub fn pull(&self, path: &Path, on: &(dyn Fn(Progress) + Sync)) -> Result<Transferred, RegistryError> {
        check_target(path)?;
        let failed = || BundleError::file("write", path);
        let staging = tempfile::tempdir_in(parent(path)).map_err(failed())?;
        let layout = staging.path().join("layout");
        fs::create_dir_all(layout.join("blobs/sha256")).map_err(failed())?;
        let transferred = self.wait(self.pull_all(&layout, on))?;
        let bundle = Bundle::open(&layout)?;
        match path.extension().is_some_and(|extension| extension == "tar") {
            true => bundle.write(path)?,
            false => fs::rename(&layout, path).map_err(failed())?,
        }
        Ok(transferred)
    }

    async fn pull_all(&self, layout: &Path, on: &(dyn Fn(Progress) + Sync)) -> Result<Transferred, RegistryError> {
        let json = self.manifest(&self.reference.tag, &self.reference.to_string(), INDEX).await?;
        let digest = Digest::of(&json);
        self.reference.digest().map_or(Ok(()), |named| check_digest(&named, digest))?;
        let no_bundle = |reason: String| RegistryError::NoBundle {
            what: self.reference.to_string(),
            reason,
        };
        let index: Index = serde_json::from_slice(&json).map_err(|e| no_bundle(e.to_string()))?;
        if !index
            .manifests
            .iter()
            .any(|listed| listed.artifact_type.as_deref() == Some(BUNDLE))
        {
            return Err(no_bundle("its index lists no bundle".to_owned()));
        }
        let mut blobs = BTreeMap::new();
        for listed in &index.manifests {
            let json = self
                .manifest(&listed.digest.to_string(), &format!("manifest {}", listed.digest), MANIFEST)
                .await?;
            check_digest(&listed.digest, Digest::of(&json))?;
            let manifest: Manifest = parse(&format!("manifest {}", listed.digest), &json)?;
            blobs.extend(manifest.blobs().map(|blob| (blob.digest, blob.clone())));
            write(&layout.join(blob_name(&listed.digest)), &json)?;
        }
        let counts = self.pull_blobs(layout, blobs.into_values().collect(), on).await?;
        write(&layout.join(INDEX_FILE), &json)?;
        write(&layout.join(LAYOUT_FILE), LAYOUT)?;
        Ok(counts.transferred(digest))
    }

    async fn pull_blobs(
        &self,
        layout: &Path,
        blobs: Vec<Descriptor>,
        on: &(dyn Fn(Progress) + Sync),
    ) -> Result<Counts, RegistryError> {
        on(Progress::Total(blobs.iter().map(|blob| blob.size).sum()));
        let counts = Counts::default();
        let fetch = async |blob: Descriptor| {
            self.pull_blob(layout, &blob, on).await?;
            counts.add(blob.size);
            Ok::<(), RegistryError>(())
        };
        let fetched = stream::iter(blobs).map(fetch).buffer_unordered(PARALLEL);
        fetched.try_collect::<()>().await?;
        Ok(counts)
    }

    async fn manifest(&self, name: &str, what: &str, media_type: &str) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&format!("manifests/{name}"));
        let get = async || {
            let with = |request: RequestBuilder| request.header(ACCEPT, media_type);
            let response = self.send(Method::GET, &url, Doing::Read, with).await?;
            match response.status().is_success() {
                true => limited(response, MANIFEST_SIZE).await,
                false => Err(self.refusal(response, Doing::Read, what).await),
            }
        };
        let read = persist(get).await?.ok_or_else(|| BundleError::Large {
            what: what.to_owned(),
            size: MANIFEST_SIZE + 1,
            most: MANIFEST_SIZE,
        });
        Ok(read?)
    }

    /// Pulls a blob. Reads no more than its declared size.
    async fn pull_blob(&self, layout: &Path, blob: &Descriptor, on: &(dyn Fn(Progress) + Sync)) -> Result<(), RegistryError> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        let get = async || {
            let response = self.send(Method::GET, &url, Doing::Read, |request| request).await?;
            match response.status().is_success() {
                true => Ok(response),
                false => Err(self.refusal(response, Doing::Read, &format!("blob {}", blob.digest)).await),
            }
        };
        let mut response = persist(get).await?;
        let path = layout.join(blob_name(&blob.digest));
        let mut file = File::create(&path).map_err(BundleError::file("write", &path))?;
        let (mut hasher, mut found) = (Hasher::default(), 0);
        while let Some(piece) = response.chunk().await.map_err(|e| away(&url, e))? {
            found += piece.len() as u64;
            if found > blob.size {
                break;
            }
            hasher.update(&piece);
            file.write_all(&piece).map_err(BundleError::file("write", &path))?;
            on(Progress::Moved(piece.len() as u64));
        }
        if found != blob.size {
            let (digest, said) = (blob.digest, blob.size);
            return Err(BundleError::Size { digest, said, found }.into());
        }
        Ok(check_digest(&blob.digest, hasher.finish())?)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    Ok(fs::write(path, bytes).map_err(BundleError::file("write", path))?)
}
