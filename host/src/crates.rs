//! Crates of steps, built into modules.

use std::path::Path;

use indicatif::ProgressBar;
use lockstep_kernel::toolchain::{BuildError, BuildOptions, BuildProgress, Built, Toolchain, build_module};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::progress;

use crate::invocation::Invocation;

/// Builds a crate with its own options, and shows the progress.
pub fn build(directory: &Path, options: &BuildOptions, interrupt: &Interrupt, invocation: &Invocation) -> Result<Vec<Built>> {
    let toolchain = Toolchain::find(&invocation.locations.toolchain()).map_err(Error::config)?;
    let bar = progress::steps(&format!("building {}", directory.display()));
    let built = build_module(&toolchain, directory, options, &|| interrupt.is_triggered(), &mut |at| {
        follow(&bar, &at)
    });
    bar.finish_and_clear();
    built.map_err(refused)
}

/// Builds the crate in `directory`, and returns its module of steps. Cargo compiles only what changed.
pub fn build_crate(directory: &Path, interrupt: &Interrupt, invocation: &Invocation) -> Result<Vec<u8>> {
    let built = build(directory, &BuildOptions::default(), interrupt, invocation)?;
    for warning in built.iter().flat_map(|built| &built.warnings) {
        anstream::eprintln!("{}", warning.trim_end());
    }
    match <[Built; 1]>::try_from(built) {
        Ok([module]) => Ok(module.wasm),
        Err(built) => Err(Error::user(format_args!(
            "{} has {} programs and no library of steps",
            directory.display(),
            built.len()
        ))),
    }
}

/// Shows the progress of cargo.
pub fn follow(bar: &ProgressBar, at: &BuildProgress) {
    bar.set_length(at.total.into());
    bar.set_position(at.done.into());
    bar.set_message(at.doing.clone());
}

fn refused(error: BuildError) -> Error {
    let kind = match &error {
        BuildError::NoCrate { .. } | BuildError::Which { .. } => Kind::User,
        error if error.is_interrupt() => Kind::Interrupted,
        _ => Kind::Config,
    };
    Error::new(kind, error)
}
