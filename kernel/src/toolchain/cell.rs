use std::io;
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::Digest;

use super::command::{self, Said};
use super::diagnostic::{self, Diagnostic};
use super::link::{self, Base, LinkError};
use super::{PreludeReady, TARGET, Toolchain, flags};

/// The name of every cell's source, as it stands in diagnostics and in panics: `cell.rs:3:9`.
pub const CELL_FILE: &str = "cell.rs";

/// A compiled cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    /// The module; `None` where the source was only checked.
    pub wasm: Option<Vec<u8>>,
    /// What rustc warns of.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a cell has no module.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Its source can't be compiled.
    #[error("the cell can't be compiled: {}", first(.0))]
    Source(Vec<Diagnostic>),
    /// Compiling was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// What rustc made of it can't be made a module.
    #[error("the cell can't be linked: {0}")]
    Link(#[from] LinkError),
    /// The compiler failed without a word about the source.
    #[error("rustc failed: {said}\nhint: run `lockstep doctor`")]
    Rustc {
        /// what it said
        said: String,
    },
    /// A file or the compiler itself could not be reached.
    #[error("can't compile in {}: {source}\nhint: run `lockstep doctor`", dir.display())]
    Io {
        /// the directory for what the compiler writes
        dir: PathBuf,
        /// what went wrong
        source: io::Error,
    },
}

fn first(diagnostics: &[Diagnostic]) -> &str {
    let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
    error.map_or("see the diagnostics", |diagnostic| &diagnostic.message)
}

/// Compiles `source` against the prelude: a function `__cell`, or steps. It becomes a module on `base`; without one it is only checked,
/// which takes half the time. `dir` is for what the compiler writes; nothing is left in it.
///
/// The compiler is confined, for it loads the proc macros of other people. Once `interrupt` is true it is killed, within 50 ms.
pub fn compile_cell(
    toolchain: &Toolchain,
    prelude: &PreludeReady,
    base: Option<&Base>,
    source: &str,
    dir: &Path,
    interrupt: &dyn Fn() -> bool,
) -> Result<Compiled, CompileError> {
    let io = |source| CompileError::Io {
        dir: dir.to_owned(),
        source,
    };
    let scratch = tempfile::tempdir_in(dir).map_err(io)?;
    std::fs::write(scratch.path().join(CELL_FILE), source).map_err(io)?;

    let mut command = toolchain.bare_command(toolchain.rustc(), scratch.path());
    command
        .current_dir(scratch.path())
        .args(["--target", TARGET, "--error-format=json"]);
    command
        .arg(if base.is_some() { "--emit=obj" } else { "--emit=metadata" })
        .args(["-o", "made", CELL_FILE])
        .args(flags::CELL)
        .args(prelude.arguments());
    let (std_sources, std_name) = toolchain.std_sources();
    command
        .arg(flags::remap(&std_sources, &std_name))
        .arg(flags::remap(scratch.path(), "."));

    let mut said = String::new();
    let confinement = toolchain.confinement().reading(prelude.directory()).writing(scratch.path());
    let status = command::run(&mut command, Some(&confinement), interrupt, &mut |line| {
        let (Said::Out(line) | Said::Err(line)) = line;
        said.push_str(&line);
        said.push('\n');
    });
    let Some(status) = status.map_err(io)? else {
        return Err(CompileError::Interrupted);
    };
    let (diagnostics, rest) = diagnostic::parse(&said);
    if status.success() {
        let made = std::fs::read(scratch.path().join("made")).map_err(io)?;
        let extension = prelude.extension.as_ref().map(std::fs::read).transpose().map_err(io)?;
        let wasm = base.map(|base| link::link(&made, extension.as_deref(), base)).transpose()?;
        return Ok(Compiled { wasm, diagnostics });
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(CompileError::Source(diagnostics));
    }
    let said = if rest.is_empty() { status.to_string() } else { rest };
    Err(CompileError::Rustc { said })
}

/// The digest of all that a cell's module depends on: toolchain, prelude, flags and source.
pub fn compile_key(toolchain: &Toolchain, prelude: &PreludeReady, source: &str) -> Digest {
    let flags = flags::CELL.join("\n");
    Digest::of(format!(
        "{}\n{}\n{}\n{source}",
        toolchain.identity(),
        prelude.identity,
        Digest::of(flags)
    ))
}
