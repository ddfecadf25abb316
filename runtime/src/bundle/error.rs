use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::pipeline::PlanError;
use crate::run::{RecordError, RunError};
use crate::store::StoreError;

/// An error of creating, reading or transferring a bundle. An error in a bundle's content names the offending file or blob.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A local file can't be read or written.
    #[error("can't {doing} {path}: {source}")]
    File {
        /// read, write, ...
        doing: &'static str,
        /// the file
        path: PathBuf,
        /// the cause
        source: io::Error,
    },
    /// The target path exists already.
    #[error("{path} already exists: choose another path, or remove it first")]
    Exists {
        /// the target
        path: PathBuf,
    },
    /// The file is compressed, or its name has a suffix for compression.
    #[error("{path} is compressed: a bundle is an uncompressed tar archive or a directory")]
    Compressed {
        /// the file
        path: PathBuf,
    },
    /// The file is not a valid tar archive.
    #[error("{path} is not a tar archive, or it is damaged")]
    Archive {
        /// the file
        path: PathBuf,
    },
    /// An entry is not a regular file.
    #[error("`{name}` in the bundle is a {kind}: a bundle contains only regular files")]
    Kind {
        /// the entry
        name: String,
        /// the kind of entry, such as a symbolic link
        kind: &'static str,
    },
    /// An entry has a name that is not allowed in a bundle.
    #[error("unexpected `{name}` in the bundle: a bundle contains only oci-layout, index.json and blobs/sha256/DIGEST")]
    Name {
        /// the name
        name: String,
    },
    /// Two entries have the same name.
    #[error("`{name}` is in the bundle twice")]
    Twice {
        /// the name
        name: String,
    },
    /// A file is shorter than declared.
    #[error("`{name}` in the bundle is truncated: expected {size} bytes")]
    Short {
        /// the file
        name: String,
        /// the expected size in bytes
        size: u64,
    },
    /// A required file is missing.
    #[error("the bundle has no `{name}`")]
    Absent {
        /// the file
        name: String,
    },
    /// A file exceeds its size limit.
    #[error("{what} is too large: {size} bytes, limit {most}")]
    Large {
        /// the file
        what: String,
        /// its size in bytes
        size: u64,
        /// the limit in bytes
        most: u64,
    },
    /// A part of the bundle is not the expected JSON.
    #[error("can't parse {what}: {source}")]
    Json {
        /// the part
        what: String,
        /// the cause
        source: serde_json::Error,
    },
    /// A part of the bundle has an unsupported type or version.
    #[error("{what}: expected {wanted}, found {found}")]
    Other {
        /// the part
        what: String,
        /// what was found
        found: String,
        /// what was expected
        wanted: String,
    },
    /// A blob's size differs from its declared size.
    #[error("blob {digest} has {found} bytes, but the bundle declares {said}")]
    Size {
        /// the blob
        digest: Digest,
        /// the declared size
        said: u64,
        /// the actual size
        found: u64,
    },
    /// A blob's content does not match its digest.
    #[error("blob {digest} of the bundle is corrupt: its content has digest {found}")]
    Changed {
        /// the declared digest
        digest: Digest,
        /// the digest of the content
        found: Digest,
    },
    /// A required blob is missing.
    #[error("the bundle is missing {digest} ({what})")]
    Lacks {
        /// the blob
        digest: Digest,
        /// the blob's purpose
        what: String,
    },
    /// A listed blob is not needed.
    #[error("the bundle lists {digest}, which its plan does not need")]
    Needless {
        /// the blob
        digest: Digest,
    },
    /// The list of a directory is invalid.
    #[error("{digest} in the bundle is not a valid directory: {reason}")]
    Directory {
        /// the list
        digest: Digest,
        /// the cause
        reason: String,
    },
    /// A module's base can't be determined.
    #[error("{digest} in the bundle is not a valid module: {source}")]
    Module {
        /// the module
        digest: Digest,
        /// the cause
        source: crate::step::BaseError,
    },
    /// A task did not succeed, so the bundle has no results to compare a replay with.
    #[error("task `{task}` did not succeed: a bundle needs the results of every task")]
    Failed {
        /// the task
        task: String,
    },
    /// The bundle's plan is invalid.
    #[error("can't use the bundle's plan: {0}")]
    Plan(#[from] PlanError),
    /// JSON serialization failed.
    #[error("can't write the bundle as JSON: {0}")]
    Encode(serde_json::Error),
    /// A store error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A run can't be looked up.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl BundleError {
    /// Returns the error of the file `path` that can't be read or written.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    pub(super) fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Json { what, source }
    }

    pub(super) fn other(what: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Other {
            what: what.into(),
            found: found.into(),
            wanted: wanted.into(),
        }
    }
}
