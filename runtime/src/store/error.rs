use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The artifact does not exist.
    #[error("artifact {0} not found in the store")]
    Missing(Digest),
    /// The content does not match its digest.
    #[error(
        "artifact {expected} is corrupt: its content has digest {found}; `lockstep fsck --fix` removes corrupt files, and the next run recreates them"
    )]
    Corrupt {
        /// the artifact
        expected: Digest,
        /// the digest of the content
        found: Digest,
    },
    /// The content in the shared store does not match its digest.
    #[error(
        "artifact {expected} in {url} is corrupt: its content has digest {found}; delete the object, and the next run recreates it"
    )]
    CorruptShared {
        /// the artifact
        expected: Digest,
        /// the digest of the content
        found: Digest,
        /// the shared store
        url: String,
    },
    /// The list of a directory artifact is invalid.
    #[error("{digest} is not a directory artifact: {reason}")]
    Manifest {
        /// the artifact
        digest: Digest,
        /// the cause
        reason: String,
    },
    /// The store has a version that this program does not know.
    #[error("{path} has version {found}, but this version of lockstep reads version {known}")]
    Unknown {
        /// the file
        path: PathBuf,
        /// its version
        found: i64,
        /// the version of this program
        known: i64,
        /// the version of lockstep that wrote it, if it says so
        program: Option<String>,
    },
    /// The version of the store can't be determined.
    #[error("{path} is damaged: {reason}")]
    Version {
        /// the file
        path: PathBuf,
        /// the cause
        reason: String,
    },
    /// A file or directory of the store, or one to import, can't be read or written.
    #[error("can't {doing} {path}: {source}")]
    File {
        /// read, write, ...
        doing: &'static str,
        /// the path
        path: PathBuf,
        /// the cause
        source: io::Error,
    },
    /// A shared store error.
    #[error(transparent)]
    Shared(#[from] super::SharedError),
    /// An error of the index of runs.
    #[error("store index error: {0}")]
    Index(#[from] rusqlite::Error),
}

impl StoreError {
    pub(crate) fn file(doing: &'static str, path: impl AsRef<Path>) -> Box<dyn FnOnce(io::Error) -> Self> {
        let path = path.as_ref().to_owned();
        Box::new(move |source| Self::File { doing, path, source })
    }
}
