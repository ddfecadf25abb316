use std::io;
use std::path::PathBuf;

use super::registry::RegistryError;
use crate::digest::Digest;
use crate::pipeline::PlanError;
use crate::run::{RecordError, RunError};
use crate::store::StoreError;

/// Why a bundle can't be made or used. What is wrong with one from elsewhere names the culprit in it.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file of this machine can't be used.
    #[error("can't {doing} {path}: {source}")]
    File {
        /// read, write, ...
        doing: &'static str,
        /// which
        path: PathBuf,
        /// why
        source: io::Error,
    },
    /// There is something where the bundle is to be written.
    #[error("{path} is there already: a directory is not written over")]
    Exists {
        /// where
        path: PathBuf,
    },
    /// The file is compressed, or is to be.
    #[error("{path} is compressed: a bundle is a plain tar or a directory")]
    Compressed {
        /// which
        path: PathBuf,
    },
    /// The tar can't be read.
    #[error("{path} is no tar, or is damaged")]
    Archive {
        /// which
        path: PathBuf,
    },
    /// Something in it is no plain file.
    #[error("`{name}` in the bundle is a {kind}: a bundle has plain files only")]
    Kind {
        /// which
        name: String,
        /// a symbolic link, ...
        kind: &'static str,
    },
    /// Something in it has a name that no bundle has.
    #[error("`{name}` does not belong in a bundle, which has oci-layout, index.json and blobs/sha256/DIGEST only")]
    Name {
        /// the name
        name: String,
    },
    /// Two files have one name.
    #[error("`{name}` is in the bundle twice")]
    Twice {
        /// the name
        name: String,
    },
    /// A file ends too early.
    #[error("`{name}` in the bundle is cut short: it should have {size} bytes")]
    Short {
        /// which
        name: String,
        /// how many bytes it should have
        size: u64,
    },
    /// A file that belongs to every bundle is not there.
    #[error("the bundle has no `{name}`")]
    Absent {
        /// which
        name: String,
    },
    /// A file is larger than such a file may be.
    #[error("{what} has {size} bytes, more than the {most} that it may have")]
    Large {
        /// which
        what: String,
        /// how many bytes it has
        size: u64,
        /// how many it may have
        most: u64,
    },
    /// Something is not the JSON that it should be.
    #[error("{what} can't be read: {source}")]
    Json {
        /// what
        what: String,
        /// why
        source: serde_json::Error,
    },
    /// It is a layout or a version that this program does not read, or no bundle at all.
    #[error("{what} is {found}, not {wanted}")]
    Other {
        /// what of it
        what: String,
        /// what it is
        found: String,
        /// what it should be
        wanted: String,
    },
    /// A blob has another size than is said of it.
    #[error("blob {digest} has {found} bytes; the bundle says that it has {said}")]
    Size {
        /// the blob
        digest: Digest,
        /// what is said
        said: u64,
        /// what is so
        found: u64,
    },
    /// A blob is not what its name says.
    #[error("blob {digest} of the bundle was changed: it is {found}")]
    Changed {
        /// its name
        digest: Digest,
        /// what it is
        found: Digest,
    },
    /// A blob that is needed is not there.
    #[error("the bundle lacks {digest}, {what}")]
    Lacks {
        /// the blob
        digest: Digest,
        /// what needs it
        what: String,
    },
    /// A blob is listed that nothing needs.
    #[error("the bundle lists {digest}, which nothing in its plan needs")]
    Needless {
        /// the blob
        digest: Digest,
    },
    /// A list of files in it can't be used.
    #[error("{digest} in the bundle is no directory: {reason}")]
    Directory {
        /// the list
        digest: Digest,
        /// why
        reason: String,
    },
    /// The module's base can't be told.
    #[error("{digest} in the bundle is no module: {source}")]
    Module {
        /// the module
        digest: Digest,
        /// why
        source: crate::step::BaseError,
    },
    /// A task did not succeed, so there is nothing to expect.
    #[error("task `{task}` did not succeed: there is nothing to compare a replay with")]
    Failed {
        /// the task
        task: String,
    },
    /// The plan can't be used.
    #[error("the bundle's plan can't be used: {0}")]
    Plan(#[from] PlanError),
    /// Something can't be written as JSON.
    #[error("the bundle can't be written as JSON: {0}")]
    Encode(serde_json::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A run can't be looked up.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl BundleError {
    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
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
