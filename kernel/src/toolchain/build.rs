use std::io;
use std::path::{Path, PathBuf};

use super::cargo::{self, CargoError, Metadata, Package};
use super::confine::Confinement;
use super::{Doing, Prelude, PreludeError, TARGET, Toolchain, Watch, flags, making, sdk, shelf};
use crate::file::write_whole;

/// Options for building a crate.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The package of a workspace; defaults to the one in the directory.
    pub package: Option<String>,
    /// The cargo features to enable.
    pub features: Vec<String>,
    /// Do not access the network.
    pub offline: bool,
    /// Require that Cargo.lock is up to date.
    pub locked: bool,
    /// Build in this target directory, and confine build scripts and proc macros to it. By default, cargo's own target
    /// directory is used without confinement.
    pub confined_to: Option<PathBuf>,
}

/// The progress of a build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildProgress {
    /// The number of compiled crates.
    pub done: u32,
    /// The total number of crates, including those compiled before.
    pub total: u32,
    /// The crates being compiled: `serde_json, arrow_schema`.
    pub doing: String,
}

impl BuildProgress {
    /// Returns the progress, 0 to 100.
    pub fn percent(&self) -> u8 {
        let percent = u64::from(self.done) * 100 / u64::from(self.total.max(1));
        percent.min(100) as u8
    }

    /// Parses `    Building [=====>    ] 12/34: serde_json, arrow_schema`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (counts, doing) = match line
            .trim_start()
            .strip_prefix("Building [")?
            .split_once("] ")?
            .1
            .split_once(':')
        {
            Some((counts, doing)) => (counts, doing.trim()),
            None => return None,
        };
        let (done, total) = counts.split_once('/')?;
        Some(Self {
            done: done.trim().parse().ok()?,
            total: total.trim().parse().ok()?,
            doing: doing.to_owned(),
        })
    }
}

/// A built module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Built {
    /// The name of the crate or program.
    pub name: String,
    /// The file written by cargo.
    pub path: PathBuf,
    /// The module.
    pub wasm: Vec<u8>,
    /// Rendered warnings of rustc.
    pub warnings: Vec<String>,
}

/// An error building a crate.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The directory is not a crate.
    #[error("no Cargo.toml in {}\nhint: pass the directory of a crate: lockstep build DIR", dir.display())]
    NoCrate {
        /// the directory
        dir: PathBuf,
    },
    /// The directory is a workspace, or the requested package is not in it.
    #[error("no package selected in workspace {}\nhint: choose one: {}", dir.display(), packages.join(", "))]
    Which {
        /// the workspace
        dir: PathBuf,
        /// its packages
        packages: Vec<String>,
    },
    /// The crate has no target that can be built as a module.
    #[error("`{package}` has neither a library nor a program\nhint: add src/lib.rs with a #[step], or src/main.rs")]
    Nothing {
        /// the package
        package: String,
    },
    /// Cargo failed.
    #[error("{source}{hint}")]
    Cargo {
        /// the error
        source: CargoError,
        /// a hint, if there is one
        hint: String,
    },
    /// The prelude can't be compiled.
    #[error(transparent)]
    Prelude(#[from] PreludeError),
    /// The SDK can't be copied to the workspace.
    #[error("can't write {}: {source}\nhint: make the crate's directory writable; the build copies the SDK into it", path.display())]
    Sdk {
        /// the directory or file
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// A built module can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// the file
        path: PathBuf,
        /// why not
        source: io::Error,
    },
}

impl BuildError {
    /// Returns whether the build was interrupted.
    pub fn is_interrupt(&self) -> bool {
        matches!(
            self,
            Self::Cargo {
                source: CargoError::Interrupted,
                ..
            } | Self::Prelude(PreludeError::Interrupted)
        )
    }
}

impl From<CargoError> for BuildError {
    fn from(source: CargoError) -> Self {
        let text = source.to_string();
        let requirement = format!(
            "{} = {{ package = \"{}\", version = \"{}\" }}",
            sdk::NAME,
            sdk::PACKAGE,
            sdk::series()
        );
        let hint = if text.contains("`cargo add lockstep`") {
            format!("\nhint: add the SDK to the [dependencies] of Cargo.toml: {requirement}")
        } else if text.contains(&format!("`{}`", sdk::PACKAGE)) || text.contains(&format!("package `{}", sdk::PACKAGE)) {
            format!(
                "\nhint: this command includes {} {}; write {requirement}",
                sdk::PACKAGE,
                sdk::VERSION
            )
        } else {
            String::new()
        };
        Self::Cargo { source, hint }
    }
}

