use std::io;
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::Digest;

use super::command::{self, Said};
use super::diagnostic::{self, Diagnostic};
use super::link::{self, Base, LinkError};
use super::{PreludeReady, TARGET, Toolchain, flags};

/// The file name of every cell's source in diagnostics and panics: `cell.rs:3:9`.
pub const CELL_FILE: &str = "cell.rs";

/// A compiled cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    /// The module; `None` if the source was only checked.
    pub wasm: Option<Vec<u8>>,
    /// The warnings of rustc.
    pub diagnostics: Vec<Diagnostic>,
}

/// An error compiling a cell.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The source has errors.
    #[error("the cell failed to compile: {}", first(.0))]
    Source(Vec<Diagnostic>),
    /// Compilation was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The compiled object can't be linked.
    #[error("the cell failed to link: {0}")]
    Link(#[from] LinkError),
    /// The compiler failed without an error in the source.
    #[error("rustc failed: {said}\nhint: run `lockstep doctor`")]
    Rustc {
        /// its output
        said: String,
    },
    /// A file or the compiler itself is not accessible.
    #[error("can't compile in {}: {source}\nhint: run `lockstep doctor`", dir.display())]
    Io {
        /// the directory for the compiler's files
        dir: PathBuf,
        /// the error
        source: io::Error,
    },
}

fn first(diagnostics: &[Diagnostic]) -> &str {
    let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
    error.map_or("see the diagnostics", |diagnostic| &diagnostic.message)
}

/// Compiles `source`, a function `__cell` or steps, against the prelude. Links a module with `base`; without a base, the source
/// is only checked, which takes half the time. `dir` is for temporary files of the compiler.
///
/// The compiler is confined, because it loads third-party proc macros. Once `interrupt` is true, it is killed within 50 ms.
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
        let Some(base) = base else {
            return Ok(Compiled { wasm: None, diagnostics });
        };
        let object = std::fs::read(scratch.path().join("made")).map_err(io)?;
        let extension = prelude.extension.as_ref().map(std::fs::read).transpose().map_err(io)?;
        let wasm = Some(link::link(&object, extension.as_deref(), base)?);
        return Ok(Compiled { wasm, diagnostics });
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(CompileError::Source(diagnostics));
    }
    let said = if rest.is_empty() { status.to_string() } else { rest };
    Err(CompileError::Rustc { said })
}

/// Returns the digest of everything that a cell's module depends on: toolchain, prelude, flags and source.
pub fn compile_key(toolchain: &Toolchain, prelude: &PreludeReady, source: &str) -> Digest {
    let flags = flags::CELL.join("\n");
    Digest::of(format!(
        "{}\n{}\n{}\n{source}",
        toolchain.identity(),
        prelude.identity,
        Digest::of(flags)
    ))
}
