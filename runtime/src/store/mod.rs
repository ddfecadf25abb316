//! Content-addressed artifacts and records, over the `object_store` crate.
//!
//! A directory store looks like this; everything but `blobs`, `records`, `pins` and `signatures` can be deleted at any time:
//!
//! ```text
//! blobs/sha256/ab/ab12...    an artifact's bytes, read-only, named by their digest
//! records/sha256/cd/cd34...  a record, named by the digest of its hashed part
//! staging/                   files being written; they get their name when they are whole
//! signatures/cd/cd34.ab78... a signature of a record, named by the record and its own digest
//! pins/ef56...               an empty file for each artifact or record that is to stay
//! index.sqlite               which runs there are; rebuilt from the records
//! ```
//!
//! Writes are atomic (a whole file gets its name by a rename), so several processes may share a directory and a process
//! may be killed at any moment. There is no fsync: after a power cut a file may be short, which reading it finds, because
//! reads check digests; a run makes it again. Bytes are never changed under a name.
//!
//! Behind a directory there may be a [`Shared`] store: what the directory lacks is looked for there and kept, and what runs come to
//! is put there too.

mod blobs;
mod error;
mod fsck;
mod import;
mod index;
mod large;
mod layers;
mod parts;
mod pins;
mod row;
mod shared;
mod signatures;
mod sweep;
mod tally;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use object_store::ObjectStore;

use crate::digest::{Digest, RunKey};
use crate::step::{Artifact, MediaType};

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
}

