use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_server::backup::backup;
use lockstep_view::error::{Error, Result};
use lockstep_view::{progress, quantity};
use serde_json::json;

use crate::invocation::Invocation;

/// Copy the store to a directory, also while it is in use; or restore such a copy
#[derive(Args)]
#[command(
    after_help = "The copy is a store itself: with artifacts, records, pins, signatures, sessions, and the data of a host and its users. Another
backup to the same directory adds new artifacts and records, and removes none.

Examples:
  lockstep backup /backup/lockstep
  lockstep fsck --store /backup/lockstep            # check it
  lockstep backup --store /backup/lockstep NEW_DIR  # restore it to a new directory"
)]
pub struct BackupArgs {
    /// Directory for the copy: a new or empty one, or that of an earlier backup of this store
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn run(args: BackupArgs, invocation: &Invocation) -> Result<()> {
    let engine = invocation.engine(EngineOptions::default())?;
    let open = |store| invocation.runtime_over(engine.clone(), store);
    let bar = progress::spinner("copying the store");
    let copied = backup(&invocation.locations.store, &args.directory, open)?;
    bar.finish_and_clear();
    let text = format!(
        "copied {} ({}) and {} to {}\n",
        quantity::counted(copied.artifacts, "artifact"),
        quantity::bytes(copied.bytes),
        quantity::counted(copied.records, "record"),
        args.directory.display()
    );
    invocation.answer(if invocation.quiet { "" } else { &text }, || {
        json!({
            "directory": args.directory,
            "artifacts": copied.artifacts,
            "bytes": copied.bytes,
            "records": copied.records,
            "damaged": copied.damaged,
        })
    })?;
    if copied.damaged.is_empty() {
        return Ok(());
    }
    for digest in &copied.damaged {
        anstream::eprintln!("warning: {digest} is damaged and was not copied");
    }
    let error = Error::host(format_args!("{} is damaged", invocation.locations.store.display()));
    Err(error
        .hint("`lockstep fsck --fix` removes damaged data; later runs recreate it")
        .reported())
}
