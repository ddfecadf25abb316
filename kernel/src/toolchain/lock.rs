//! The exact versions of dependencies, as recorded in a notebook and used as cargo's starting point.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use serde::{Deserialize, Serialize};

use super::dependency::Dependencies;
use crate::notebook::Notebook;

/// The resolved versions of a set of dependencies. With the same lockstep and compiler, equal locks give equal bases.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The requested dependencies.
    pub dependencies: Dependencies,
    /// The set that the crates were compiled in.
    pub set: Set,
    /// The packages of the dependencies, including transitive ones, sorted.
    pub packages: Vec<Package>,
    /// The base built from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
}

/// A set of crates that are compiled together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// The crates available in every notebook.
    Plain,
    /// The crates that `lockstep toolchain install --crates` compiles.
    Common,
    /// The dependencies of the notebook.
    Own,
}

/// A package of a lock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The source as in Cargo.lock, such as a repository with its commit; `None` for a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The SHA-256 of a registry's package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// The digest of a directory's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its dependencies: `name version (source)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
}

impl Lock {
    /// The media type of a lock.
    pub const MEDIA_TYPE: &str = "application/vnd.lockstep.dependencies+json";

    /// Returns the locks in a notebook, oldest first. Ignores malformed ones.
    pub fn of_notebook(notebook: &Notebook) -> Vec<Self> {
        let locks = notebook.data(Self::MEDIA_TYPE);
        locks.filter_map(|value| Self::deserialize(value).ok()).collect()
    }

    /// Returns the package that satisfies a dependency.
    pub fn package(&self, name: &str) -> Option<&Package> {
        let requirement = self.dependencies.get(name)?;
        let wanted = requirement.package(name);
        let fits = |package: &&Package| package.name == wanted && requirement.allows(&package.version);
        self.packages.iter().rfind(fits)
    }
}

/// Reads the packages of a `Cargo.lock`, sorted. Dependencies get full ids, so that packages can be moved to another lock.
pub fn read(cargo_lock: &str) -> Result<Vec<Package>, toml::de::Error> {
    let file: CargoLock = toml::from_str(cargo_lock)?;
    let full: BTreeMap<String, String> = {
        let mut full = BTreeMap::new();
        for package in &file.package {
            let id = id(package);
            full.insert(format!("{} {}", package.name, package.version), id.clone());
            // Cargo uses the bare name only if it is unambiguous.
            full.insert(package.name.clone(), id);
        }
        full
    };
    let named = |edge: &String| full.get(edge).unwrap_or(edge).clone();
    let mut packages = file.package;
    for package in &mut packages {
        package.dependencies = package.dependencies.iter().map(named).collect();
    }
    packages.sort();
    Ok(packages)
}

/// Returns a `Cargo.lock` with these packages. Cargo normalizes it.
pub fn write(packages: &[Package]) -> Result<String, toml::ser::Error> {
    let package = packages
        .iter()
        .map(|package| Package {
            digest: None,
            ..package.clone()
        })
        .collect();
    toml::to_string(&CargoLock { version: 4, package })
}

/// Returns the packages of `known`, replaced by compatible versions of `pinned`.
pub fn merge(known: &[Package], pinned: &[Package]) -> Vec<Package> {
    let place = |package: &Package| (package.name.clone(), compatible(&package.version));
    let taken: BTreeSet<_> = pinned.iter().map(place).collect();
    let kept = known.iter().filter(|package| !taken.contains(&place(package)));
    let mut merged: Vec<Package> = kept.chain(pinned).cloned().collect();
    merged.sort();
    merged
}

/// Returns the part that semver-compatible versions share. A program has only one of them.
fn compatible(version: &str) -> String {
    let mut parts = version.split('.');
    let parts = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    match parts {
        ["0", "0", patch] => format!("0.0.{patch}"),
        ["0", minor, _] => format!("0.{minor}"),
        [major, ..] => major.to_owned(),
    }
}

