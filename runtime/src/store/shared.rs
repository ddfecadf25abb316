//! A store that several machines share, behind their local stores.
//!
//! It has the same `blobs` and `records` as a store on disk. In place of the index, it has an empty object
//! `keys/sha256/ab/<key>/<record>` for each record that answers a run key. A record is written after everything it needs, and its key
//! after the record, so every key that is found refers to a complete record. `notes` and `native` are not content-addressed. A note is
//! a mutable object; `native` is compiled code that is shared by machines with the same key.

mod code;
mod error;
mod notes;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Name;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};

use super::blobs::name;
use super::{Finding, StoreError, Writer};
use crate::digest::{Digest, RunKey};

pub use error::SharedError;

/// Checking whether an object of up to this size, in bytes, exists takes as long as writing it.
const SMALL: u64 = 64 << 10;
/// Blobs larger than this are transferred in parts.
const LARGE: u64 = 16 << 20;
/// The size of a part. S3 requires at least 5 MiB, except for the last part.
const PART: u64 = 8 << 20;
/// Maximum number of parts per object in S3.
const PARTS: u64 = 10_000;
/// Maximum concurrent transfers.
const PARALLEL: usize = 8;
/// How long an object is known to exist. A garbage collection may have removed it since.
const KNOWN: Duration = Duration::from_secs(60 * 60);
/// How long no requests are sent after the shared store could not be reached.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// A bucket of S3 or of a compatible service.
pub struct Shared {
    objects: Arc<dyn ObjectStore>,
    /// `s3://bucket/prefix`
    url: String,
    /// Drives connections. Callers wait on their own threads.
    runtime: Option<tokio::runtime::Runtime>,
    /// Objects that are known to exist.
    seen: Mutex<Seen>,
    away: Mutex<Option<Away>>,
    /// Whether publishing a record failed.
    lacks: AtomicBool,
}

/// Objects that were found or written.
struct Seen {
    since: Instant,
    names: BTreeSet<Name>,
}

/// The last failure to reach the shared store.
struct Away {
    since: Instant,
    why: String,
}

