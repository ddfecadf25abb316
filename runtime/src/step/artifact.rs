use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The media type of an artifact, as in MIME: `text/csv`.
///
/// It determines how an artifact is displayed. Guests can't see it, so it is not part of the run key, except for whether the artifact
/// is a [directory](MediaType::DIRECTORY).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

impl MediaType {
    /// Bytes of unknown type.
    pub const BYTES: &'static str = "application/octet-stream";
    /// Comma-separated values with a header line (RFC 4180).
    pub const CSV: &'static str = "text/csv";
    /// An Arrow IPC stream: a `Table`.
    pub const TABLE: &'static str = "application/vnd.apache.arrow.stream";
    /// A Parquet file.
    pub const PARQUET: &'static str = "application/vnd.apache.parquet";
    /// UTF-8 text.
    pub const TEXT: &'static str = "text/plain";
    /// JSON text.
    pub const JSON: &'static str = "application/json";
    /// A value of any serde type, in CBOR (RFC 8949).
    pub const VALUE: &'static str = "application/cbor";
    /// A flat JSON map from metric name to number.
    pub const METRICS: &'static str = "application/vnd.lockstep.metrics+json";
    /// An SVG picture.
    pub const FIGURE: &'static str = "image/svg+xml";
    /// A directory: canonical JSON that maps each relative path to the [`Artifact`] there.
    pub const DIRECTORY: &'static str = "application/vnd.lockstep.directory+json";
    /// A WebAssembly module.
    pub const MODULE: &'static str = "application/wasm";
    /// A log: the stdout and stderr of a guest. See [`crate::run::LogChunk`].
    pub const LOG: &'static str = "application/vnd.lockstep.log";

    /// Creates a media type from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the media type for a file's extension, or [`BYTES`](Self::BYTES) if it is unknown.
    pub fn of_path(path: &Path) -> Self {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        Self::new(match extension.as_str() {
            "csv" => Self::CSV,
            "arrow" | "arrows" | "feather" => Self::TABLE,
            "parquet" => Self::PARQUET,
            "txt" | "md" | "log" => Self::TEXT,
            "json" => Self::JSON,
            "cbor" => Self::VALUE,
            "svg" => Self::FIGURE,
            "png" => "image/png",
            "html" => "text/html",
            "wasm" => Self::MODULE,
            _ => Self::BYTES,
        })
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for MediaType {
    fn default() -> Self {
        Self::new(Self::BYTES)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An immutable blob, named by the digest of its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The media type.
    pub media_type: MediaType,
    /// The number of bytes.
    pub size: u64,
}

impl Artifact {
    /// Returns whether the artifact is a directory, which is a list of other artifacts.
    pub fn is_directory(&self) -> bool {
        self.media_type.as_str() == MediaType::DIRECTORY
    }
}

/// An absolute, normalised path in the guest's file system: `/in/raw`. Has no part that is `.`, `..` or empty, or contains NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestPath(String);

/// The error of parsing a [`GuestPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a guest path: write an absolute path without `.` or `..`, such as /data/rows.csv")]
pub struct InvalidGuestPath(pub String);

impl GuestPath {
    /// Returns the default path of the input `name`.
    pub fn input(name: &str) -> Result<Self, InvalidGuestPath> {
        format!("/in/{name}").try_into()
    }

    /// Returns the parts between the slashes.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GuestPath {
    type Error = InvalidGuestPath;

    fn try_from(text: String) -> Result<Self, InvalidGuestPath> {
        let good = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(good) => Ok(Self(text)),
            _ => Err(InvalidGuestPath(text)),
        }
    }
}

impl From<GuestPath> for String {
    fn from(path: GuestPath) -> Self {
        path.0
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
