//! A plan and everything it needs in one file, which can be replayed without a network or a compiler.
//!
//! A bundle is an OCI image layout (image-spec v1.1), as a directory or as a tar archive:
//!
//! ```text
//! oci-layout            {"imageLayoutVersion":"1.0.0"}
//! index.json            lists the bundle's manifest and one manifest per module
//! blobs/sha256/ab12...  everything else, named by its digest
//! ```
//!
//! The manifest's config is the plan. Its layers are the expected results ([`Expected`]), the modules, the inputs and, optionally, the
//! outputs. Each module is also an OCI artifact in the CNCF's layout for WebAssembly, so that other tools can run it. The same plan
//! gives the same bytes.
//!
//! A bundle is untrusted input. Nothing in it is compressed, so there are no decompression bombs. File names are derived from digests,
//! and every blob is checked against its digest before it enters a store. The records in a bundle are only compared with. They are
//! never added to a store, so they never answer a run.

mod contents;
mod error;
mod expected;
mod layout;
pub mod oci;
mod reach;
mod read;
mod write;

pub use contents::Contents;
pub use error::BundleError;
pub use expected::{Compared, Expectation, Expected, compare};
pub use reach::{BlobRole, Item};
pub use read::{Bundle, check_digest, parse};
pub use write::{check_target, parent};

#[cfg(test)]
mod tests;
