//! Builds a base: one module of every crate that cells can name, with the standard library, that exports all it holds.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::command::{self, Said};
use super::confine::Confinement;
use super::link::{self, Base, LinkError};
use super::{PreludeReady, TARGET, Toolchain, flags};

/// The file below a prelude's directory.
pub const FILE: &str = "base.wasm";

/// The file of an extension, beside it.
const EXTENSION: &str = "extension.o";

pub const SOURCE: &str = include_str!("base_source.rs");

/// The functions of C's `math.h` that Rust's floats call and that no instruction computes; each has a sibling for `f32`, with an `f`
/// behind its name. A cell may be the first to call one.
pub const MATH: [&str; 27] = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "exp", "exp2", "expm1", "fdim", "fma",
    "fmod", "hypot", "ldexp", "log", "log10", "log1p", "log2", "pow", "sin", "sinh", "tan", "tanh",
];

/// Why a base can't be built.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// A file can't be written or a program can't be started.
    #[error("can't build the base of cells in {}: {source}\nhint: run `lockstep doctor`", dir.display())]
    Io {
        /// the directory
        dir: PathBuf,
        /// why not
        source: io::Error,
    },
    /// A program failed.
    #[error("building the base of cells failed: {said}\nhint: run `lockstep doctor`")]
    Failed {
        /// what it said
        said: String,
    },
    /// An object of the crates can't be read.
    #[error("can't link the crates: {0}\nhint: run `lockstep doctor`")]
    Link(#[from] LinkError),
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// Builds the base of a prelude whose crates are compiled; it appears as `dir`/[`FILE`] when it is whole. Takes about a second.
pub fn build(toolchain: &Toolchain, prelude: &PreludeReady, dir: &Path, interrupt: &dyn Fn() -> bool) -> Result<(), BaseError> {
    let io = |source| BaseError::Io {
        dir: dir.to_owned(),
        source,
    };
    let work = tempfile::tempdir_in(dir).map_err(io)?;
    // All crates, not only those that cells can name: rustc else leaves out what no other crate uses.
    let libraries = prelude.libraries.iter().filter(|library| library.is_linked()).enumerate();
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
    // Everything is there for whatever cell may come. The crate libc declares what WASI lacks; nobody can have used that.
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

/// Puts the base of `plain` into `dir`, with an extension of the crates that `prelude` has beyond it. Gives the extension; `None` if the
/// base lacks a crate of the prelude that is part of both, or if the other crates are large: then the prelude needs a base of its own.
///
/// It depends on the crates alone, not on what is on this machine, since the modules of cells depend on it.
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
    // Cargo puts a digest of all that a crate is compiled from into the name of its file.
    let names = |prelude: &PreludeReady| -> BTreeSet<OsString> {
        let linked = prelude.libraries.iter().filter(|library| library.is_linked());
        linked
            .filter_map(|library| library.path.file_name().map(OsStr::to_owned))
            .collect()
    };
    let known = names(plain);
    if !known.is_subset(&names(prelude)) {
        return Ok(None);
    }
    let is_new = |path: &&Path| path.file_name().is_some_and(|name| !known.contains(name));
    let linked = prelude.libraries.iter().filter(|library| library.is_linked());
    let new: Vec<&Path> = linked.map(|library| library.path.as_path()).filter(is_new).collect();

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
