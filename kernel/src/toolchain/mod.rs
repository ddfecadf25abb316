//! The Rust toolchain that compiles cells and step crates to WebAssembly modules: finds, installs and runs it.
//!
//! All compiler flags that affect a module's bytes are in the private module `flags`, so that the same source gives the same
//! bytes in a notebook, from the command line and in any directory.

mod analyzer;
mod base;
mod build;
mod cargo;
mod cell;
mod command;
mod confine;
mod dependency;
mod diagnostic;
mod doctor;
mod error;
mod flags;
mod link;
mod lock;
mod making;
mod prelude;
mod ready;
pub mod sdk;
mod shelf;
mod sources;
mod watch;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lockstep_runtime::digest::{Digest, Hasher};

pub use analyzer::RustAnalyzer;
pub use base::BaseError;
pub use build::{BuildError, BuildOptions, BuildProgress, Built, build_module};
pub use cargo::CargoError;
pub use cell::{CELL_FILE, CompileError, Compiled, compile_cell, compile_key};
pub use confine::Confinement;
pub use dependency::{Dependencies, Dependency, DependencyError, Requirement};
pub use diagnostic::{Applicability, Code, Diagnostic, Expansion, Level, Line, Span};
pub use doctor::{Check, CheckState, doctor};
pub use error::PreludeError;
pub use link::{Base, LinkError};
pub use lock::{Lock, Package, Set};
pub use prelude::Prelude;
pub use ready::{Library, PreludeReady};
pub use sources::SourcesError;
pub use watch::{Doing, Watch};

/// The target that modules are compiled for.
pub const TARGET: &str = "wasm32-wasip1";

/// The script that `lockstep toolchain install` runs; it can also be used directly.
pub const SCRIPT: &str = include_str!("../../../deploy/toolchain.sh");

/// Debian's rustc, as used by the script.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The cache directory and the environment, as passed in by the caller.
#[derive(Clone, Debug)]
pub struct Locations {
    /// The cache directory, such as `~/.cache/lockstep`; safe to delete.
    pub cache: PathBuf,
    /// The whole environment of started programs (`PATH`, `HOME`, `CARGO_HOME`, proxies).
    pub environment: BTreeMap<OsString, OsString>,
    /// Use the toolchain from Debian's packages instead of rustup's.
    pub debian: bool,
}

impl Locations {
    /// Returns a command with exactly this environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// Runs a program. Returns its output as text; `None` if it fails.
    fn ask(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
        let output = self.command(self.which(program.as_ref())?).args(args).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns the program with this name on `PATH`, or `name` itself if it is a path. (Not every platform makes [`Command`]
    /// search the `PATH` of the command's own environment.)
    fn which(&self, name: &OsStr) -> Option<PathBuf> {
        let path = Path::new(name);
        if path.components().count() > 1 {
            return path.is_file().then(|| path.to_owned());
        }
        let search = self.environment.get(OsStr::new("PATH"))?;
        std::env::split_paths(search)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    }
}

/// A Rust compiler for [`TARGET`], with its cargo.
#[derive(Clone, Debug)]
pub struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    sysroot: PathBuf,
    version: String,
    identity: Digest,
    locations: Locations,
}

/// An error finding or installing a toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// Neither the rustc on `PATH` nor the cache has the target.
    #[error("no Rust toolchain for {TARGET}\nhint: run `lockstep toolchain install`, or `rustup target add {TARGET}`")]
    Missing,
    /// A rustc was found, but no cargo.
    #[error("no cargo next to {} or on PATH\nhint: install cargo", rustc.display())]
    NoCargo {
        /// the rustc
        rustc: PathBuf,
    },
    /// The rustc is too old for the SDK.
    #[error("{} is version {found}, but lockstep requires {wanted} or newer\nhint: run `rustup update stable`", rustc.display())]
    TooOld {
        /// the rustc
        rustc: PathBuf,
        /// its version
        found: String,
        /// the minimum version
        wanted: &'static str,
    },
    /// A file or directory of the toolchain can't be read.
    #[error("can't read {}: {source}\nhint: run `lockstep toolchain install`", path.display())]
    Read {
        /// the file or directory
        path: PathBuf,
        /// why not
        source: std::io::Error,
    },
    /// The install script can't be started.
    #[error("can't run the install script with bash: {source}\nhint: install bash, or run `rustup target add {TARGET}`")]
    Bash {
        /// why not
        source: std::io::Error,
    },
    /// The install script failed.
    #[error("failed to install the toolchain\n{output}")]
    Install {
        /// its output
        output: String,
    },
}

