use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::{Keep, Store, Sweep};
use lockstep_view::artifacts::mentioned;
use lockstep_view::error::{Error, Result};
use lockstep_view::{progress, quantity};
use serde_json::{Value, json};

use crate::invocation::Invocation;

/// Remove artifacts that no run needs, and optionally old runs
#[derive(Args)]
#[command(
    after_help = "Keeps pinned artifacts and records (`lockstep pin`), those that notebook sessions and --notebook files use, and all of
their dependencies. Removed runs are executed again when needed.

Examples:
  lockstep gc --dry-run
  lockstep gc --older-than 30d
  lockstep gc --keep-size 10GB --notebook analysis.ipynb"
)]
pub struct GcArgs {
    /// Also remove runs older than this, such as 30d
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    older_than: Option<Duration>,

    /// Also remove the oldest runs until the store is no larger than this
    #[arg(long, value_name = "BYTES", value_parser = quantity::parse_bytes)]
    keep_size: Option<u64>,

    /// Keep what this notebook refers to
    #[arg(long, value_name = "FILE")]
    notebook: Vec<PathBuf>,

    /// Keep anything newer than this, which a running process may need
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration, default_value = "1h")]
    grace: Duration,

    /// Show what would be removed, without removing it
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: GcArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let keep = Keep {
        now: SystemTime::now(),
        older_than: args.older_than,
        size: args.keep_size,
        grace: args.grace,
        roots: roots(&runtime.store, &args.notebook)?,
    };
    let looking = progress::spinner("finding unused data");
    let sweep = runtime.plan_sweep(&keep)?;
    looking.finish_and_clear();
    if !args.dry_run {
        let bar = progress::steps("removing");
        bar.set_length(sweep.count() as u64);
        runtime.store.carry_out(&sweep, || bar.inc(1))?;
        bar.finish_and_clear();
    }
    invocation.answer(report(&sweep, args.dry_run, invocation.quiet), || {
        to_json(&sweep, args.dry_run)
    })
}

/// Returns pins, and digests that sessions and notebooks mention.
fn roots(store: &Store, notebooks: &[PathBuf]) -> Result<BTreeSet<Digest>> {
    let mut roots = store.pins()?;
    for notebook in notebooks {
        let text = std::fs::read(notebook).map_err(|e| Error::file("read", notebook, &e))?;
        roots.extend(mentioned(&text));
    }
    let sessions = store.directory().map(|directory| directory.join("sessions"));
    for session in sessions.iter().flat_map(|directory| files(directory)) {
        // a session that ends meanwhile needs nothing
        roots.extend(mentioned(&std::fs::read(session).unwrap_or_default()));
    }
    Ok(roots)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn report(sweep: &Sweep, dry_run: bool, quiet: bool) -> String {
    let count = |count: usize, what: &str| {
        format!(
            "{} {what}{}",
            quantity::count(count as u64),
            if count == 1 { "" } else { "s" }
        )
    };
    if quiet {
        return String::new();
    }
    format!(
        "{} {}, {} and {}, {} total; {} ({}) kept\n",
        if dry_run { "would remove" } else { "removed" },
        count(sweep.records.len(), "record"),
        count(sweep.artifacts.len(), "artifact"),
        count(sweep.leftovers.len(), "leftover file"),
        quantity::bytes(sweep.bytes()),
        count(sweep.kept as usize, "artifact"),
        quantity::bytes(sweep.kept_bytes),
    )
}

fn to_json(sweep: &Sweep, dry_run: bool) -> Value {
    let artifacts = sweep
        .artifacts
        .iter()
        .map(|(digest, size)| json!({ "digest": digest, "size": size }));
    json!({
        "removed": !dry_run,
        "records": sweep.records,
        "artifacts": artifacts.collect::<Vec<_>>(),
        "leftovers": sweep.leftovers.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        "bytes": sweep.bytes(),
        "kept": sweep.kept,
        "kept_bytes": sweep.kept_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_anywhere_in_a_text() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        let text = format!("{{\"x\": \"{a}\", \"sha256:12\": [\"{b}\"]}} sha256:");
        assert_eq!(mentioned(text.as_bytes()).collect::<Vec<_>>(), [a, b]);
    }
}