impl Store {
    /// Opens the store in `directory`, which is made when it is not there.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let blobs = Blobs::open(directory)?;
        let index = Index::open(&directory.join("index.sqlite"))?;
        Ok(Self {
            blobs: Arc::new(blobs),
            index: Arc::new(Mutex::new(index)),
            shared: None,
        })
    }

    /// A store that lives as long as the process.
    pub fn memory() -> Result<Self, StoreError> {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        Ok(Self {
            blobs: Arc::new(Blobs::over(objects)),
            index: Arc::new(Mutex::new(Index::memory()?)),
            shared: None,
        })
    }

    /// The directory of a directory store.
    pub fn directory(&self) -> Option<&Path> {
        self.blobs.directory()
    }

    /// Keeps `bytes`. Storing the same bytes again is cheap.
    pub fn put(&self, bytes: impl Into<Bytes>) -> Result<Digest, StoreError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.blobs.put(&digest, bytes)?;
        Ok(digest)
    }

    /// Keeps `bytes` and remembers what kind they are.
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

    /// Remembers what kind of bytes the store has.
    pub fn note_artifact(&self, artifact: &Artifact) -> Result<(), StoreError> {
        self.index().add_artifact(artifact)
    }

    /// The bytes called `digest`: mapped from the file in a directory store. They are what their name says: a file of more
    /// than 64 kB is hashed when it is first read and again only when its size, time or inode changed; smaller ones always.
    pub fn get(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        match self.blobs.get(digest, &self.index) {
            Err(StoreError::Missing(_)) if self.fetch(digest)? => self.blobs.get(digest, &self.index),
            other => other,
        }
    }

    /// As [`get`](Self::get), for bytes that are read once from front to back: those of a large file stay in it.
    pub fn open_file(&self, digest: &Digest) -> Result<Content, StoreError> {
        if !self.blobs.contains(digest)? {
            self.fetch(digest)?;
        }
        match self.blobs.get_large(digest, &self.index)? {
            Some(file) => Ok(Content::Large(file)),
            None => self.get(digest).map(Content::Bytes),
        }
    }

    /// Whether there are bytes called `digest`, here or in the shared store.
    pub fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blobs.contains(digest)? || self.is_shared(digest)?)
    }

    /// A new artifact that is written piece by piece.
    pub fn writer(&self) -> Writer {
        Writer::new(self.blobs.clone())
    }

    /// Takes in a file or a directory from outside. Files are hashed and copied; a large file that has not changed since it
    /// was last taken in is not read again.
    pub fn import(&self, path: &Path) -> Result<Artifact, StoreError> {
        import::import(self, path)
    }

    /// The files of a directory artifact: relative path to artifact, sorted.
    pub fn list_directory(&self, directory: &Artifact) -> Result<BTreeMap<String, Artifact>, StoreError> {
        let manifest = self.get(&directory.digest)?;
        serde_json::from_slice(&manifest).map_err(|source| StoreError::Manifest {
            digest: directory.digest,
            reason: source.to_string(),
        })
    }

    /// Keeps a directory made of `files`: relative path to artifact.
    pub fn put_directory(&self, files: &BTreeMap<String, Artifact>) -> Result<Artifact, StoreError> {
        import::put_directory(self, files)
    }

    /// Keeps a directory made of `entries`, of which some may be directories themselves.
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

    /// What is known of the bytes called `digest`: the media type that a run or an import gave them.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        self.index().artifact(digest)
    }

    /// The artifacts and records whose digest starts with `hex` (at least 4 digits), at most 10.
    pub fn resolve_prefix(&self, hex: &str) -> Result<Vec<Digest>, StoreError> {
        self.index().resolve_prefix(hex)
    }

    /// Notes that `key` leads to `value`: a small memory that may be lost at any time.
    pub fn remember(&self, key: &Digest, value: &Digest) -> Result<(), StoreError> {
        self.index().remember(key, value)
    }

    /// What [`remember`](Self::remember) noted for `key`, as long as the store still has those bytes.
    pub fn recall(&self, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let value = self.index().recall(key)?;
        Ok(value.filter(|digest| self.contains(digest).unwrap_or(false)))
    }

    /// Keeps a record: `json` under the digest of its hashed part, and `row` in the index.
    pub(crate) fn put_record(&self, json: Vec<u8>, row: &Row) -> Result<(), StoreError> {
        self.blobs.put_record(&row.record, json.into())?;
        self.index().add(row)
    }

    /// The JSON of the record called `digest`, as it is here.
    pub(crate) fn get_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.blobs.get_record(digest)
    }

    /// Whether the record called `digest` is here.
    pub(crate) fn has_record(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.blobs.contains_record(digest)
    }

    /// The records of `key` that are here, newest first.
    pub(crate) fn find(&self, key: &RunKey) -> Result<Vec<Digest>, StoreError> {
        self.index().find(key)
    }

    /// The newest records of a step, or of a program with these arguments.
    pub(crate) fn newest_of(&self, step: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        self.index().newest_of(step, most)
    }

    /// The newest records that `runs` asks for.
    pub fn rows(&self, runs: &Runs) -> Result<Vec<Row>, StoreError> {
        self.index().rows(runs)
    }

    /// Whether the index holds every record. It does not when it was lost, or made by an older version.
    pub(crate) fn is_indexed(&self) -> Result<bool, StoreError> {
        self.index().is_complete()
    }

    /// Takes `rows` into the index, with which it holds every record.
    pub(crate) fn reindex(&self, rows: &[Row]) -> Result<(), StoreError> {
        let directories = rows
            .iter()
            .flat_map(|row| &row.artifacts)
            .filter(|artifact| artifact.is_directory());
        for directory in directories {
            // of one that is lost or damaged nothing is known
            let entries = self.blobs.peek(&directory.digest).map(|bytes| serde_json::from_slice(&bytes));
            let entries: BTreeMap<String, Artifact> = entries.and_then(Result::ok).unwrap_or_default();
            self.index().add_entries(&directory.digest, entries.values())?;
        }
        self.index().complete(rows)
    }

    /// The runs that have the artifact, or a directory that lists it, for something, oldest first: their records, and what for.
    pub fn links_of(&self, artifact: &Digest) -> Result<Vec<(Digest, Link)>, StoreError> {
        self.index().links_of(artifact)
    }

    /// What the run of `record` read and made.
    pub fn links(&self, record: &Digest) -> Result<Vec<Link>, StoreError> {
        self.index().links(record)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
