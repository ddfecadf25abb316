//! The JSON types of OCI (<https://github.com/opencontainers/image-spec>, v1.1) and of WebAssembly artifacts
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>). Unknown keys are ignored, as the specification requires.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::step::MediaType;

/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The artifact type of a bundle.
pub const BUNDLE: &str = "application/vnd.lockstep.bundle.v1";
/// The media type of a plan as canonical JSON: the bundle's config.
pub(super) const PLAN: &str = "application/vnd.lockstep.plan.v1+json";
/// The media type of the expected results: the bundle's first layer.
pub(super) const EXPECTED: &str = "application/vnd.lockstep.expected.v1+json";
pub(super) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// The file that marks a layout.
pub const LAYOUT_FILE: &str = "oci-layout";
/// The file that lists the manifests.
pub const INDEX_FILE: &str = "index.json";
/// The content of [`LAYOUT_FILE`].
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Maximum size of a manifest or index in bytes. Registries reject larger ones.
pub const MANIFEST_SIZE: u64 = 4 << 20;

/// Returns the path of a blob in a layout.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The content of `oci-layout`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayoutVersion {
    pub image_layout_version: String,
}

/// A reference to a blob.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The kind of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
        }
    }

    /// Returns the reference to `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// A list of blobs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// The media type.
    #[serde(default)]
    pub media_type: String,
    /// The kind of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What it is about, such as a plan.
    pub config: Descriptor,
    /// The content.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    pub(super) fn new(artifact_type: Option<&str>, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: artifact_type.map(str::to_owned),
            config,
            layers,
        }
    }

    /// Returns the blobs that the manifest refers to.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// A list of manifests.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// The media type.
    #[serde(default)]
    pub media_type: String,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    pub(super) fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests,
        }
    }
}

/// The config of a WASI preview 1 module. The creation time is fixed, so the same module gives the same bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WasmConfig {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [Digest; 1],
}

impl WasmConfig {
    pub(super) fn of(module: Digest) -> Self {
        Self {
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            os: "wasip1",
            layer_digests: [module],
        }
    }
}

/// Returns the media type of a layer: the artifact's, if it is valid by RFC 6838, which registries require; otherwise bytes.
pub(super) fn layer_type(media_type: &MediaType) -> &str {
    let restricted = |name: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        name.len() <= 127 && name.bytes().all(good) && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
    };
    match media_type.as_str().split_once('/') {
        Some((kind, name)) if restricted(kind) && restricted(name) => media_type.as_str(),
        _ => MediaType::BYTES,
    }
}
