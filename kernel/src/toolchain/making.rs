//! The steps of building a prelude: resolving versions, fetching sources, compiling crates.
//!
//! Fetching uses the network and executes no third-party code. Compiling executes build scripts and proc macros without a
//! network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;

use super::cargo::{self, CargoError, Made, Metadata};
use super::confine::Confinement;
use super::error::PreludeError;
use super::ready::Library;
use super::shelf::WorkDir;
use super::watch::{Doing, Watch};
use super::{TARGET, Toolchain, flags};

/// Resolves versions, if possible without the network.
pub fn resolve(toolchain: &Toolchain, dir: &Path, watch: &mut Watch<'_>) -> Result<Metadata, CargoError> {
    match cargo::metadata(toolchain, dir, &["--offline".to_owned()], watch.interrupt) {
        Err(CargoError::Failed { .. }) => {
            (watch.tell)(Doing::Fetching);
            cargo::metadata(toolchain, dir, &[], watch.interrupt)
        }
        done => done,
    }
}

pub fn fetch(toolchain: &Toolchain, dir: &Path, watch: &mut Watch<'_>) -> Result<(), CargoError> {
    match cargo::fetch(toolchain, dir, true, &[], watch.interrupt) {
        Err(CargoError::Failed { .. }) => {
            (watch.tell)(Doing::Fetching);
            cargo::fetch(toolchain, dir, false, &[], watch.interrupt)
        }
        done => done,
    }
}

/// Compiles all crates, confined because build scripts and proc macros are executed.
pub fn compile(
    toolchain: &Toolchain,
    work: &WorkDir,
    metadata: &Metadata,
    watch: &mut Watch<'_>,
) -> Result<Made, PreludeError> {
    let (target, scratch) = (work.dir().join("target"), work.dir().join("scratch"));
    for dir in [&target, &scratch] {
        fs::create_dir_all(dir).map_err(|source| PreludeError::Cache {
            path: dir.clone(),
            source,
        })?;
    }
    let mut command = toolchain.bare_cargo_command(&scratch);
    command
        .args(["build", "--lib", "--frozen", "--target", TARGET, "--profile", flags::PROFILE])
        .arg("--target-dir")
        .arg(&target)
        .args(["--config", &cargo::rustflags(), "--message-format=json"])
        .current_dir(work.dir());
    cargo::remap(toolchain, metadata, &target, &mut command)?;
    let confinement = confinement(toolchain, work.dir(), metadata)
        .writing(&target)
        .writing(&scratch);
    let mut progress = |at| (watch.tell)(Doing::Compiling(at));
    let made = cargo::build(toolchain, &mut command, Some(&confinement), watch.interrupt, &mut progress);
    work.remove("scratch")?;
    Ok(made?)
}

/// Returns the confinement for a cargo build in `dir`: it may read sources and settings, but no credentials.
pub fn confinement(toolchain: &Toolchain, dir: &Path, metadata: &Metadata) -> Confinement {
    let mut confinement = toolchain.confinement().reading(dir);
    let fetched = metadata.packages.iter().filter(|package| package.source.is_some());
    let places: BTreeSet<&Path> = fetched
        .filter_map(|package| package.manifest_path.parent()?.parent())
        .collect();
    for place in places {
        confinement = confinement.reading(place);
    }
    let home = toolchain.cargo_home();
    let settings = dir.ancestors().map(|dir| dir.join(".cargo"));
    for dir in settings.chain(home.clone()) {
        confinement = confinement.reading(dir.join("config.toml")).reading(dir.join("config"));
    }
    match home {
        Some(home) => confinement.reading(home.join("registry")).reading(home.join("git")),
        None => confinement,
    }
}

/// Returns the compiled file of a package: a library for the target, or a native proc macro. (Libraries may also be compiled
/// natively, for use by proc macros.)
fn compiled<'a>(made: &'a Made, package: &str) -> Option<&'a PathBuf> {
    let for_target = |file: &Path| file.components().any(|part| part.as_os_str() == TARGET);
    let of_package = made.artifacts.iter().filter(|artifact| artifact.package_id == package);
    let mut files = of_package.flat_map(|artifact| &artifact.filenames);
    files.find(|file| match file.extension().and_then(|extension| extension.to_str()) {
        Some("rlib") => for_target(file),
        Some("so" | "dylib" | "dll") => true,
        _ => false,
    })
}

/// Returns the crates that the prelude's package depends on directly.
pub fn externs(metadata: &Metadata, made: &Made) -> Result<BTreeMap<String, PathBuf>, PreludeError> {
    let root = metadata
        .resolve
        .nodes
        .iter()
        .find(|node| Some(&node.id) == metadata.resolve.root.as_ref());
    let edges = root.into_iter().flat_map(|node| &node.deps);
    let pair = |edge: &cargo::Edge| {
        let path = compiled(made, &edge.pkg).ok_or_else(|| PreludeError::NoCrate { name: edge.name.clone() })?;
        Ok((edge.name.clone(), path.clone()))
    };
    edges.map(pair).collect()
}

/// Returns all compiled crates, in a reproducible order.
pub fn libraries(metadata: &Metadata, made: &Made) -> Vec<Library> {
    let mut libraries = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| Some(&package.id) != metadata.resolve.root.as_ref())
    {
        let node = metadata.resolve.nodes.iter().find(|node| node.id == package.id);
        let library = package.targets.iter().find(|target| target.is_library());
        let (Some(node), Some(target), Some(path)) = (node, library, compiled(made, &package.id)) else {
            continue;
        };
        let mut features = node.features.clone();
        if !package.features.contains_key("default") {
            features.insert("default".to_owned());
        }
        libraries.push(Library {
            package: package.name.clone(),
            version: package.version.clone(),
            registry: package
                .source
                .as_ref()
                .is_some_and(|source| source.starts_with("registry+") || source.starts_with("sparse+")),
            features,
            name: target.name.replace('-', "_"),
            path: path.clone(),
        });
    }
    let version = |library: &Library| Version::parse(&library.version).ok();
    libraries.sort_by(|a, b| (&a.package, version(a)).cmp(&(&b.package, version(b))));
    libraries
}

/// Returns the directories of all crates, for the target and native (proc macros), and those of native libraries.
pub fn search(made: &Made) -> BTreeSet<String> {
    let files = made.artifacts.iter().flat_map(|artifact| &artifact.filenames);
    let dirs = files
        .filter(|file| file.extension().is_some_and(|extension| extension != "rmeta"))
        .filter_map(|file| file.parent());
    let dirs = dirs.filter(|dir| dir.ends_with("deps"));
    dirs.map(|dir| format!("dependency={}", dir.display()))
        .chain(made.native.iter().cloned())
        .collect()
}
