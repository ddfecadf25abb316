use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has this name.
    #[error("there is no artifact {0} in the store")]
    Missing(Digest),
    /// The bytes are not those that the name says.
    #[error(
        "the bytes stored as {expected} are {found}: the store's file was changed or cut short; `lockstep fsck` finds and removes such files"
    )]
    Corrupt {
        /// the name
        expected: Digest,
        /// the digest of what is there
        found: Digest,
    },
    /// The bytes in the shared store are not those that the name says.
    #[error("the bytes stored as {expected} in {url} are {found}: remove that object; a run makes it again")]
    CorruptShared {
        /// the name
        expected: Digest,
        /// the digest of what is there
        found: Digest,
        /// the shared store
        url: String,
    },
    /// A directory artifact whose list can't be read.
    #[error("{digest} is not a directory artifact: {reason}")]
    Manifest {
        /// the artifact
        digest: Digest,
        /// why
        reason: String,
    },
    /// A file or directory of the store, or one to be taken in, can't be used.
    #[error("can't {doing} {path}: {source}")]
    File {
        /// read, write, ...
        doing: &'static str,
        /// which
        path: PathBuf,
        /// why
        source: io::Error,
    },
    /// The backend said no.
    #[error("the store's backend failed on {name}: {source}")]
    Backend {
        /// the object's name
        name: String,
        /// why
        source: Box<object_store::Error>,
    },
    /// The shared store said no, or can't be reached.
    #[error(transparent)]
    Shared(#[from] super::SharedError),
    /// The index of runs said no.
    #[error("the store's index failed: {0}")]
    Index(#[from] rusqlite::Error),
}

impl StoreError {
    pub(crate) fn file(doing: &'static str, path: impl AsRef<Path>) -> Box<dyn FnOnce(io::Error) -> Self> {
        let path = path.as_ref().to_owned();
        Box::new(move |source| Self::File { doing, path, source })
    }

    pub(super) fn backend(name: &object_store::path::Path) -> impl FnOnce(object_store::Error) -> Self + use<> {
        let name = name.to_string();
        move |source| Self::Backend {
            name,
            source: Box::new(source),
        }
    }
}
