use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::base::{self, BaseError};
use super::cargo::{self, CargoError, Made, Metadata};
use super::{BuildProgress, TARGET, Toolchain, flags};

mod sources {
    //! `WORKSPACE`: the manifest of a workspace that holds only the SDK. `FILES`: its other files, by path, with a `Cargo.lock`.
    //! From kernel/build.rs.
    include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
}

/// The crates that every cell can name.
const CRATES: [&str; 3] = ["lockstep", "serde", "serde_json"];

/// The time that sources are given (2006-07-24, as cargo gives those of packages): cargo goes by it, and equal sources must be equally old for two
/// sets of dependencies to share what is compiled of them.
const WRITTEN: u64 = 1_153_704_088;

/// The crates that cells are compiled against: the SDK, whose sources are part of this program, and what `:dep` adds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prelude {
    dependencies: BTreeMap<String, String>,
}

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
    /// The module of all of them, that cells are based on.
    pub base: PathBuf,
}

/// Why a prelude can't be compiled.
#[derive(Debug, thiserror::Error)]
pub enum PreludeError {
    /// Cargo failed: no network, a crate or version that is not there, or one that does not compile for the target.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// The crates can't be made one module.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A file of the cache can't be written or read.
    #[error("can't use {} in the cache: {source}\nhint: run `lockstep doctor`", path.display())]
    Cache {
        /// the file or directory
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// Cargo did not say where a crate is.
    #[error("cargo did not compile the crate `{name}` of the prelude\nhint: has it a library?")]
    NoCrate {
        /// the crate
        name: String,
    },
}

impl Default for Prelude {
    fn default() -> Self {
        Self::new()
    }
}

impl Prelude {
    /// The SDK, serde and serde_json.
    pub fn new() -> Self {
        let inherited = |name: &str| (name.to_owned(), "{ workspace = true }".to_owned());
        Self {
            dependencies: CRATES.into_iter().map(inherited).collect(),
        }
    }

    /// Adds a dependency as it stands in a manifest: `rand`, `"0.10"` or `{ version = "0.10", features = ["std"] }`. A second one
    /// of the same name takes the place of the first.
    pub fn with(mut self, name: impl Into<String>, requirement: impl Into<String>) -> Self {
        self.dependencies.insert(name.into(), requirement.into());
        self
    }

    /// The compiled prelude, if it was compiled before. Reads one small file.
    pub fn ready(&self, toolchain: &Toolchain, cache: &Path) -> Option<PreludeReady> {
        Place::new(self, toolchain, cache).ready()
    }

    /// The compiled prelude; compiled now if need be (about a minute for the SDK, the first time), once for all processes that use `cache`.
    pub fn ensure(
        &self,
        toolchain: &Toolchain,
        cache: &Path,
        progress: &mut dyn FnMut(BuildProgress),
    ) -> Result<PreludeReady, PreludeError> {
        let place = Place::new(self, toolchain, cache);
        if let Some(ready) = place.ready() {
            return Ok(ready);
        }
        let _locked = place.lock()?;
        if let Some(ready) = place.ready() {
            return Ok(ready);
        }
        place.write_sources(&self.manifest())?;
        let ready = place.build(toolchain, progress)?;
        place.keep(&ready)?;
        Ok(ready)
    }

    fn manifest(&self) -> String {
        let dependencies: String = self
            .dependencies
            .iter()
            .map(|(name, requirement)| format!("{name} = {requirement}\n"))
            .collect();
        let package = "[package]\nname = \"prelude\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n";
        format!(
            "{package}[dependencies]\n{dependencies}{}{}",
            flags::PRELUDE_PROFILE,
            sources::WORKSPACE
        )
    }
}

/// Where a prelude lies. Preludes that differ only in their dependencies share a `target` directory, and with it the compiled SDK.
struct Place {
    /// For everything made by this program with this toolchain.
    base: PathBuf,
    /// For this set of dependencies: a workspace of its own.
    set: PathBuf,
    digest: Digest,
}

impl Place {
    fn new(prelude: &Prelude, toolchain: &Toolchain, cache: &Path) -> Self {
        let mut hasher = Hasher::default();
        let mut take = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        take(&toolchain.identity().to_string());
        flags::crate_flags().iter().for_each(|flag| take(flag));
        flags::ENVIRONMENT.iter().for_each(|(name, value)| {
            take(name);
            take(value);
        });
        sources::FILES.iter().for_each(|(path, text)| {
            take(path);
            take(text);
        });
        take(flags::PRELUDE_PROFILE);
        take(sources::WORKSPACE);
        let common = hasher.finish();
        let digest = Digest::of(format!(
            "{common}\n{}\n{}\n{}",
            prelude.manifest(),
            base::SOURCE,
            base::MATH.join(" ")
        ));
        let base = cache.join("prelude").join(common.short());
        Self {
            set: base.join(digest.short()),
            base,
            digest,
        }
    }

    fn ready_file(&self) -> PathBuf {
        self.set.join("ready.json")
    }