impl Shared {
    /// Creates a client for the shared store at `url`: `s3://bucket/prefix`. `settings` are the usual `AWS_*` variables:
    /// `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ALLOW_HTTP` and others; unknown ones are
    /// ignored. Does not connect yet.
    pub fn open(url: &str, settings: &BTreeMap<String, String>) -> Result<Self, SharedError> {
        let malformed = || SharedError::Url { url: url.to_owned() };
        let (bucket, prefix) = split(url).ok_or_else(malformed)?;
        // there is one provider per process; an error means that it is already installed
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(120));
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(10),
                base: 2.0,
            },
            max_retries: 5,
            retry_timeout: Duration::from_secs(180),
        };
        let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
        for (name, value) in settings {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let failed = |source| SharedError::settings(url, source);
        let objects = builder.with_bucket_name(bucket).build().map_err(failed)?;
        Self::over(Arc::new(PrefixStore::new(objects, prefix)), url)
    }

    pub(super) fn over(objects: Arc<dyn ObjectStore>, url: &str) -> Result<Self, SharedError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("shared-store")
            .enable_all()
            .build()
            .map_err(|source| SharedError::Threads { source })?;
        Ok(Self {
            objects,
            url: url.trim_end_matches('/').to_owned(),
            runtime: Some(runtime),
            seen: Mutex::new(Seen {
                since: Instant::now(),
                names: BTreeSet::new(),
            }),
            away: Mutex::default(),
            lacks: AtomicBool::new(false),
        })
    }

    /// Returns the URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Checks that the shared store is usable, by listing some names.
    pub fn ask(&self) -> Result<(), SharedError> {
        let name = Name::from("keys");
        let asked = self.wait(self.objects.list_with_delimiter(Some(&name)));
        asked.map(drop).map_err(|source| self.failed("list", &name, &source))
    }

    /// Returns why the shared store could not be reached, if publishing a record failed.
    pub fn trouble(&self) -> Option<String> {
        let away = self.away();
        let away = away.as_ref().filter(|_| self.lacks.load(Ordering::Relaxed))?;
        Some(away.why.clone())
    }

    /// Returns whether the blob exists; false if the shared store can't be reached.
    pub(super) fn contains(&self, digest: &Digest) -> Result<bool, SharedError> {
        Ok(self
            .if_reached(|| self.wait(self.has(&name("blobs", digest))))?
            .unwrap_or(false))
    }

    /// Copies the blob to `writer`; false if it does not exist.
    pub(super) fn fetch(&self, digest: &Digest, writer: &mut Writer) -> Result<bool, StoreError> {
        self.wait(self.download(&name("blobs", digest), writer))
    }

    /// Returns the JSON of a record; `None` if it does not exist or can't be reached.
    pub(super) fn record(&self, digest: &Digest) -> Result<Option<Bytes>, SharedError> {
        let name = name("records", digest);
        let get = self.read(&name);
        Ok(self.if_reached(|| self.wait(get))?.flatten())
    }

    /// Returns the records of `key`; none if the shared store can't be reached.
    pub(super) fn find(&self, key: &RunKey) -> Result<Vec<Digest>, SharedError> {
        let found = self.if_reached(|| self.wait(self.list_level(&name("keys", &key.0))))?;
        let digest = |name: &Name| Digest::from_hex(name.filename()?).ok();
        Ok(found.unwrap_or_default().iter().filter_map(digest).collect())
    }

    /// Writes `blobs`, then the record, then its key. Skips objects that are known to exist. Returns false if the shared store can't be
    /// reached.
    pub(super) fn publish(
        &self,
        blobs: &[(Digest, Bytes)],
        (key, record, json): (&RunKey, &Digest, Bytes),
    ) -> Result<bool, SharedError> {
        let mark = name("keys", &key.0).join(record.hex());
        let all = async {
            self.put_each(blobs).await?;
            self.put(&name("records", record), json).await?;
            self.put(&mark, Bytes::new()).await
        };
        let is_reached = self.if_reached(|| self.wait(all))?.is_some();
        self.lacks.fetch_or(!is_reached, Ordering::Relaxed);
        Ok(is_reached)
    }

    /// Writes `blobs`. Skips objects that are known to exist. Fails if the shared store can't be reached.
    pub(super) fn put_all(&self, blobs: &[(Digest, Bytes)]) -> Result<(), SharedError> {
        self.wait(self.put_each(blobs))
    }

    /// Checks that each key refers to an existing record. Reads only names.
    pub(super) fn check(&self) -> Result<Vec<Finding>, SharedError> {
        let names = self.wait(async {
            let records = self.list(&Name::from("records")).await?;
            Ok::<_, SharedError>((records, self.list(&Name::from("keys")).await?))
        });
        let (records, keys) = names?;
        let records: BTreeSet<&str> = records.iter().filter_map(Name::filename).collect();
        let dangling = |name: &Name| {
            let record = name.filename().filter(|record| !records.contains(record))?;
            Some(Finding::Dangling {
                name: name.to_string(),
                record: Digest::from_hex(record).ok()?,
            })
        };
        Ok(keys.iter().filter_map(dangling).collect())
    }

    /// Removes an object, if it exists.
    pub(super) fn remove(&self, name: &Name) -> Result<(), SharedError> {
        match self.wait(self.objects.delete(name)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed("remove", name, &source)),
        }
    }

    async fn has(&self, name: &Name) -> Result<bool, SharedError> {
        if self.seen().names.contains(name) {
            return Ok(true);
        }
        match self.objects.head(name).await {
            Ok(_) => {
                self.seen().names.insert(name.clone());
                Ok(true)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(self.failed("look for", name, &source)),
        }
    }

    async fn read(&self, name: &Name) -> Result<Option<Bytes>, SharedError> {
        match self.objects.get(name).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(source),
        }
        .map_err(|source| self.failed("read", name, &source))
    }

    async fn put_each(&self, blobs: &[(Digest, Bytes)]) -> Result<(), SharedError> {
        let all = stream::iter(blobs).map(async |(digest, bytes)| self.put(&name("blobs", digest), bytes.clone()).await);
        all.buffer_unordered(PARALLEL).try_collect().await
    }

    async fn put(&self, name: &Name, bytes: Bytes) -> Result<(), SharedError> {
        let is_there = match bytes.len() as u64 {
            0..=SMALL => self.seen().names.contains(name),
            _ => self.has(name).await?,
        };
        if is_there {
            return Ok(());
        }
        let written = self.write(name, bytes).await;
        written.map_err(|source| self.failed("write", name, &source))?;
        self.seen().names.insert(name.clone());
        Ok(())
    }

    async fn write(&self, name: &Name, bytes: Bytes) -> Result<(), object_store::Error> {
        match bytes.len() as u64 {
            0..=LARGE => self.objects.put(name, bytes.into()).await.map(drop),
            _ => self.put_parts(name, bytes).await,
        }
    }

    async fn put_parts(&self, name: &Name, bytes: Bytes) -> Result<(), object_store::Error> {
        let part = PART.max(bytes.len() as u64 / (PARTS - 1)) as usize;
        let upload = self.objects.put_multipart(name).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, part);
        for at in (0..bytes.len()).step_by(part) {
            if let Err(failed) = writer.wait_for_capacity(PARALLEL).await {
                // if that fails too, the bucket's lifecycle rule removes the incomplete upload
                let _ = writer.abort().await;
                return Err(failed);
            }
            writer.put(bytes.slice(at..bytes.len().min(at + part)));
        }
        writer.finish().await.map(drop)
    }

    async fn download(&self, name: &Name, writer: &mut Writer) -> Result<bool, StoreError> {
        let failed = |source: object_store::Error| self.failed("read", name, &source);
        let found = match self.objects.get(name).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(source) => return Err(failed(source).into()),
        };
        let mut land = |bytes: Bytes| {
            let landed = writer.write_at(writer.len(), &bytes);
            landed.map_err(StoreError::file("write", "a file of the store"))
        };
        if found.meta.size <= LARGE {
            land(found.bytes().await.map_err(failed)?)?;
            return Ok(true);
        }
        let size = found.meta.size;
        drop(found);
        let range = |start| -> Range<u64> { start..size.min(start + PART) };
        let parts = (0..size).step_by(PART as usize).map(range);
        let mut parts = stream::iter(parts)
            .map(|range| self.objects.get_range(name, range))
            .buffered(PARALLEL);
        while let Some(part) = parts.next().await {
            land(part.map_err(failed)?)?;
        }
        Ok(true)
    }

    async fn list(&self, prefix: &Name) -> Result<Vec<Name>, SharedError> {
        let found = self.list_objects(prefix).await?;
        Ok(found.into_iter().map(|meta| meta.location).collect())
    }

    async fn list_objects(&self, prefix: &Name) -> Result<Vec<ObjectMeta>, SharedError> {
        let found = self.objects.list(Some(prefix)).try_collect().await;
        found.map_err(|source| self.failed("list", prefix, &source))
    }

    /// Returns the objects directly below `prefix`. Servers that store objects as files read only one directory for this.
    async fn list_level(&self, prefix: &Name) -> Result<Vec<Name>, SharedError> {
        let listed = self.objects.list_with_delimiter(Some(prefix)).await;
        let listed = listed.map_err(|source| self.failed("list", prefix, &source))?;
        Ok(listed.objects.into_iter().map(|meta| meta.location).collect())
    }

    /// Returns the result of `ask`; `None` if the shared store can't be reached now, or could not be reached recently.
    fn if_reached<T>(&self, ask: impl FnOnce() -> Result<T, SharedError>) -> Result<Option<T>, SharedError> {
        if self.is_left_alone() {
            return Ok(None);
        }
        match ask() {
            Err(error @ SharedError::Away { .. }) => {
                *self.away() = Some(Away {
                    since: Instant::now(),
                    why: error.to_string(),
                });
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Returns whether the shared store could not be reached recently.
    fn is_left_alone(&self) -> bool {
        self.away().as_ref().is_some_and(|away| away.since.elapsed() < LEFT_ALONE)
    }

    fn failed(&self, doing: &'static str, name: &Name, source: &object_store::Error) -> SharedError {
        SharedError::of(doing, format!("{}/{name}", self.url), source)
    }

    /// Waits for `work` on the calling thread, while the runtime drives its connections.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _entered = self.runtime.as_ref().map(tokio::runtime::Runtime::enter);
        block_on(work)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.since.elapsed() > KNOWN {
            (seen.since, seen.names) = (Instant::now(), BTreeSet::new());
        }
        seen
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // dropping a runtime blocks, which panics inside another runtime
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://")?.trim_end_matches('/');
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, prefix))
}
