use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use super::layout::{Layout, short};
use super::oci::{
    BUNDLE, Descriptor, EXPECTED, INDEX_FILE, Index, LAYOUT_FILE, LayoutVersion, MANIFEST, MANIFEST_SIZE, Manifest, PLAN,
    WASM_CONFIG, blob_name, layer_type,
};
use super::reach::{BlobRole, Item, reach};
use super::write::write;
use super::{BundleError, Expected};
use crate::digest::{Digest, Hasher};
use crate::pipeline::Plan;
use crate::step::MediaType;
use crate::store::Store;

/// Maximum size of a plan or its expected results as JSON, in bytes.
pub(super) const JSON_SIZE: u64 = 256 << 20;
/// Maximum size of a module or of a directory's list, in bytes.
const READ_SIZE: u64 = 512 << 20;
/// The size of the pieces in which blobs are read.
pub(super) const PIECE: usize = 1 << 20;

/// An opened bundle. It is complete: every blob that its plan needs exists and has the declared size. The content of a blob is checked
/// when it is read.
pub struct Bundle {
    layout: Layout,
    manifest: Digest,
    plan: Plan,
    expected: Expected,
    items: Vec<Item>,
    /// All blobs, with their sizes.
    blobs: BTreeMap<Digest, u64>,
    manifests: Vec<Descriptor>,
}

impl Bundle {
    /// Opens the bundle in a directory or tar archive, and checks that it is complete.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let layout = Layout::open(path)?;
        check_version(&layout)?;
        let index: Index = parse(INDEX_FILE, &layout.read(INDEX_FILE, MANIFEST_SIZE)?)?;
        let is_bundle = |listed: &&Descriptor| listed.artifact_type.as_deref() == Some(BUNDLE);
        let (own, modules): (Vec<_>, Vec<_>) = index.manifests.iter().partition(is_bundle);
        let [own] = own[..] else {
            return Err(BundleError::other(INDEX_FILE, own.len().to_string(), "1 bundle"));
        };
        let manifest = read_manifest(&layout, own)?;
        check_type("the bundle's config", &manifest.config.media_type, PLAN)?;
        let [expected, layers @ ..] = &manifest.layers[..] else {
            return Err(BundleError::other("the bundle's manifest", "none", "layers"));
        };
        check_type("the bundle's first layer", &expected.media_type, EXPECTED)?;
        let plan = read_plan(&layout, &manifest.config)?;
        let expected = Expected::read(&read_blob(&layout, expected, JSON_SIZE)?)?;
        let items = check_layers(&layout, &plan, &expected, layers)?;
        let mut blobs: BTreeMap<Digest, u64> = manifest.blobs().map(|blob| (blob.digest, blob.size)).collect();
        blobs.insert(own.digest, own.size);
        for module in &modules {
            blobs.extend(check_module(&layout, module, layers)?);
        }
        let manifests = std::iter::once(own).chain(modules).cloned().collect();
        Ok(Self {
            manifest: own.digest,
            layout,
            plan,
            expected,
            items,
            blobs,
            manifests,
        })
    }

    /// Returns the digest of the bundle's manifest, which identifies the whole bundle.
    pub fn digest(&self) -> Digest {
        self.manifest
    }

    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the expected results of the plan.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Returns the modules, inputs and outputs in the bundle, in this order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Returns all blobs, with their sizes.
    pub fn blobs(&self) -> &BTreeMap<Digest, u64> {
        &self.blobs
    }

    /// Reads every blob and checks its digest. Calls `on` with the number of bytes read.
    pub fn verify(&self, on: &mut dyn FnMut(u64)) -> Result<(), BundleError> {
        for digest in self.blobs.keys() {
            let mut hasher = Hasher::default();
            self.stream(digest, &mut |piece| {
                hasher.update(piece);
                on(piece.len() as u64);
                Ok(())
            })?;
            check_digest(digest, hasher.finish())?;
        }
        Ok(())
    }

    /// Imports the modules, the inputs and any outputs into `store`, after checking their digests. Does not import records: the claims
    /// of a bundle must not answer runs.
    pub fn take(&self, store: &Store, on: &mut dyn FnMut(u64)) -> Result<(), BundleError> {
        for item in &self.items {
            let digest = &item.artifact.digest;
            let mut writer = store.writer();
            self.stream(digest, &mut |piece| {
                on(piece.len() as u64);
                let written = writer.write_at(writer.len(), piece);
                written.map_err(BundleError::file("write into", store.directory()))
            })?;
            match writer.finish_as(digest)? {
                Ok(()) => store.note_artifact(&item.artifact)?,
                Err(found) => check_digest(digest, found)?,
            }
        }
        Ok(())
    }

    /// Writes the same bundle to `path`: as a tar archive if `path` ends in `.tar`, otherwise as a directory.
    pub fn write(&self, path: &Path) -> Result<(), BundleError> {
        write(path, &self.layout.files(), &|name| self.layout.reader(name))
    }

    /// Returns the manifests: the bundle's own, then those of its modules.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Returns `index.json`.
    pub fn index(&self) -> Result<Bytes, BundleError> {
        self.layout.read(INDEX_FILE, MANIFEST_SIZE)
    }

    /// Returns the bytes of a manifest.
    pub fn manifest(&self, of: &Descriptor) -> Result<Bytes, BundleError> {
        read_blob(&self.layout, of, MANIFEST_SIZE)
    }

    /// Opens a blob for reading.
    pub fn reader(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, BundleError> {
        self.layout.reader(&blob_name(digest))
    }

    fn stream(&self, digest: &Digest, each: &mut dyn FnMut(&[u8]) -> Result<(), BundleError>) -> Result<(), BundleError> {
        let name = blob_name(digest);
        let (mut reader, mut left) = (
            self.layout.reader(&name)?,
            self.blobs.get(digest).copied().unwrap_or_default(),
        );
        let mut piece = vec![0; PIECE];
        while left > 0 {
            match reader.read(&mut piece).map_err(BundleError::file("read", &name))? {
                0 => return Err(short(&name, left)),
                count => {
                    each(&piece[..count])?;
                    left = left.saturating_sub(count as u64);
                }
            }
        }
        Ok(())
    }
}