/// Builds the crate in `dir`: the library as one module of steps if the crate uses the SDK (or has no program), else each
/// program as a module.
///
/// The same sources give the same bytes in every directory. The crate needs no configuration, and its own profiles and native
/// builds are neither used nor invalidated: modules are written to `target/wasm32-wasip1/lockstep`. A crate that depends on the
/// SDK of the registry gets the SDK of this program ([`sdk`]). The prelude is compiled once per machine and copied.
pub fn build_module(
    toolchain: &Toolchain,
    dir: &Path,
    options: &BuildOptions,
    interrupt: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(BuildProgress),
) -> Result<Vec<Built>, BuildError> {
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoCrate { dir: dir.to_owned() });
    }
    let brought = bring_sdk(toolchain, dir, options.locked)?;
    let mut resolution = brought.clone();
    resolution.extend(options.locked.then(|| "--locked".to_owned()));
    // Try without the network first.
    let offline = [&resolution[..], &["--offline".to_owned()]].concat();
    let metadata = match cargo::metadata(toolchain, dir, &offline, interrupt) {
        Err(CargoError::Failed { .. }) if !options.offline => cargo::metadata(toolchain, dir, &resolution, interrupt)?,
        metadata => metadata?,
    };
    resolution.extend(options.offline.then(|| "--offline".to_owned()));
    let package = choose(&metadata, dir, options)?;

    let has = |kind: &str| package.targets.iter().any(|target| target.kind.iter().any(|k| k == kind));
    let has_library = has("lib") || has("cdylib") || has("rlib");
    let uses_sdk = package.dependencies.iter().any(|dependency| dependency.name == sdk::PACKAGE);
    let library = has_library && (uses_sdk || !has("bin"));
    if !library && !has("bin") {
        return Err(BuildError::Nothing {
            package: package.name.clone(),
        });
    }

    let confined = match &options.confined_to {
        Some(target) => Some(confined(toolchain, dir, target, &metadata, &brought, interrupt)?),
        None => None,
    };
    let mut command = match &options.confined_to {
        Some(target) => toolchain.bare_cargo_command(target),
        None => toolchain.cargo_command(),
    };
    let target_directory = options.confined_to.as_ref().unwrap_or(&metadata.target_directory);
    if uses_sdk {
        seed(toolchain, target_directory, interrupt, progress)?;
    }
    if library {
        command.args(["rustc", "--lib", "--crate-type=cdylib"]);
    } else {
        command.args(["build", "--bins"]);
    }
    command
        .args(["--target", TARGET, "--profile", flags::PROFILE, "--manifest-path"])
        .arg(&package.manifest_path)
        .args(flags::profile_arguments(&manifest(&metadata.workspace_root)?))
        .args(["--config", &cargo::rustflags()])
        .arg("--target-dir")
        .arg(target_directory)
        .args(resolution);
    command.args(confined.is_some().then_some("--frozen"));
    if !options.features.is_empty() {
        command.arg("--features").arg(options.features.join(","));
    }
    // Arguments after `--` are passed to rustc, only for the library.
    command.args(["--message-format=json"]);
    if library {
        command.arg("--").args(flags::STEP);
    }
    command.current_dir(dir);
    cargo::remap(toolchain, &metadata, target_directory, &mut command)?;

    let made = cargo::build(toolchain, &mut command, confined.as_ref(), interrupt, progress)?;
    let mut built = Vec::new();
    for artifact in made.artifacts.iter().filter(|artifact| artifact.package_id == package.id) {
        let is_module = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
        for path in artifact.filenames.iter().filter(is_module) {
            built.push(Built {
                name: artifact.target.name.clone(),
                path: path.clone(),
                wasm: std::fs::read(path).map_err(|source| BuildError::Read {
                    path: path.clone(),
                    source,
                })?,
                warnings: made.warnings.clone(),
            });
        }
    }
    Ok(built)
}

