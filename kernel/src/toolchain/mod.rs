//! The Rust toolchain that turns cells and step crates into WebAssembly modules: finding one, installing one, building with it.
//!
//! Every compiler flag that reaches a module's bytes stands in one place (the private module `flags`), so that the same source gives
//! the same bytes in a notebook, from the command line and in any directory.

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
mod flags;
mod link;
mod lock;
mod making;
mod prelude;
mod ready;
pub mod sdk;
mod shelf;
mod sources;

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
pub use doctor::{Check, State, doctor};
pub use link::{Base, LinkError};
pub use lock::{Lock, Package, Set};
pub use making::{Doing, Watch};
pub use prelude::{Prelude, PreludeError};
pub use ready::{Library, PreludeReady};
pub use sources::SourcesError;

/// The target that modules are compiled for.
pub const TARGET: &str = "wasm32-wasip1";

/// What `lockstep toolchain install` runs; also of use on its own.
pub const SCRIPT: &str = include_str!("../../../deploy/toolchain.sh");

/// Debian's rustc, as the script has it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where things are on this machine, from whoever may look.
#[derive(Clone, Debug)]
pub struct Locations {
    /// Where lockstep keeps what it can make again, such as `~/.cache/lockstep`.
    pub cache: PathBuf,
    /// The whole environment of the programs that are started (`PATH`, `HOME`, `CARGO_HOME`, proxies).
    pub environment: BTreeMap<OsString, OsString>,
    /// Pass over rustup and take the toolchain made from Debian's packages.
    pub debian: bool,
}

impl Locations {
    /// A command with exactly this environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// The output of a program that ended well, as text.
    fn ask(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
        let output = self.command(self.which(program.as_ref())?).args(args).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The program of this name on `PATH`, or `name` itself if it is a path. (The PATH of a command's own environment does not
    /// steer where [`Command`] looks on every platform.)
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

/// Why there is no toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// Neither the rustc on `PATH` nor the cache has the target.
    #[error("no Rust toolchain for {TARGET}\nhint: run `lockstep toolchain install`, or `rustup target add {TARGET}`")]
    Missing,
    /// There is a rustc but no cargo.
    #[error("{} compiles for {TARGET}, but there is no cargo beside it or on PATH\nhint: install cargo", rustc.display())]
    NoCargo {
        /// the rustc
        rustc: PathBuf,
    },
    /// The rustc is too old for the SDK.
    #[error("{} is version {found}; lockstep needs {wanted} or newer\nhint: run `rustup update stable`", rustc.display())]
    TooOld {
        /// the rustc
        rustc: PathBuf,
        /// its version
        found: String,
        /// the oldest that will do
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
    /// The install script could not be started.
    #[error("can't run the install script with bash: {source}\nhint: install bash, or run `rustup target add {TARGET}`")]
    Bash {
        /// why not
        source: std::io::Error,
    },
    /// The install script failed.
    #[error("installing the toolchain failed\n{output}")]
    Install {
        /// what it said
        output: String,
    },
}

impl Toolchain {
    /// Looks for a rustc with the target: the one on `PATH` (which may be rustup's), then the one that the install script made.
    /// Takes as long as three starts of rustc, and changes nothing.
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
        // Not rustup's proxy, which takes some 20 ms of its own at each start.
        let rustc = sysroot.join("bin/rustc");
        (has_std(&sysroot) && rustc.is_file()).then_some((rustc, sysroot))
    }

    /// Runs the install script; `progress` is told each line it says. Takes up to some minutes, and may ask for root through sudo.
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

    /// The directory of the compiler and its libraries.
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// The compiler; not a proxy.
    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// The cargo that goes with it.
    pub fn cargo(&self) -> &Path {
        &self.cargo
    }

    /// What `rustc -vV` says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// One line for people: `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub fn title(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// The digest of the compiler's version and of its libraries for the target: toolchains of one identity make the same module
    /// from the same source and flags. Part of every [`compile_key`].
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// Where it was found, and with what.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.version.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The platform that it runs on.
    fn host(&self) -> &str {
        self.field("host").unwrap_or("unknown")
    }

    /// The linker that rustc ships.
    fn linker(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(self.host()).join("bin/rust-lld")
    }

    /// Where cargo keeps what it fetched.
    fn cargo_home(&self) -> Option<PathBuf> {
        let variable = |name: &str| self.locations.environment.get(OsStr::new(name)).map(PathBuf::from);
        variable("CARGO_HOME").or_else(|| Some(variable("HOME")?.join(".cargo")))
    }

    /// A file that rustc links programs for the target with.
    fn self_contained(&self, name: &str) -> PathBuf {
        libraries(&self.sysroot).join("self-contained").join(name)
    }

    /// Where std's sources are on disk, if they are, and the name that panics give them.
    fn std_sources(&self) -> (PathBuf, String) {
        let commit = self.field("commit-hash").unwrap_or("unknown");
        (self.sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{commit}"))
    }

    /// A cargo command that uses this rustc, and no flags from the environment: those are meant for the host's programs.
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

    /// Such a command that builds, of other people's sources: see [`Self::bare_command`].
    fn bare_cargo_command(&self, scratch: &Path) -> Command {
        let mut command = self.bare_command(&self.cargo, scratch);
        command.env("RUSTC", &self.rustc).envs(flags::ENVIRONMENT.iter().copied());
        // Empty: no wrapper, whatever the user's settings say.
        command
            .env("RUSTC_WRAPPER", "")
            .envs(self.cargo_home().map(|home| ("CARGO_HOME", home)));
        command
    }

    /// A command that finds nothing of this machine in its environment but where programs are, and keeps its own files in `scratch`.
    fn bare_command(&self, program: &Path, scratch: &Path) -> Command {
        let mut command = self.locations.command(program);
        let path = self.locations.environment.get_key_value(OsStr::new("PATH"));
        command.env_clear().envs(path).env("HOME", scratch).env("TMPDIR", scratch);
        command
    }

    /// What the compiler itself may reach.
    fn confinement(&self) -> Confinement {
        let beside = self.cargo.parent().unwrap_or(&self.cargo);
        let confinement = Confinement::new().reading(&self.sysroot).reading(beside);
        // The linker may be a link to that of another toolchain, which has its libraries above `rustlib`.
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

/// The toolchain that the script's debian route made from this very script and this very rustc.
fn debian(locations: &Locations) -> Option<(PathBuf, PathBuf)> {
    let version = locations.ask(DEBIAN_RUSTC, &["-vV"])?;
    let digest = Digest::of(format!("{SCRIPT}{version}")).short();
    let sysroot = locations.cache.join("toolchain").join(format!("debian-{digest}"));
    let rustc = sysroot.join("bin/rustc");
    rustc.is_file().then_some((rustc, sysroot))
}

/// Names and sizes of libraries are enough: the names hold rustc's hash of what they were made from.
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
            // how large a directory is, is its file system's affair
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
