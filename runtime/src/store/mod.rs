//! Content-addressed artifacts and records, over the `object_store` crate.
//!
//! The layout of a store. Everything except `blobs`, `records`, `pins` and `signatures` is only for the program:
//!
//! ```text
//! blobs/sha256/ab/ab12...    an artifact's bytes, read-only, named by their digest
//! records/sha256/cd/cd34...  a record, named by the digest of its hashed part
//! staging/                   files being written; they are renamed when they are complete; can be deleted while no process uses the store
//! signatures/cd/cd34.ab78... a signature of a record, named by the record and its own digest
//! pins/ef56...               an empty file for each pinned artifact or record
//! version                    the version of the store, see `version`
//! leases/                    what running processes use, see `leases`; can be deleted while no process uses the store
//! index.sqlite               the index of runs; rebuilt from the records
//! ```
//!
//! Writes are atomic (complete files are renamed), so several processes may share a directory, and a process may be killed at any
//! moment. [`Durability`] tells which files also survive a power failure; others may then be truncated. Reads check digests and detect that,
//! and the next run recreates the file. The bytes of a name never change.
//!
//! A store may have a [`Shared`] store behind it: missing objects are copied from there, and results of runs are copied to it.

mod backup;
mod blobs;
mod durability;
mod error;
mod fsck;
mod handle;
mod import;
mod index;
mod large;
mod layers;
mod leases;
mod parts;
mod pins;
mod row;
mod shared;
mod signatures;
mod sweep;
mod tally;
mod version;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::digest::{Digest, RunKey};
use crate::step::{Artifact, MediaType};

pub use backup::Copied;
pub use durability::Durability;
pub use error::StoreError;
pub use fsck::{Check, Finding};
pub use large::{Content, LargeFile};
pub use row::{Link, Role, Row, Runs};
pub use shared::{Shared, SharedError};
pub use sweep::{Keep, Sweep};
pub use tally::StepTally;
pub use writer::Writer;

use blobs::Blobs;
use index::Index;

/// Artifacts and records. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Store {
    blobs: Arc<Blobs>,
    index: Arc<Mutex<Index>>,
    shared: Option<Arc<Shared>>,
    damaged: Arc<Mutex<BTreeSet<Digest>>>,
    unpublished: Arc<Mutex<BTreeMap<Digest, String>>>,
    _temporary: Option<Arc<tempfile::TempDir>>,
}

