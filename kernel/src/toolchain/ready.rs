use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::dependency::Requirement;
use super::lock::{Lock, Package};
use super::prelude::CRATES;

/// A prelude that is compiled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreludeReady {
    /// The crates that cells can name, with their compiled form.
    pub externs: BTreeMap<String, PathBuf>,
    /// Where rustc looks for what those need, as `-L` takes it.
    pub search: BTreeSet<String>,
    /// The digest of all that these crates were made from: sources, versions, flags, toolchain.
    pub identity: Digest,
    /// The module that cells are based on.
    pub base: PathBuf,
    /// The object of the small crates that are not in the base; what a cell uses of it becomes part of the cell's module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<PathBuf>,
    /// All crates that are compiled.
    pub libraries: Vec<Library>,
    /// All packages that were resolved, whether or not they are needed on the target.
    pub packages: Vec<Package>,
    /// The versions of what was asked for.
    pub lock: Lock,
}

/// A compiled crate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Whether it comes from a registry.
    pub registry: bool,
    /// The features that are on; `default` is among them if there are no others to leave off.
    pub features: BTreeSet<String>,
    /// What source calls it.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl PreludeReady {
    /// Where it lies.
    pub fn directory(&self) -> &Path {
        self.base.parent().unwrap_or(&self.base)
    }

    /// The version of what satisfies a dependency.
    pub fn version(&self, name: &str) -> Option<&str> {
        let requirement = self.lock.dependencies.get(name)?;
        self.library(name, requirement).map(|library| library.version.as_str())
    }

    /// Where rustc looks for crates that are not named.
    pub(super) fn search(&self) -> impl Iterator<Item = String> {
        self.search.iter().map(|dir| format!("-L{dir}"))
    }

    /// The arguments of rustc that let a cell name the crates.
    pub(super) fn arguments(&self) -> Vec<String> {
        let externs = self
            .externs
            .iter()
            .map(|(name, path)| format!("--extern={name}={}", path.display()));
        externs.chain(self.search()).collect()
    }

    /// Whether all is there.
    pub(super) fn is_whole(&self) -> bool {
        self.externs.values().chain([&self.base]).chain(&self.extension).all(|path| path.is_file())
    }

    fn library(&self, name: &str, requirement: &Requirement) -> Option<&Library> {
        let package = requirement.package(name);
        let fits = |library: &&Library| library.package == package && requirement.allows(&library.version);
        self.libraries.iter().rfind(fits)
    }

    /// The same crates for cells that name what the lock asks for; `None` if that is not among them, or not with the same features.
    pub(super) fn naming(&self, lock: Lock) -> Option<Self> {
        let mut named = self.clone();
        named.externs.retain(|name, _| CRATES.contains(&name.as_str()));
        for (name, requirement) in &lock.dependencies {
            let library = self
                .library(name, requirement)
                .filter(|library| library.answers(requirement))?;
            let called = match &requirement.package {
                Some(_) => name.replace('-', "_"),
                None => library.name.clone(),
            };
            named.externs.insert(called, library.path.clone());
        }
        named.lock = lock;
        let mut hasher = Hasher::default();
        for text in std::iter::once(&self.identity.to_string()).chain(named.externs.keys()) {
            hasher.update(format!("{}:{text}", text.len()).as_bytes());
        }
        named.identity = hasher.finish();
        Some(named)
    }
}

impl Library {
    /// Whether it is code of the target, rather than a proc macro.
    pub(super) fn is_linked(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rlib")
    }

    fn answers(&self, requirement: &Requirement) -> bool {
        let by_default = requirement.default_features.unwrap_or(true);
        let is_on = |feature: &str| self.features.contains(feature);
        self.registry
            && requirement.path.is_none()
            && requirement.git.is_none()
            && requirement.features.iter().all(|feature| is_on(feature))
            && (!by_default || is_on("default"))
    }
}
