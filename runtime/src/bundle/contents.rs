use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::Path;

use bytes::Bytes;

use super::BundleError;
use super::expected::Expected;
use super::oci::{
    BUNDLE, Descriptor, EXPECTED, INDEX_FILE, Index, LAYOUT, LAYOUT_FILE, MANIFEST, MANIFEST_SIZE, Manifest, PLAN, WASM_CONFIG,
    WasmConfig, blob_name, layer_type,
};
use super::reach::{BlobRole, Item, reach};
use super::read::JSON_SIZE;
use super::write::write;
use crate::digest::{Digest, canonical_json};
use crate::pipeline::{Executed, Plan};
use crate::run::Runtime;
use crate::step::MediaType;
use crate::store::Store;

/// The content of a bundle, before it is written.
pub struct Contents {
    store: Store,
    /// Blobs from the store, with their sizes.
    stored: BTreeMap<Digest, u64>,
    /// Files that the bundle adds, such as the plan and the manifests.
    own: BTreeMap<String, Bytes>,
    manifest: Digest,
}

impl Contents {
    /// Gathers everything that `plan` needs, and its results `executed`. Includes the outputs and logs of the tasks if `outputs` is
    /// true. Deterministic: the same plan and results give the same contents.
    pub fn gather(runtime: &Runtime, plan: &Plan, executed: &Executed, outputs: bool) -> Result<Self, BundleError> {
        let expected = Expected::of(runtime, executed)?;
        let mut read = |item: &Item| Ok(runtime.store.get(&item.artifact.digest)?);
        let reach = reach(plan, &expected, &|_| outputs, &mut read)?;
        let mut contents = Self {
            store: runtime.store.clone(),
            stored: BTreeMap::new(),
            own: BTreeMap::from([(LAYOUT_FILE.to_owned(), Bytes::from_static(LAYOUT))]),
            manifest: Digest::of([]),
        };
        let (plan, expected) = (plan.write()?, expected.write()?);
        check_size("the plan", &plan, JSON_SIZE)?;
        check_size("the list of expected results", &expected, JSON_SIZE)?;
        let config = contents.add(PLAN, plan);
        let mut layers = vec![contents.add(EXPECTED, expected)];
        let mut modules = BTreeSet::new();
        for (digest, item) in &reach.items {
            let size = runtime.store.get(digest)?.len() as u64;
            contents.stored.insert(*digest, size);
            layers.push(Descriptor::new(layer_type(&item.artifact.media_type), *digest, size));
            modules.extend((item.role == BlobRole::Module).then_some((*digest, size)));
        }
        let manifest = contents.add_manifest(&Manifest::new(Some(BUNDLE), config, layers))?;
        contents.manifest = manifest.digest;
        let mut manifests = vec![Descriptor {
            artifact_type: Some(BUNDLE.to_owned()),
            ..manifest
        }];
        for (digest, size) in modules {
            manifests.push(contents.add_module(digest, size)?);
        }
        let index = json(&Index::new(manifests))?;
        check_size("the bundle's index", &index, MANIFEST_SIZE)?;
        contents.own.insert(INDEX_FILE.to_owned(), index.into());
        Ok(contents)
    }

    /// Returns the digest of the bundle's manifest.
    pub fn digest(&self) -> Digest {
        self.manifest
    }

    /// Returns the total size in bytes.
    pub fn size(&self) -> u64 {
        self.stored.values().sum::<u64>() + self.own.values().map(|bytes| bytes.len() as u64).sum::<u64>()
    }

    /// Writes the bundle to `path`, atomically: as a tar archive if `path` ends in `.tar`, otherwise as a directory, which must not
    /// exist yet.
    pub fn write(&self, path: &Path) -> Result<(), BundleError> {
        let stored = self.stored.iter().map(|(digest, size)| (blob_name(digest), *size));
        let own = self.own.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64));
        let digests: BTreeMap<String, &Digest> = self.stored.keys().map(|digest| (blob_name(digest), digest)).collect();
        let open = |name: &str| -> Result<Box<dyn Read + Send>, BundleError> {
            let bytes = match digests.get(name) {
                Some(digest) => self.store.get(digest)?,
                None => self.own.get(name).cloned().unwrap_or_default(),
            };
            Ok(Box::new(Cursor::new(bytes)))
        };
        write(path, &stored.chain(own).collect(), &open)
    }

    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.own.insert(blob_name(&descriptor.digest), bytes.into());
        descriptor
    }

    fn add_manifest(&mut self, manifest: &Manifest) -> Result<Descriptor, BundleError> {
        let bytes = json(manifest)?;
        check_size("the bundle's manifest", &bytes, MANIFEST_SIZE)?;
        Ok(self.add(MANIFEST, bytes))
    }

    /// Adds a manifest that makes the module an artifact of its own.
    fn add_module(&mut self, digest: Digest, size: u64) -> Result<Descriptor, BundleError> {
        let config = self.add(WASM_CONFIG, json(&WasmConfig::of(digest))?);
        let layer = Descriptor::new(MediaType::MODULE, digest, size);
        self.add_manifest(&Manifest::new(None, config, vec![layer]))
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, BundleError> {
    canonical_json(value).map_err(BundleError::Encode)
}

fn check_size(what: &str, bytes: &[u8], most: u64) -> Result<(), BundleError> {
    let size = bytes.len() as u64;
    let what = what.to_owned();
    match size <= most {
        true => Ok(()),
        false => Err(BundleError::Large { what, size, most }),
    }
}