impl Toolchain {
    /// Finds a rustc with the target: on `PATH` (which may be rustup's), else the one that the install script created. Takes as
    /// long as three starts of rustc, and changes nothing.
    pub fn find(locations: &Locations) -> Result<Self, ToolchainError> {
        let on_path = || Self::on_path(locations);
        let (rustc, sysroot) = (!locations.debian)
            .then(on_path)
            .flatten()
            .or_else(|| debian(locations))
            .ok_or(ToolchainError::Missing)?;
        let version = locations.ask(&rustc, &["-vV"]).ok_or(ToolchainError::Missing)?;
        check_version(&rustc, &version)?;
        let beside = rustc.with_file_name("cargo");
        let cargo = if beside.is_file() {
            beside
        } else {
            locations
                .which(OsStr::new("cargo"))
                .ok_or_else(|| ToolchainError::NoCargo { rustc: rustc.clone() })?
        };
        Ok(Self {
            identity: identity(&version, &libraries(&sysroot))?,
            rustc,
            cargo,
            sysroot,
            version,
            locations: locations.clone(),
        })
    }

    fn on_path(locations: &Locations) -> Option<(PathBuf, PathBuf)> {
        let sysroot = PathBuf::from(locations.ask("rustc", &["--print", "sysroot"])?.trim_end());
        // Avoid rustup's proxy, which adds about 20 ms to each start.
        let rustc = sysroot.join("bin/rustc");
        (has_std(&sysroot) && rustc.is_file()).then_some((rustc, sysroot))
    }

