use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::Store;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use serde_json::json;

use crate::invocation::Invocation;

/// Let artifacts and records stay, with all that they came from; without a name, list what stays
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep pin 8b01d2            # `lockstep gc` leaves it alone
  lockstep pin 8b01d2/rows       # an output of a record
  lockstep pin --remove 8b01d2
  lockstep pin")]
pub struct PinArgs {
    /// A path, a digest, the start of one, or RECORD/OUTPUT
    #[arg(value_name = "WHAT")]
    what: Vec<String>,

    /// Take the pin away
    #[arg(long, requires = "what")]
    remove: bool,
}

pub fn run(args: PinArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    for what in &args.what {
        let digest = match find(&runtime, what)? {
            Named::Artifact(artifact) => artifact.digest,
            Named::Record(found) => found.0,
        };
        match args.remove {
            true => unpin(&runtime.store, what, &digest)?,
            false => runtime.store.pin(&digest)?,
        }
    }
    let pins = runtime.store.pins()?;
    let text: String = match args.what.is_empty() {
        true => pins.iter().map(|pin| format!("{pin}\n")).collect(),
        false => String::new(),
    };
    invocation.answer(text, || json!({ "pins": pins }))
}

fn unpin(store: &Store, what: &str, digest: &Digest) -> Result<()> {
    match store.unpin(digest)? {
        true => Ok(()),
        false => Err(Error::user(format_args!("{what} is not pinned")).hint("`lockstep pin` lists what is")),
    }
}
