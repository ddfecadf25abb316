//! A plan with all that it needs, as one file that anyone can carry out again, without a network or a compiler.
//!
//! A bundle is an OCI image layout (image-spec v1.1), as a directory or as one tar:
//!
//! ```text
//! oci-layout            {"imageLayoutVersion":"1.0.0"}
//! index.json            lists the bundle's manifest, and one for each module
//! blobs/sha256/ab12...  all else, named by its digest
//! ```
//!
//! The manifest's config is the plan. Its layers are what the plan came to ([`Expected`]), the modules, the inputs and, when asked for,
//! what the tasks made. Each module is also an artifact of its own, as the CNCF's layout for WebAssembly has it, so that other tools can
//! run it. The same plan gives the same bytes.
//!
//! What is in a bundle may come from anywhere. Nothing in it is compressed, so nothing grows while it is read; names come from
//! digests, and every blob is checked against its own before it is in a store. Its records are claims to compare with: they never
//! become records of a store, and so never answer a run.

mod contents;
mod error;
mod expected;
mod layout;
mod oci;
mod reach;
mod read;
pub mod registry;
mod write;

pub use contents::Contents;
pub use error::BundleError;
pub use expected::{Compared, Expectation, Expected, compare};
pub use reach::{Item, Role};
pub use read::Bundle;
pub use write::check_target;

#[cfg(test)]
mod tests;
