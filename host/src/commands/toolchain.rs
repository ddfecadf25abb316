use clap::{Args, Subcommand};
use lockstep_kernel::toolchain::{Prelude, Toolchain};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_server::prepare::load_base;
use lockstep_view::error::{Error, Result};
use lockstep_view::progress;
use serde_json::json;

use crate::crates::follow;
use crate::invocation::Invocation;

/// Find or install the Rust toolchain that steps and cells are compiled with
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep toolchain install             # adds the target with rustup, or installs Debian's packages without it
  lockstep toolchain install --crates    # also compile the crates that most notebooks use
  lockstep toolchain path")]
pub struct ToolchainArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the Rust toolchain if it is missing, and compile the prelude of notebooks
    Install {
        /// Also compile common crates for `:dep`, which takes some minutes: arrow, chrono, csv, itertools, linfa, ndarray, plotters, rand,
        /// regex, smartcore
        #[arg(long)]
        crates: bool,
    },
    /// Print the path of the compiler
    Path,
}

pub fn run(args: ToolchainArgs, invocation: &Invocation) -> Result<()> {
    let locations = invocation.locations.toolchain();
    let toolchain = match args.command {
        Command::Path => Toolchain::find(&locations).map_err(Error::config)?,
        Command::Install { crates } => install(crates, invocation)?,
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

fn install(crates: bool, invocation: &Invocation) -> Result<Toolchain> {
    let locations = invocation.locations.toolchain();
    let spinner = progress::spinner("toolchain");
    let installed = Toolchain::install(&locations, &mut |line| spinner.set_message(line.to_owned()));
    spinner.finish_and_clear();
    let toolchain = installed.map_err(Error::config)?;
    compile(&Prelude::new(), "prelude of notebooks", &toolchain, invocation)?;
    if crates {
        compile(&Prelude::common(), "common crates", &toolchain, invocation)?;
    }
    Ok(toolchain)
}

/// Compiles a prelude, and its module for this machine.
fn compile(prelude: &Prelude, what: &'static str, toolchain: &Toolchain, invocation: &Invocation) -> Result<()> {
    let bar = progress::steps(what);
    let ready = prelude.ensure(toolchain, &invocation.locations.cache, &mut |at| follow(&bar, &at));
    bar.finish_and_clear();
    let ready = ready.map_err(Error::config)?;
    let spinner = progress::spinner("for this machine");
    let loaded = load_base(&ready, &invocation.runtime(EngineOptions::default())?);
    spinner.finish_and_clear();
    loaded
}