fn check_version(layout: &Layout) -> Result<(), BundleError> {
    let version: LayoutVersion = parse(LAYOUT_FILE, &layout.read(LAYOUT_FILE, 4 << 10)?)?;
    match version.image_layout_version.as_str() {
        "1.0.0" => Ok(()),
        other => Err(BundleError::other(LAYOUT_FILE, format!("version {other}"), "version 1.0.0")),
    }
}

fn read_plan(layout: &Layout, config: &Descriptor) -> Result<Plan, BundleError> {
    let plan = Plan::read(&read_blob(layout, config, JSON_SIZE)?)?;
    match plan.digest()? {
        digest if digest == config.digest => Ok(plan),
        _ => Err(BundleError::other("the bundle's plan", "other JSON", "canonical JSON")),
    }
}

/// Checks that `layers` are exactly what the plan needs, plus any outputs.
fn check_layers(layout: &Layout, plan: &Plan, expected: &Expected, layers: &[Descriptor]) -> Result<Vec<Item>, BundleError> {
    let mut listed: BTreeMap<Digest, &Descriptor> = BTreeMap::new();
    for layer in layers {
        if listed.insert(layer.digest, layer).is_some() {
            let name = format!("layer {}", layer.digest);
            return Err(BundleError::Twice { name });
        }
        check_blob(layout, layer)?;
    }
    let lacks = |item: &Item| BundleError::Lacks {
        digest: item.artifact.digest,
        what: format!("{} `{}`", item.role.word(), item.name),
    };
    let mut read = |item: &Item| {
        let layer = listed.get(&item.artifact.digest).ok_or_else(|| lacks(item))?;
        read_blob(layout, layer, READ_SIZE)
    };
    let reach = reach(plan, expected, &|digest| listed.contains_key(digest), &mut read)?;
    let needed = reach.digests();
    if let Some(digest) = listed.keys().find(|digest| !needed.contains(digest)) {
        return Err(BundleError::Needless { digest: *digest });
    }
    let mut items = Vec::new();
    for (digest, mut item) in reach.items {
        let layer = listed.get(&digest).ok_or_else(|| lacks(&item))?;
        check_type(
            &format!("layer {digest}"),
            &layer.media_type,
            layer_type(&item.artifact.media_type),
        )?;
        match item.role {
            BlobRole::Module => item.artifact.size = layer.size,
            BlobRole::Input | BlobRole::Output => check_size(&digest, item.artifact.size, layer.size)?,
        }
        items.push(item);
    }
    items.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    Ok(items)
}