impl Store {
    /// Opens the store in `directory`. Creates the directory if necessary. A sweep keeps everything that is used through the returned store,
    /// as long as it or a clone exists: see [`leased`](Self::leased).
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let blobs = Blobs::open(directory)?.leased();
        version::check(directory)?;
        let index = Index::open(&directory.join("index.sqlite"))?;
        Ok(Self {
            blobs: Arc::new(blobs),
            index: Arc::new(Mutex::new(index)),
            shared: None,
            damaged: Arc::default(),
            unpublished: Arc::default(),
            _temporary: None,
        })
    }

    /// Returns the same store for a piece of work: a sweep, also one of another process, keeps everything that the work stores, reads or looks
    /// for through the returned store, as long as it or a clone exists.
    pub fn leased(&self) -> Self {
        Self {
            blobs: Arc::new(self.blobs.leased()),
            ..self.clone()
        }
    }

    /// Returns the same store without a lease: a sweep does not keep what is used through it.
    pub fn unleased(&self) -> Self {
        Self {
            blobs: Arc::new(self.blobs.unleased()),
            ..self.clone()
        }
    }

    /// Returns the same store with this durability. Stores are opened with [`Durability::None`].
    pub fn lasting(self, durability: Durability) -> Result<Self, StoreError> {
        if durability != Durability::None {
            self.index().be_durable()?;
        }
        Ok(Self {
            blobs: Arc::new(self.blobs.lasting(durability)),
            ..self
        })
    }

    /// Returns what survives a power failure.
    pub fn durability(&self) -> Durability {
        self.blobs.durability()
    }

    /// Waits until the disk has a small file that was written beside the artifacts, unless the durability is [`Durability::None`].
    pub fn settle(&self, path: &Path) -> Result<(), StoreError> {
        self.blobs.settle(path, Durability::Records)
    }

    /// Creates a store in a temporary directory, which is removed together with the store and its clones. For tests.
    pub fn temporary() -> Result<Self, StoreError> {
        let directory = tempfile::tempdir().map_err(StoreError::file("create", "a temporary directory"))?;
        let mut store = Self::open(directory.path())?;
        store._temporary = Some(Arc::new(directory));
        Ok(store)
    }

    /// Returns the directory of the store.
    pub fn directory(&self) -> &Path {
        self.blobs.directory()
    }

    /// Stores `bytes`. Storing the same bytes again is cheap. Replaces a damaged file.
    pub fn put(&self, bytes: impl Into<Bytes>) -> Result<Digest, StoreError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.blobs.put(&digest, &bytes)?;
        Ok(digest)
    }

    /// Stores `bytes` with their media type.
    pub fn put_artifact(&self, bytes: impl Into<Bytes>, media_type: &MediaType) -> Result<Artifact, StoreError> {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        let artifact = Artifact {
            digest: self.put(bytes)?,
            media_type: media_type.clone(),
            size,
        };
        self.index().add_artifact(&artifact)?;
        Ok(artifact)
    }

    /// Records the media type of bytes in the store.
    pub fn note_artifact(&self, artifact: &Artifact) -> Result<(), StoreError> {
        self.index().add_artifact(artifact)
    }

    /// Returns the bytes of `digest`, mapped from the file. Verifies them: files of up to 64 KiB on every read, larger
    /// ones on the first read and whenever size, time or inode have changed.
    ///
    /// Damaged bytes are replaced by those of the shared store.
    pub fn get(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        self.fetching(digest, || self.blobs.get(digest, &self.index))
    }

    /// Calls `read` for a blob; once more after fetching it, if it is missing or damaged and the shared store has it.
    fn fetching<T>(&self, digest: &Digest, read: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match read() {
            Err(error) if self.is_lost(&error) && self.fetch(digest)? => read(),
            other => other,
        }
    }

    /// Returns whether an error says that a blob is missing or damaged. Remembers damage.
    fn is_lost(&self, error: &StoreError) -> bool {
        if let StoreError::Corrupt { expected, .. } = error {
            self.note_damage(expected);
        }
        matches!(error, StoreError::Missing(_) | StoreError::Corrupt { .. })
    }

    /// Remembers that an artifact or record is damaged.
    pub(crate) fn note_damage(&self, digest: &Digest) {
        self.damage().insert(*digest);
    }

    /// Returns the artifacts and records of the local store that were found damaged. They counted as missing.
    pub fn damaged(&self) -> Vec<Digest> {
        self.damage().iter().copied().collect()
    }

    /// Remembers that a record could not be copied to the shared store, and why.
    pub(crate) fn note_unpublished(&self, record: &Digest, why: &StoreError) {
        self.lacks().insert(*record, why.to_string());
    }

    /// Returns the records that could not be copied to the shared store since the last call, with the reason. The next run that uses such
    /// a record copies it.
    pub fn take_unpublished(&self) -> BTreeMap<Digest, String> {
        std::mem::take(&mut self.lacks())
    }

    fn lacks(&self) -> MutexGuard<'_, BTreeMap<Digest, String>> {
        self.unpublished.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn damage(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Like [`get`](Self::get), for a single sequential read: large files are not mapped.
    pub fn open_file(&self, digest: &Digest) -> Result<Content, StoreError> {
        self.fetching(digest, || match self.blobs.get_large(digest, &self.index)? {
            Some(file) => Ok(Content::Large(file)),
            None => self.blobs.get(digest, &self.index).map(Content::Bytes),
        })
    }

    /// Returns whether the local or the shared store has `digest`. A damaged file does not count.
    pub fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.has(digest)? || self.is_shared(digest)?)
    }

    /// Returns whether the local store has `digest` undamaged.
    fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.blobs.verify(digest, &self.index) {
            Ok(()) => Ok(true),
            Err(error) if self.is_lost(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the first blob of an artifact that neither the local nor the shared store has: itself, or a file in it. The shared store gets
    /// the files of a directory before the directory.
    pub(crate) fn lacking(&self, artifact: &Artifact) -> Result<Option<Digest>, StoreError> {
        self.lacking_by(artifact, |digest| self.has(digest))
    }

    /// Like [`lacking`](Self::lacking); `has` says whether the local store has a blob undamaged.
    fn lacking_by(
        &self,
        artifact: &Artifact,
        has: impl Fn(&Digest) -> Result<bool, StoreError>,
    ) -> Result<Option<Digest>, StoreError> {
        let mut blobs = vec![artifact.digest];
        if artifact.is_directory() && has(&artifact.digest)? {
            let files = match self.list_directory(artifact) {
                Err(StoreError::Manifest { .. }) => return Ok(Some(artifact.digest)),
                files => files?,
            };
            blobs.extend(files.values().map(|file| file.digest));
        }
        for digest in blobs {
            if !has(&digest)? {
                return Ok((!self.is_shared(&artifact.digest)?).then_some(digest));
            }
        }
        Ok(None)
    }

    /// Creates a writer for a new artifact.
    pub fn writer(&self) -> Writer {
        Writer::new(self.blobs.clone(), self.index.clone())
    }

    /// Creates a writer that keeps nothing in memory, if the store is in a directory.
    pub fn staged_writer(&self) -> std::io::Result<Writer> {
        Writer::staged(self.blobs.clone(), self.index.clone())
    }

    /// Imports a file or a directory. Files are hashed and copied; a large file that has not changed since its last import is not read
    /// again.
    pub fn import(&self, path: &Path) -> Result<Artifact, StoreError> {
        import::import(self, path)
    }

    /// Returns the files of a directory artifact: relative path to artifact, sorted.
    pub fn list_directory(&self, directory: &Artifact) -> Result<BTreeMap<String, Artifact>, StoreError> {
        let manifest = self.get(&directory.digest)?;
        serde_json::from_slice(&manifest).map_err(|source| StoreError::Manifest {
            digest: directory.digest,
            reason: source.to_string(),
        })
    }

    /// Stores a directory of `files`: relative path to artifact.
    pub fn put_directory(&self, files: &BTreeMap<String, Artifact>) -> Result<Artifact, StoreError> {
        import::put_directory(self, files)
    }

    /// Stores a directory of `entries`, which may be directories themselves.
    pub fn put_together(&self, entries: &BTreeMap<String, Artifact>) -> Result<Artifact, StoreError> {
        let mut files = BTreeMap::new();
        for (name, artifact) in entries {
            match artifact.is_directory() {
                false => drop(files.insert(name.clone(), artifact.clone())),
                true => {
                    let below = self.list_directory(artifact)?.into_iter();
                    files.extend(below.map(|(path, file)| (format!("{name}/{path}"), file)));
                }
            }
        }
        self.put_directory(&files)
    }

    /// Returns the artifact `digest`, with the media type from a run or an import.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        self.index().artifact(digest)
    }

    /// Returns up to 10 artifacts and records whose digest starts with `hex` (at least 4 digits).
    pub fn resolve_prefix(&self, hex: &str) -> Result<Vec<Digest>, StoreError> {
        self.index().resolve_prefix(hex)
    }

    /// Caches `value` for `key`. The entry may be lost at any time.
    pub fn remember(&self, key: &Digest, value: &Digest) -> Result<(), StoreError> {
        self.index().remember(key, value)
    }

    /// Returns the value cached by [`remember`](Self::remember), if the store still has its bytes.
    pub fn recall(&self, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let value = self.index().recall(key)?;
        Ok(value.filter(|digest| self.contains(digest).unwrap_or(false)))
    }

    /// Stores a record: `json` under the digest of its hashed part, and `row` in the index. Without `json`, the record is there already.
    pub(crate) fn put_record(&self, json: Option<Vec<u8>>, row: &Row) -> Result<(), StoreError> {
        if let Some(json) = json {
            self.blobs.put_record(&row.record, &json)?;
        }
        self.index().add(row)
    }

    /// Returns the JSON of the record `digest` in the local store.
    pub(crate) fn get_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.blobs.get_record(digest)
    }

    /// Returns the records of `key` in the local store, newest first.
    pub(crate) fn find(&self, key: &RunKey) -> Result<Vec<Digest>, StoreError> {
        self.index().find(key)
    }

    /// Returns the newest records of a step, or of a program with these arguments.
    pub(crate) fn newest_of(&self, step: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        self.index().newest_of(step, most)
    }

    /// Returns the records that match `runs`, newest first.
    pub fn rows(&self, runs: &Runs) -> Result<Vec<Row>, StoreError> {
        self.index().rows(runs)
    }

    /// Returns whether the index is complete. It is not if it was lost, or written by an older version.
    pub(crate) fn is_indexed(&self) -> Result<bool, StoreError> {
        self.index().is_complete()
    }

    /// Adds `rows` to the index, which is complete afterwards.
    pub(crate) fn reindex(&self, rows: &[Row]) -> Result<(), StoreError> {
        let directories = rows
            .iter()
            .flat_map(|row| &row.artifacts)
            .filter(|artifact| artifact.is_directory());
        for directory in directories {
            // a missing or damaged directory has no known entries
            let entries = self.blobs.peek(&directory.digest).map(|bytes| serde_json::from_slice(&bytes));
            let entries: BTreeMap<String, Artifact> = entries.and_then(Result::ok).unwrap_or_default();
            self.index().add_entries(&directory.digest, entries.values())?;
        }
        self.index().complete(rows)
    }

    /// Returns the links to the artifact, or to a directory that contains it, with their records, oldest first.
    pub fn links_of(&self, artifact: &Digest) -> Result<Vec<(Digest, Link)>, StoreError> {
        self.index().links_of(artifact)
    }

    /// Returns the links of a record to artifacts.
    pub fn links(&self, record: &Digest) -> Result<Vec<Link>, StoreError> {
        self.index().links(record)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