    /// Runs the install script, and calls `progress` with each line of its output. Takes up to some minutes, and may request
    /// root through sudo.
    pub fn install(locations: &Locations, progress: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        let bash = |source| ToolchainError::Bash { source };
        let mut script = tempfile::NamedTempFile::new().map_err(bash)?;
        script.write_all(SCRIPT.as_bytes()).map_err(bash)?;
        let mut command = locations.command(locations.which(OsStr::new("bash")).unwrap_or_else(|| "/bin/bash".into()));
        command.arg(script.path()).arg("--cache").arg(&locations.cache);
        if locations.debian {
            command.arg("--debian");
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(bash)?;
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).lines() {
                let line = line.map_err(bash)?;
                progress(line.strip_prefix("toolchain: ").unwrap_or(&line));
                said.push_str(&line);
                said.push('\n');
            }
        }
        if !child.wait().map_err(bash)?.success() {
            return Err(ToolchainError::Install { output: said });
        }
        Self::find(locations)
    }

    /// Returns the directory of the compiler and its libraries.
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// Returns the compiler, not a proxy.
    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// Returns the cargo that belongs to the compiler.
    pub fn cargo(&self) -> &Path {
        &self.cargo
    }

    /// Returns the output of `rustc -vV`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the version in one line: `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub fn title(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// Returns the digest of the compiler's version and its libraries for the target. Toolchains with the same identity compile
    /// the same source and flags to the same module. Part of every [`compile_key`].
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// Returns the locations with which the toolchain was found.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.version.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Returns the platform that the compiler runs on.
    fn host(&self) -> &str {
        self.field("host").unwrap_or("unknown")
    }

    /// Returns the linker that comes with rustc.
    fn linker(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(self.host()).join("bin/rust-lld")
    }

    /// Returns cargo's home directory.
    fn cargo_home(&self) -> Option<PathBuf> {
        let variable = |name: &str| self.locations.environment.get(OsStr::new(name)).map(PathBuf::from);
        variable("CARGO_HOME").or_else(|| Some(variable("HOME")?.join(".cargo")))
    }

    /// Returns a file with which rustc links programs for the target.
    fn self_contained(&self, name: &str) -> PathBuf {
        libraries(&self.sysroot).join("self-contained").join(name)
    }

    /// Returns the directory of std's sources, which may be missing, and its name in panics.
    fn std_sources(&self) -> (PathBuf, String) {
        let commit = self.field("commit-hash").unwrap_or("unknown");
        (self.sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{commit}"))
    }

    /// Returns a cargo command that uses this rustc, without flags from the environment, which are for native programs.
    pub(crate) fn cargo_command(&self) -> Command {
        let mut command = self.locations.command(&self.cargo);
        command.env("RUSTC", &self.rustc).envs(flags::ENVIRONMENT.iter().copied());
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "RUSTUP_TOOLCHAIN",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Returns a cargo command for building untrusted sources; see [`Self::bare_command`].
    fn bare_cargo_command(&self, scratch: &Path) -> Command {
        let mut command = self.bare_command(&self.cargo, scratch);
        command.env("RUSTC", &self.rustc).envs(flags::ENVIRONMENT.iter().copied());
        // An empty value disables a wrapper in the user's settings.
        command
            .env("RUSTC_WRAPPER", "")
            .envs(self.cargo_home().map(|home| ("CARGO_HOME", home)));
        command
    }

    /// Returns a command with only `PATH` of the environment, and with `scratch` as home and temporary directory.
    fn bare_command(&self, program: &Path, scratch: &Path) -> Command {
        let mut command = self.locations.command(program);
        let path = self.locations.environment.get_key_value(OsStr::new("PATH"));
        command.env_clear().envs(path).env("HOME", scratch).env("TMPDIR", scratch);
        command
    }

    /// Returns the confinement for the compiler itself.
    fn confinement(&self) -> Confinement {
        let beside = self.cargo.parent().unwrap_or(&self.cargo);
        let confinement = Confinement::new().reading(&self.sysroot).reading(beside);
        // The linker may be a link to another toolchain's, whose libraries are above `rustlib`.
        match std::fs::canonicalize(self.linker()) {
            Ok(linker) => {
                let libraries = linker.ancestors().find(|dir| dir.ends_with("rustlib")).and_then(Path::parent);
                confinement.reading(libraries.unwrap_or(&linker))
            }
            Err(_) => confinement,
        }
    }
}

fn libraries(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn has_std(sysroot: &Path) -> bool {
    let is_std = |name: &OsStr| name.to_string_lossy().starts_with("libstd-");
    let mut entries = std::fs::read_dir(libraries(sysroot)).into_iter().flatten().flatten();
    entries.any(|entry| is_std(&entry.file_name()))
}

/// Returns the toolchain that this version of the script created from Debian's rustc, if it exists.
fn debian(locations: &Locations) -> Option<(PathBuf, PathBuf)> {
    let version = locations.ask(DEBIAN_RUSTC, &["-vV"])?;
    let digest = Digest::of(format!("{SCRIPT}{version}")).short();
    let sysroot = locations.cache.join("toolchain").join(format!("debian-{digest}"));
    let rustc = sysroot.join("bin/rustc");
    rustc.is_file().then_some((rustc, sysroot))
}

/// Returns the digest of the version and the libraries' names and sizes. The names contain rustc's hash of their sources.
fn identity(version: &str, libraries: &Path) -> Result<Digest, ToolchainError> {
    let mut found = BTreeMap::new();
    for dir in [libraries.to_owned(), libraries.join("self-contained")] {
        let read = |source| ToolchainError::Read {
            path: dir.clone(),
            source,
        };
        for entry in std::fs::read_dir(&dir).map_err(read)? {
            let entry = entry.map_err(read)?;
            let metadata = entry.metadata().map_err(read)?;
            // the size of a directory depends on the file system
            if metadata.is_file() {
                found.insert(entry.file_name().to_string_lossy().into_owned(), metadata.len());
            }
        }
    }
    let mut hasher = Hasher::default();
    for text in std::iter::once(version).chain(found.keys().map(String::as_str)) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for size in found.values() {
        hasher.update(&size.to_le_bytes());
    }
    Ok(hasher.finish())
}

fn check_version(rustc: &Path, version: &str) -> Result<(), ToolchainError> {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let found = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .unwrap_or("unknown");
    let number = |text: &str| {
        let mut parts = text.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (parts.next(), parts.next())
    };
    if number(found) < number(wanted) {
        return Err(ToolchainError::TooOld {
            rustc: rustc.to_owned(),
            found: found.to_owned(),
            wanted,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
