use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Error, Result, encoding};

/// The media types of the values in this crate.
pub mod media_type {
    /// Bytes of unknown type.
    pub const BYTES: &str = "application/octet-stream";
    /// Comma-separated values with a header line (RFC 4180).
    pub const CSV: &str = "text/csv";
    /// An Arrow IPC stream.
    pub const TABLE: &str = "application/vnd.apache.arrow.stream";
    /// A Parquet file.
    pub const PARQUET: &str = "application/vnd.apache.parquet";
    /// UTF-8 text.
    pub const TEXT: &str = "text/plain";
    /// JSON text.
    pub const JSON: &str = "application/json";
    /// A value of any serde type, in CBOR (RFC 8949).
    pub const VALUE: &str = "application/cbor";
    /// A flat JSON map from metric name to number.
    pub const METRICS: &str = "application/vnd.lockstep.metrics+json";
    /// An SVG picture.
    pub const FIGURE: &str = "image/svg+xml";
    /// A directory.
    pub const DIRECTORY: &str = "application/vnd.lockstep.directory+json";
}

/// A value that can be stored as an artifact: written by one step and read by another.
///
/// Equal values must write equal bytes, because an artifact is named by the digest of its bytes: use a `BTreeMap` for maps.
///
/// Every type that is `Serialize + DeserializeOwned` implements it, in CBOR. Implement the trait only for a type with a format
/// of its own, and don't derive serde's traits for that type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be kept as an artifact, so it can't be an input or output of a step",
    label = "not an artifact",
    note = "write #[derive(Serialize, Deserialize)] on a type of yours, or use Table, Csv, Text, Bytes, Json<T>, Metrics or Figure"
)]
pub trait Artifact: Sized {
    /// The media type. Written to JSON without escaping.
    const MEDIA_TYPE: &'static str;

    /// Reads the value from the file at `path`.
    fn read(path: &Path) -> Result<Self>;

    /// Writes the value to a new file at `path`.
    fn write_artifact(&self, path: &Path) -> Result<()>;
}

/// An input of a step: every [`Artifact`], and types that read one incrementally ([`Reader`](crate::Reader),
/// [`TableReader`](crate::TableReader)).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an input of a step",
    label = "not an input",
    note = "inputs are Table, Csv, Text, Bytes, Json<T>, TableReader, Reader, Parts<T> or a type with #[derive(Serialize, Deserialize)]",
    note = "small values that steer a step are parameters: write Param<{Self}>"
)]
pub trait Input: Sized {
    /// The expected media type.
    const MEDIA_TYPE: &'static str;

    /// Opens the input in the file at `path`.
    fn open(path: &Path) -> Result<Self>;
}

impl<T: Artifact> Input for T {
    const MEDIA_TYPE: &'static str = T::MEDIA_TYPE;

    fn open(path: &Path) -> Result<Self> {
        T::read(path)
    }
}

impl<T: Serialize + DeserializeOwned> Artifact for T {
    const MEDIA_TYPE: &'static str = media_type::VALUE;

    fn read(path: &Path) -> Result<Self> {
        let name = std::any::type_name::<T>();
        encoding::read_file(path).with_context(|| format!("{} holds no {name}", path.display()))
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        let mut is_unusual = false;
        create(path, |file| {
            is_unusual = encoding::write_typed(self, file)?;
            Ok(())
        })?;
        match is_unusual {
            true => encoding::check::<T>(&read(path)?),
            false => Ok(()),
        }
    }
}

pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("can't open {}", path.display()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// Reads the text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    utf8(read(path)?).with_context(|| format!("can't read {}", path.display()))
}

/// Returns text, or an error with the first line that is not UTF-8.
pub(crate) fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
        let from = match is_utf16(bytes) {
            true => "UTF-16",
            false => "LATIN1",
        };
        Error::msg(format!(
            "line {line} is not UTF-8 text: convert the file, for example with `iconv -f {from} -t UTF-8`"
        ))
    })
}

/// Returns whether text that starts with these bytes is UTF-16, or UTF-32.
pub(crate) fn is_utf16(start: &[u8]) -> bool {
    start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff])
}

/// Creates the file at `path`, with the content that `fill` writes.
pub(crate) fn create(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = BufWriter::with_capacity(64 * 1024, File::create(path)?);
        fill(&mut file)?;
        Ok(file.flush()?)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}
