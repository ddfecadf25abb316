//! Builds a base: a module with all crates that cells can name and the standard library, which exports everything.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::command::{self, Said};
use super::confine::Confinement;
use super::link::{self, Base, LinkError};
use super::{PreludeReady, TARGET, Toolchain, flags};

/// The base's file in a prelude's directory.
pub const FILE: &str = "base.wasm";

/// The extension's file in a prelude's directory.
const EXTENSION: &str = "extension.o";

pub const SOURCE: &str = include_str!("base_source.rs");

/// The functions of C's `math.h` that Rust's floats call, without those that are instructions. Each has a variant for `f32`
/// with the suffix `f`. They are always included, because a cell may be the first to call one.
pub const MATH: [&str; 27] = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "exp", "exp2", "expm1", "fdim", "fma",
    "fmod", "hypot", "ldexp", "log", "log10", "log1p", "log2", "pow", "sin", "sinh", "tan", "tanh",
];

/// An error building a base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// A file can't be written or a program can't be started.
    #[error("can't build the cells' base module in {}: {source}\nhint: run `lockstep doctor`", dir.display())]
    Io {
        /// the directory
        dir: PathBuf,
        /// why not
        source: io::Error,
    },
    /// A program failed.
    #[error("failed to build the cells' base module: {said}\nhint: run `lockstep doctor`")]
    Failed {
        /// its output
        said: String,
    },
    /// An object file of the crates can't be linked.
    #[error("can't link the crates: {0}\nhint: run `lockstep doctor`")]
    Link(#[from] LinkError),
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// Builds the base of a prelude with compiled crates, and writes it to `dir`/[`FILE`] atomically. Takes about a second.
pub fn build(toolchain: &Toolchain, prelude: &PreludeReady, dir: &Path, interrupt: &dyn Fn() -> bool) -> Result<(), BaseError> {
    let io = |source| BaseError::Io {
        dir: dir.to_owned(),
        source,
    };
    let work = tempfile::tempdir_in(dir).map_err(io)?;
    // Name all crates, not only those that cells can name: rustc omits unused crates.
    let libraries = prelude.linked().enumerate();
    let externs = libraries
        .map(|(i, library)| format!("--extern=crate{i}={}", library.path.display()))
        .collect::<Vec<_>>();
    let crates: String = (0..externs.len()).map(|i| format!("extern crate crate{i};\n")).collect();
    std::fs::write(work.path().join("base.rs"), format!("{SOURCE}{crates}")).map_err(io)?;
    let sdk = prelude
        .externs
        .get("lockstep")
        .map(|path| format!("--extern=lockstep={}", path.display()));

    let confinement = toolchain.confinement().reading(dir).writing(work.path());
    let mut rustc = toolchain.bare_command(toolchain.rustc(), work.path());
    rustc
        .args([
            "--target",
            TARGET,
            "--crate-type=staticlib",
            "--crate-name=base",
            "--edition=2024",
            "--cap-lints=allow",
        ])
        .args(["-Copt-level=2", "-Cpanic=abort", "-o", "libbase.a", "base.rs"])
        .args(flags::crate_flags())
        .args(externs)
        .args(sdk)
        .args(prelude.search())
        .arg(flags::remap(work.path(), "."));
    run(rustc.current_dir(work.path()), &confinement, interrupt).map_err(|error| error.or(io))?;

    let mut linker = toolchain.bare_command(&toolchain.linker(), work.path());
    linker.args(["-flavor", "wasm", "--whole-archive", "libbase.a", "--no-whole-archive"]);
    linker.arg(toolchain.self_contained("libc.a"));
    // Keep and export everything, for any later cell. The crate libc declares functions that WASI lacks and nobody can use.
    linker.args([
        "--export-all",
        "--no-gc-sections",
        "--export-table",
        "--growable-table",
        "--unresolved-symbols=ignore-all",
    ]);
    linker.args(
        MATH.iter()
            .flat_map(|name| [format!("--undefined={name}"), format!("--undefined={name}f")]),
    );
    linker.args(["--stack-first", "-z", "stack-size=1048576", "--strip-all", "-o", FILE]);
    run(linker.current_dir(work.path()), &confinement, interrupt).map_err(|error| error.or(io))?;
    std::fs::rename(work.path().join(FILE), dir.join(FILE)).map_err(io)
}

/// Puts the base of `plain` into `dir`, with an extension of the additional crates of `prelude`. Returns the extension;
/// `None` if the prelude needs its own base, because a shared crate differs, the base lacks a symbol or the additional crates
/// are large.
///
/// The result depends only on the crates, not on this machine, because the modules of cells depend on it.
pub fn extend(
    toolchain: &Toolchain,
    plain: &PreludeReady,
    prelude: &PreludeReady,
    dir: &Path,
    interrupt: &dyn Fn() -> bool,
) -> Result<Option<PathBuf>, BaseError> {
    let io = |source| BaseError::Io {
        dir: dir.to_owned(),
        source,
    };
    // File names of crates contain cargo's digest of everything that they are compiled from.
    let names = |prelude: &PreludeReady| -> BTreeSet<OsString> {
        prelude
            .linked()
            .filter_map(|library| library.path.file_name().map(OsStr::to_owned))
            .collect()
    };
    let known = names(plain);
    if !known.is_subset(&names(prelude)) {
        return Ok(None);
    }
    let is_new = |path: &&Path| path.file_name().is_some_and(|name| !known.contains(name));
    let new: Vec<&Path> = prelude
        .linked()
        .map(|library| library.path.as_path())
        .filter(is_new)
        .collect();

    let work = tempfile::tempdir_in(dir).map_err(io)?;
    let mut linker = toolchain.bare_command(&toolchain.linker(), work.path());
    linker.args(["-flavor", "wasm", "-r", "--whole-archive"]).args(new);
    linker.args(["-o", EXTENSION]);
    let confinement = toolchain.confinement().reading(dir).writing(work.path());
    run(linker.current_dir(work.path()), &confinement, interrupt).map_err(|error| error.or(io))?;

    let made = work.path().join(EXTENSION);
    let (object, base) = (fs::read(&made).map_err(io)?, fs::read(&plain.base).map_err(io)?);
    if !Base::read(&base).and_then(|base| link::is_extension(&object, &base))? {
        return Ok(None);
    }
    fs::hard_link(&plain.base, dir.join(FILE))
        .or_else(|_| fs::copy(&plain.base, dir.join(FILE)).map(drop))
        .and_then(|()| fs::rename(made, dir.join(EXTENSION)))
        .map_err(io)?;
    Ok(Some(dir.join(EXTENSION)))
}

enum Ended {
    Io(io::Error),
    Badly(String),
    Interrupted,
}

impl Ended {
    fn or(self, io: impl FnOnce(io::Error) -> BaseError) -> BaseError {
        match self {
            Self::Io(source) => io(source),
            Self::Badly(said) => BaseError::Failed { said },
            Self::Interrupted => BaseError::Interrupted,
        }
    }
}

fn run(command: &mut Command, confinement: &Confinement, interrupt: &dyn Fn() -> bool) -> Result<(), Ended> {
    let mut said = Vec::new();
    let status = command::run(command, Some(confinement), interrupt, &mut |line| match line {
        Said::Out(line) | Said::Err(line) => said.push(line),
    });
    match status.map_err(Ended::Io)? {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(Ended::Badly(said.join("\n"))),
        None => Err(Ended::Interrupted),
    }
}
