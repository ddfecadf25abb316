//! Modules that are linked to a base module.
//!
//! Most of a small program is its language's standard library. A module may import that from another module, its *base*. It states the
//! digest of the base in the custom section `lockstep:base`, before all other sections, and imports memory, table and functions under the
//! module name `base`. It has no start function: its segments add functions to the base's table and data to the base's memory, and the
//! base's export `lockstep:start` runs it. Since the module's bytes contain the digest of its base, its own digest identifies both.

use crate::digest::{Digest, InvalidDigest};

/// The custom section that contains the digest of the base, as text.
pub const BASE_SECTION: &str = "lockstep:base";
/// The module name of imports from the base.
pub const BASE_MODULE: &str = "base";
/// The export of a base that runs a module linked to it.
pub const BASE_START: &str = "lockstep:start";

/// An error in determining the base of a module.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// Not a module.
    #[error("not a WebAssembly module: {0}")]
    Module(#[from] wasmparser::BinaryReaderError),
    /// The section does not contain a digest.
    #[error("section {BASE_SECTION} does not contain a digest")]
    Digest(#[from] InvalidDigest),
}

/// Returns the digest of a module's base, if it has one.
pub fn base(module: &[u8]) -> Result<Option<Digest>, BaseError> {
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload? {
            wasmparser::Payload::Version { .. } => {}
            wasmparser::Payload::CustomSection(section) if section.name() == BASE_SECTION => {
                return Ok(Some(String::from_utf8_lossy(section.data()).parse()?));
            }
            wasmparser::Payload::CustomSection(_) => {}
            _ => break,
        }
    }
    Ok(None)
}
