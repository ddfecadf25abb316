use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_view::error::{Error, Result};
use lockstep_view::print::{print, print_json};
use lockstep_view::quantity;
use serde_json::json;

use crate::invocation::Invocation;

/// Verify every byte in the store against its digest, and rebuild the index
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep fsck
  lockstep fsck --fix           # later runs recreate what was removed")]
pub struct FsckArgs {
    /// Remove damaged artifacts and records
    #[arg(long)]
    fix: bool,
}

pub fn run(args: FsckArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let check = runtime.check()?;
    let mut damage: Vec<String> = check.findings.iter().map(ToString::to_string).collect();
    if args.fix {
        let mut left = check.findings;
        // removing an artifact can leave records that refer to it
        while !left.is_empty() {
            for finding in &left {
                runtime.store.remove(finding)?;
            }
            left = runtime.check()?.findings;
            damage.extend(left.iter().map(ToString::to_string));
        }
    }
    if invocation.json {
        print_json(&json!({
            "artifacts": check.artifacts,
            "bytes": check.bytes,
            "records": check.records,
            "findings": damage,
            "removed": args.fix && !damage.is_empty(),
        }))?;
    } else {
        damage.iter().try_for_each(|line| print(format_args!("{line}\n")))?;
        print(format_args!(
            "{} artifacts ({}) and {} records read, {} damaged{}\n",
            quantity::count(check.artifacts),
            quantity::bytes(check.bytes),
            quantity::count(check.records),
            damage.len(),
            if args.fix && !damage.is_empty() { " and removed" } else { "" },
        ))?;
    }
    if damage.is_empty() || args.fix {
        return Ok(());
    }
    let error = Error::host(format_args!("{} is damaged", invocation.locations.store.display()));
    Err(error
        .hint("`lockstep fsck --fix` removes damaged data; later runs recreate it")
        .reported())
}