    fn ready(&self) -> Option<PreludeReady> {
        let ready: PreludeReady = serde_json::from_slice(&fs::read(self.ready_file()).ok()?).ok()?;
        let is_whole = ready.externs.values().chain([&ready.base]).all(|path| path.is_file());
        is_whole.then_some(ready)
    }

    /// Holds other processes off until the file is dropped.
    fn lock(&self) -> Result<File, PreludeError> {
        let path = self.base.join("lock");
        let locked = fs::create_dir_all(&self.base).and_then(|()| {
            let file = File::create(&path)?;
            file.lock()?;
            Ok(file)
        });
        locked.map_err(|source| PreludeError::Cache { path, source })
    }

    fn write_sources(&self, manifest: &str) -> Result<(), PreludeError> {
        let files = [("Cargo.toml", manifest), ("lib.rs", "")];
        for (name, text) in sources::FILES.iter().copied().chain(files) {
            let path = self.set.join(name);
            write(&path, text).map_err(|source| PreludeError::Cache { path, source })?;
        }
        Ok(())
    }

    fn build(&self, toolchain: &Toolchain, progress: &mut dyn FnMut(BuildProgress)) -> Result<PreludeReady, PreludeError> {
        let target = self.base.join("target");
        let mut metadata = cargo::metadata(toolchain, &self.set, &[])?;
        metadata.target_directory.clone_from(&target);
        let mut command = toolchain.cargo_command();
        command
            .args(["build", "--release", "--lib", "--target", TARGET, "--target-dir"])
            .arg(&target);
        command
            .arg("--config")
            .arg(cargo::rustflags(toolchain, &metadata))
            .current_dir(&self.set);
        let made = cargo::build(toolchain, &mut command, progress)?;

        let lock = self.set.join("Cargo.lock");
        let versions = fs::read(&lock).map_err(|source| PreludeError::Cache { path: lock, source })?;
        let ready = PreludeReady {
            externs: externs(&metadata, &made)?,
            search: search(&made),
            identity: Digest::of(format!("{}\n{}", self.digest, Digest::of(versions))),
            base: self.set.join(base::FILE),
        };
        base::build(toolchain, &ready, &self.set)?;
        Ok(ready)
    }

    fn keep(&self, ready: &PreludeReady) -> Result<(), PreludeError> {
        let path = self.ready_file();
        let kept = serde_json::to_vec_pretty(ready).map_err(io::Error::from).and_then(|json| {
            let mut file = tempfile::NamedTempFile::new_in(&self.set)?;
            io::Write::write_all(&mut file, &json)?;
            file.persist(&path)?;
            Ok(())
        });
        kept.map_err(|source| PreludeError::Cache { path, source })
    }
}

impl PreludeReady {
    /// The arguments of rustc that let a cell name the crates.
    pub(super) fn arguments(&self) -> Vec<String> {
        let externs = self
            .externs
            .iter()
            .map(|(name, path)| format!("--extern={name}={}", path.display()));
        let search = self.search.iter().map(|dir| format!("-L{dir}"));
        externs.chain(search).collect()
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text)?;
    File::options()
        .write(true)
        .open(path)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(WRITTEN))
}

/// The compiled form of each crate that the prelude's own package depends on: a library for the target, or a proc macro of the
/// host. (Proc macros may use the same libraries, compiled for the host.)
fn externs(metadata: &Metadata, made: &Made) -> Result<BTreeMap<String, PathBuf>, PreludeError> {
    let root = metadata
        .resolve
        .nodes
        .iter()
        .find(|node| Some(&node.id) == metadata.resolve.root.as_ref());
    let edges = root.into_iter().flat_map(|node| &node.deps);
    let for_target = |file: &Path| file.components().any(|part| part.as_os_str() == TARGET);
    let compiled = |package: &str| {
        let of_package = made.artifacts.iter().filter(|artifact| artifact.package_id == package);
        let mut files = of_package.flat_map(|artifact| &artifact.filenames);
        files.find(|file| match file.extension().and_then(|extension| extension.to_str()) {
            Some("rlib") => for_target(file),
            Some("so" | "dylib" | "dll") => true,
            _ => false,
        })
    };
    let pair = |edge: &cargo::Edge| {
        let path = compiled(&edge.pkg).ok_or_else(|| PreludeError::NoCrate { name: edge.name.clone() })?;
        Ok((edge.name.clone(), path.clone()))
    };
    edges.map(pair).collect()
}

/// The directories of all crates, for the target and for the host (proc macros), and those of native libraries.
fn search(made: &Made) -> BTreeSet<String> {
    let files = made.artifacts.iter().flat_map(|artifact| &artifact.filenames);
    let dirs = files
        .filter(|file| file.extension().is_some_and(|extension| extension != "rmeta"))
        .filter_map(|file| file.parent());
    let dirs = dirs.filter(|dir| dir.ends_with("deps"));
    dirs.map(|dir| format!("dependency={}", dir.display()))
        .chain(made.native.iter().cloned())
        .collect()
}