/// Reads the manifest of a workspace.
fn manifest(root: &Path) -> Result<toml::Value, BuildError> {
    let path = root.join("Cargo.toml");
    let read = std::fs::read_to_string(&path);
    let parsed = read.and_then(|text| {
        text.parse::<toml::Table>()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    });
    parsed
        .map(toml::Value::Table)
        .map_err(|source| BuildError::Read { path, source })
}

/// Copies the SDK of this program to the workspace of `dir`, if one of its packages takes the SDK from the registry. Returns
/// the arguments by which cargo uses the copy.
fn bring_sdk(toolchain: &Toolchain, dir: &Path, locked: bool) -> Result<Vec<String>, BuildError> {
    let workspace = cargo::manifests(toolchain, dir)?;
    let from_registry = |dependency: &cargo::Dependency| dependency.name == sdk::PACKAGE && dependency.path.is_none();
    if !workspace
        .packages
        .iter()
        .any(|package| package.dependencies.iter().any(from_registry))
    {
        return Ok(Vec::new());
    }
    let root = &workspace.workspace_root;
    let failed = |path: PathBuf| move |source| BuildError::Sdk { path, source };
    sdk::write(root).map_err(failed(root.join(sdk::DIRECTORY)))?;
    let lock = root.join("Cargo.lock");
    if !locked && !lock.exists() {
        write_whole(&lock, sdk::cargo_lock().as_bytes()).map_err(failed(lock.clone()))?;
    }
    Ok(vec!["--config".to_owned(), sdk::cargo_argument(root)])
}

/// Copies the compiled SDK and its dependencies into a target directory without any modules. Compiles them first, once per
/// machine.
fn seed(
    toolchain: &Toolchain,
    target_directory: &Path,
    interrupt: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(BuildProgress),
) -> Result<(), BuildError> {
    if target_directory.join(TARGET).join(flags::PROFILE).exists() {
        return Ok(());
    }
    let mut tell = |doing| {
        if let Doing::Compiling(at) = doing {
            progress(at);
        }
    };
    let mut watch = Watch {
        interrupt,
        tell: &mut tell,
    };
    let ready = Prelude::new().make(toolchain, &toolchain.locations().cache, &mut watch)?;
    let parts = [flags::PROFILE.into(), Path::new(TARGET).join(flags::PROFILE)];
    shelf::copy_parts(&ready.directory().join("target"), target_directory, &parts, interrupt)?;
    Ok(())
}

/// Fetches the dependencies and returns the confinement for building the crate in `target`.
fn confined(
    toolchain: &Toolchain,
    dir: &Path,
    target: &Path,
    metadata: &Metadata,
    brought: &[String],
    interrupt: &dyn Fn() -> bool,
) -> Result<Confinement, BuildError> {
    std::fs::create_dir_all(target).map_err(|source| BuildError::Read {
        path: target.to_owned(),
        source,
    })?;
    cargo::fetch(toolchain, dir, true, brought, interrupt).or_else(|error| match error {
        CargoError::Failed { .. } => cargo::fetch(toolchain, dir, false, brought, interrupt),
        error => Err(error),
    })?;
    let confinement = making::confinement(toolchain, &metadata.workspace_root, metadata).writing(target);
    let own = metadata.packages.iter().filter(|package| package.source.is_none());
    let places = own.filter_map(|package| package.manifest_path.parent());
    Ok(places.fold(confinement, |confinement, place| confinement.reading(place)))
}

fn choose<'a>(metadata: &'a Metadata, dir: &Path, options: &BuildOptions) -> Result<&'a Package, BuildError> {
    let members = || {
        metadata
            .packages
            .iter()
            .filter(|package| metadata.workspace_members.contains(&package.id))
    };
    let chosen = match &options.package {
        Some(name) => members().find(|package| package.name == *name),
        None => members().find(|package| Some(&package.id) == metadata.resolve.root.as_ref()),
    };
    chosen.ok_or_else(|| BuildError::Which {
        dir: dir.to_owned(),
        packages: members().map(|package| package.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_cargos_progress() {
        let line = "    Building [=======>                 ] 12/34: serde_json, arrow_schema(build)";
        let step = BuildProgress {
            done: 12,
            total: 34,
            doing: "serde_json, arrow_schema(build)".to_owned(),
        };
        assert_eq!(BuildProgress::parse(line), Some(step));
        assert_eq!(BuildProgress::parse("   Compiling serde v1.0.0"), None);
    }
}