/// Checks the manifest of a module and returns its blobs.
fn check_module(layout: &Layout, listed: &Descriptor, layers: &[Descriptor]) -> Result<BTreeSet<(Digest, u64)>, BundleError> {
    let manifest = read_manifest(layout, listed)?;
    let what = format!("manifest {}", listed.digest);
    check_type(&format!("the config of {what}"), &manifest.config.media_type, WASM_CONFIG)?;
    let is_ours = |layer: &Descriptor| layer.media_type == MediaType::MODULE && layers.contains(layer);
    let [layer] = &manifest.layers[..] else {
        return Err(BundleError::other(what, "another number of layers", "one module"));
    };
    if !is_ours(layer) {
        return Err(BundleError::other(what, "another blob", "a module of the bundle"));
    }
    check_blob(layout, &manifest.config)?;
    let blobs = manifest.blobs().chain(std::iter::once(listed));
    Ok(blobs.map(|blob| (blob.digest, blob.size)).collect())
}

fn read_manifest(layout: &Layout, listed: &Descriptor) -> Result<Manifest, BundleError> {
    check_type(&format!("{} in {INDEX_FILE}", listed.digest), &listed.media_type, MANIFEST)?;
    parse(
        &format!("manifest {}", listed.digest),
        &read_blob(layout, listed, MANIFEST_SIZE)?,
    )
}

/// Checks that a blob exists and has the declared size.
fn check_blob(layout: &Layout, listed: &Descriptor) -> Result<(), BundleError> {
    let found = layout.size(&blob_name(&listed.digest)).ok_or_else(|| BundleError::Lacks {
        digest: listed.digest,
        what: format!("listed as {}", listed.media_type),
    })?;
    check_size(&listed.digest, listed.size, found)
}

/// Reads a small blob and checks its digest.
fn read_blob(layout: &Layout, listed: &Descriptor, most: u64) -> Result<Bytes, BundleError> {
    check_blob(layout, listed)?;
    let bytes = layout.read(&blob_name(&listed.digest), most)?;
    check_digest(&listed.digest, Digest::of(&bytes))?;
    Ok(bytes)
}

fn check_size(digest: &Digest, said: u64, found: u64) -> Result<(), BundleError> {
    match said == found {
        true => Ok(()),
        false => Err(BundleError::Size {
            digest: *digest,
            said,
            found,
        }),
    }
}

/// Checks that content with the digest `found` is the blob `digest`.
pub fn check_digest(digest: &Digest, found: Digest) -> Result<(), BundleError> {
    match found == *digest {
        true => Ok(()),
        false => Err(BundleError::Changed { digest: *digest, found }),
    }
}

fn check_type(what: &str, found: &str, wanted: &str) -> Result<(), BundleError> {
    match found == wanted {
        true => Ok(()),
        false => Err(BundleError::other(what, format!("`{found}`"), format!("`{wanted}`"))),
    }
}

/// Parses JSON. An error names it as `what`.
pub fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, BundleError> {
    serde_json::from_slice(json).map_err(BundleError::json(what))
}
