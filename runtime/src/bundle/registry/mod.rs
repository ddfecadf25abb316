//! Bundles to and from registries, by the OCI distribution specification: <https://github.com/opencontainers/distribution-spec>.
//!
//! What is sent under a tag is the bundle's `index.json`, so that what is pulled is the same bytes, and each module is an artifact in
//! the registry too. Blobs go before the manifests that name them, and the tag comes last: nobody finds half a bundle.

mod error;
mod pull;
mod push;
mod reference;
mod session;

use std::sync::atomic::{AtomicU64, Ordering};

pub use error::RegistryError;
pub use reference::{InvalidReference, Reference};
pub use session::{Credentials, Registry};

/// A blob that is larger is sent in parts of this size.
const PART: usize = 8 << 20;
/// So many blobs are under way at a time.
const PARALLEL: usize = 8;
/// So often a blob is tried.
const TRIES: u32 = 3;

/// What is told of a transfer while it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// So many bytes are to be transferred, those that are there already among them.
    Total(u64),
    /// So many bytes more were.
    Moved(u64),
}

/// What was transferred.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transferred {
    /// The digest of what the tag leads to.
    pub digest: crate::digest::Digest,
    /// How many blobs were transferred.
    pub blobs: u64,
    /// How many bytes these have.
    pub bytes: u64,
    /// How many blobs were there already.
    pub known: u64,
}

#[derive(Default)]
struct Counts {
    blobs: AtomicU64,
    bytes: AtomicU64,
    known: AtomicU64,
}

impl Counts {
    fn add(&self, bytes: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_known(&self) {
        self.known.fetch_add(1, Ordering::Relaxed);
    }

    fn transferred(&self, digest: crate::digest::Digest) -> Transferred {
        Transferred {
            digest,
            blobs: self.blobs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            known: self.known.load(Ordering::Relaxed),
        }
    }
}
