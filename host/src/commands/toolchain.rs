use clap::{Args, Subcommand};
use lockstep_kernel::toolchain::{Prelude, Toolchain};
use serde_json::json;

use super::build::follow;
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::progress;

/// Find or install the Rust toolchain that steps and cells are compiled with
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep toolchain install    # rustup's target where rustup is, Debian's packages elsewhere
  lockstep toolchain path")]
pub struct ToolchainArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, and compile what notebooks start with
    Install,
    /// Write the path of the compiler
    Path,
}

pub fn run(args: ToolchainArgs, invocation: &Invocation) -> Result<()> {
    let locations = invocation.locations.toolchain();
    let toolchain = match args.command {
        Command::Path => Toolchain::find(&locations).map_err(Error::config)?,
        Command::Install => install(invocation)?,
    };
    invocation.answer(format_args!("{}\n", toolchain.rustc().display()), || {
        json!({
            "rustc": toolchain.rustc(),
            "cargo": toolchain.cargo(),
            "version": toolchain.title(),
            "identity": toolchain.identity(),
        })
    })
}

fn install(invocation: &Invocation) -> Result<Toolchain> {
    let locations = invocation.locations.toolchain();
    let spinner = progress::spinner("toolchain");
    let installed = Toolchain::install(&locations, &mut |line| spinner.set_message(line.to_owned()));
    spinner.finish_and_clear();
    let toolchain = installed.map_err(Error::config)?;
    let bar = progress::steps("what notebooks start with");
    let ready = Prelude::new().ensure(&toolchain, &invocation.locations.cache, &mut |at| follow(&bar, &at));
    bar.finish_and_clear();
    ready.map_err(Error::config)?;
    Ok(toolchain)
}
