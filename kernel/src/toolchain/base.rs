//! Builds a base: one module of every crate that cells can name, with the standard library, that exports all it holds.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PreludeReady, TARGET, Toolchain, flags};

/// The file below a prelude's directory.
pub const FILE: &str = "base.wasm";

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
}

/// Builds the base of a prelude whose crates are compiled; it appears as `dir`/[`FILE`] when it is whole. Takes about a second.
pub fn build(toolchain: &Toolchain, prelude: &PreludeReady, dir: &Path) -> Result<(), BaseError> {
    let io = |source| BaseError::Io {
        dir: dir.to_owned(),
        source,
    };
    let work = tempfile::tempdir_in(dir).map_err(io)?;
    let crates: String = prelude.externs.keys().map(|name| format!("extern crate {name};\n")).collect();
    std::fs::write(work.path().join("base.rs"), format!("{SOURCE}{crates}")).map_err(io)?;

    let mut rustc = toolchain.rustc_command();
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
        .args(prelude.arguments())
        .arg(flags::remap(work.path(), "."));
    run(rustc.current_dir(work.path())).map_err(|error| error.or(io))?;

    let mut linker = toolchain.locations.command(toolchain.linker());
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
    run(linker.current_dir(work.path())).map_err(|error| error.or(io))?;
    std::fs::rename(work.path().join(FILE), dir.join(FILE)).map_err(io)
}

enum Ended {
    Io(io::Error),
    Badly(String),
}

impl Ended {
    fn or(self, io: impl FnOnce(io::Error) -> BaseError) -> BaseError {
        match self {
            Self::Io(source) => io(source),
            Self::Badly(said) => BaseError::Failed { said },
        }
    }
}

fn run(command: &mut Command) -> Result<(), Ended> {
    let output = command.output().map_err(Ended::Io)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Ended::Badly(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())),
    }
}