/// Returns the packages with these names and their transitive dependencies.
pub fn closure(packages: &[Package], names: &BTreeSet<&str>) -> Vec<Package> {
    let by_id: BTreeMap<String, &Package> = packages.iter().map(|package| (id(package), package)).collect();
    let mut next: Vec<String> = packages.iter().filter(|p| names.contains(p.name.as_str())).map(id).collect();
    let mut found = BTreeMap::new();
    while let Some((id, package)) = next.pop().and_then(|id| by_id.get_key_value(&id)) {
        if found.insert(id.clone(), (*package).clone()).is_none() {
            next.extend(package.dependencies.iter().cloned());
        }
    }
    found.into_values().collect()
}

fn id(package: &Package) -> String {
    match &package.source {
        Some(source) => format!("{} {} ({source})", package.name, package.version),
        None => format!("{} {}", package.name, package.version),
    }
}

#[derive(Serialize, Deserialize)]
struct CargoLock {
    version: u32,
    #[serde(default)]
    package: Vec<Package>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CARGO_LOCK: &str = r#"# by cargo
version = 4

[[package]]
name = "a"
version = "1.0.0"
source = "registry+https://example.org/index"
checksum = "00ff"
dependencies = [
 "b 2.0.0",
 "c",
]

[[package]]
name = "b"
version = "1.0.0"
source = "registry+https://example.org/index"
checksum = "01ff"

[[package]]
name = "b"
version = "2.0.0"
source = "git+https://example.org/b?rev=abc#abcdef"

[[package]]
name = "c"
version = "0.1.0"
"#;

    #[test]
    fn packages_can_be_moved_between_locks() {
        let packages = read(CARGO_LOCK).unwrap();
        let needs = ["b 2.0.0 (git+https://example.org/b?rev=abc#abcdef)", "c 0.1.0"];
        assert_eq!(packages[0].dependencies, needs);
        assert_eq!(read(&write(&packages).unwrap()).unwrap(), packages);
        let mut pinned = packages[1].clone();
        pinned.version = "1.4.0".to_owned();
        let versions = |packages: &[Package]| packages.iter().map(|package| package.version.clone()).collect::<Vec<_>>();
        assert_eq!(versions(&merge(&packages, &[pinned])), ["1.0.0", "1.4.0", "2.0.0", "0.1.0"]);
        let of_a: Vec<_> = closure(&packages, &BTreeSet::from(["a"])).iter().map(id).collect();
        assert_eq!(of_a, ["a 1.0.0 (registry+https://example.org/index)", needs[0], needs[1]]);
    }

    #[test]
    fn locks_are_read_from_a_notebook() {
        let lock = |version: &str| {
            let dependencies = serde_json::json!({ "b": version });
            serde_json::json!({ "dependencies": dependencies, "set": "own", "packages": [{ "name": "b", "version": "2.0.0" }] })
        };
        let cell = |value: serde_json::Value| {
            let data = serde_json::json!({ "text/plain": "b", Lock::MEDIA_TYPE: value });
            serde_json::json!({ "cell_type": "code", "outputs": [{ "output_type": "stream", "text": "x" }, { "output_type": "display_data", "data": data }] })
        };
        let cells = [
            cell(lock("1")),
            serde_json::json!({ "cell_type": "markdown" }),
            cell("?".into()),
            cell(lock("2")),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_json::json!({ "cells": cells, "nbformat": 4 }).to_string()).unwrap();
        let locks = Lock::of_notebook(&Notebook::read(file.path()).unwrap());
        assert_eq!(locks.len(), 2);
        assert_eq!(locks[1].package("b").unwrap().version, "2.0.0");
        assert_eq!(locks[0].package("b"), None);
        assert!(Lock::of_notebook(&Notebook::read(Path::new("/nowhere")).unwrap_or_default()).is_empty());
    }
}
