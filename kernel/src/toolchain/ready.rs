use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::dependency::Requirement;
use super::lock::{Lock, Package};
use super::sdk;

/// The crates that every cell can name.
pub(super) const CRATES: [&str; 3] = [sdk::NAME, "serde", "serde_json"];

/// A compiled prelude.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreludeReady {
    /// The crates that cells can name, with their compiled files.
    pub externs: BTreeMap<String, PathBuf>,
    /// The search paths for transitive dependencies, in the form of `-L`.
    pub search: BTreeSet<String>,
    /// The digest of everything that the crates were compiled from: sources, versions, flags, toolchain.
    pub identity: Digest,
    /// The base module of cells.
    pub base: PathBuf,
    /// The object file of small crates that are not in the base. The linker copies the parts that a cell uses into its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<PathBuf>,
    /// All compiled crates.
    pub libraries: Vec<Library>,
    /// All resolved packages, including those not needed on the target.
    pub packages: Vec<Package>,
    /// The lock of the requested dependencies.
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
    /// The enabled features; includes `default` if the crate defines no default features.
    pub features: BTreeSet<String>,
    /// The name in source.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl PreludeReady {
    /// Returns the prelude's directory.
    pub fn directory(&self) -> &Path {
        self.base.parent().unwrap_or(&self.base)
    }

    /// Returns the version of the crate that satisfies a dependency.
    pub fn version(&self, name: &str) -> Option<&str> {
        let requirement = self.lock.dependencies.get(name)?;
        self.library(name, requirement).map(|library| library.version.as_str())
    }

    /// Returns the libraries for the target, without proc macros.
    pub(super) fn linked(&self) -> impl Iterator<Item = &Library> {
        self.libraries.iter().filter(|library| library.is_linked())
    }

    /// Returns rustc's search path arguments.
    pub(super) fn search(&self) -> impl Iterator<Item = String> {
        self.search.iter().map(|dir| format!("-L{dir}"))
    }

    /// Returns the arguments of rustc that make the crates available to a cell.
    pub(super) fn arguments(&self) -> Vec<String> {
        let externs = self
            .externs
            .iter()
            .map(|(name, path)| format!("--extern={name}={}", path.display()));
        externs.chain(self.search()).collect()
    }

    /// Returns whether all files exist.
    pub(super) fn is_whole(&self) -> bool {
        self.externs
            .values()
            .chain([&self.base])
            .chain(&self.extension)
            .all(|path| path.is_file())
    }

    fn library(&self, name: &str, requirement: &Requirement) -> Option<&Library> {
        let package = requirement.package(name);
        let fits = |library: &&Library| library.package == package && requirement.allows(&library.version);
        self.libraries.iter().rfind(fits)
    }

    /// Returns the same prelude for cells with the dependencies of `lock`; `None` if it lacks one of them or one of their
    /// features.
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
    /// Returns whether it is a library for the target and not a proc macro.
    fn is_linked(&self) -> bool {
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
