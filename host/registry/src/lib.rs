//! Transfers bundles to and from OCI registries (<https://github.com/opencontainers/distribution-spec>).
//!
//! A tag refers to the bundle's `index.json`, so a pull returns the same bytes, and each module is an artifact in the registry too.
//! Blobs are pushed before the manifests that refer to them, and the tag last, so a tag never refers to an incomplete bundle.

mod docker;
mod error;
mod pull;
mod push;
mod reference;
mod session;

use std::sync::atomic::{AtomicU64, Ordering};

pub use docker::{Credentials, CredentialsError, credentials};
pub use error::RegistryError;
pub use reference::{InvalidReference, Reference};
pub use session::Registry;

/// Blobs larger than this are pushed in parts of this size.
const PART: usize = 8 << 20;
/// Maximum concurrent blob transfers.
const PARALLEL: usize = 8;
/// Maximum attempts per request.
const TRIES: u32 = 3;

/// Progress of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Total number of bytes, including those that the target already has.
    Total(u64),
    /// Number of bytes transferred since the last report.
    Moved(u64),
}

/// The result of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transferred {
    /// The digest that the tag refers to.
    pub digest: lockstep_runtime::digest::Digest,
    /// Number of blobs transferred.
    pub blobs: u64,
    /// Total size of these blobs, in bytes.
    pub bytes: u64,
    /// Number of blobs that the target already had.
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

    fn transferred(&self, digest: lockstep_runtime::digest::Digest) -> Transferred {
        Transferred {
            digest,
            blobs: self.blobs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            known: self.known.load(Ordering::Relaxed),
        }
    }
}
