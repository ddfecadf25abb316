//! Modules that are based on another.
//!
//! Most of a small program is its language's library. A module may leave that to another module, its *base*: it names the base by
//! digest in the custom section `lockstep:base`, before all other sections, and imports memory, table and functions from it under the
//! module name `base`. It has no start of its own: its segments put functions into the base's table and data into its memory, and
//! the base's export `lockstep:start` runs. As the digest of the base is among its bytes, the module's own digest stands for both.

use crate::digest::{Digest, InvalidDigest};

/// The custom section that names the base: its digest, as text.
pub const BASE_SECTION: &str = "lockstep:base";
/// The module name of everything that is imported from the base.
pub const BASE_MODULE: &str = "base";
/// The export of a base that runs what is based on it.
pub const BASE_START: &str = "lockstep:start";

/// Why it can't be told what a module is based on.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// It is no module.
    #[error("it is no WebAssembly module: {0}")]
    Module(#[from] wasmparser::BinaryReaderError),
    /// The section does not hold a digest.
    #[error("its section {BASE_SECTION} holds no digest")]
    Digest(#[from] InvalidDigest),
}

/// The base of a module, if it has one.
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
