use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use lockstep_runtime::digest::{Digest, mentioned};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::{Store, Sweep};
use lockstep_server::sweep::{Policy, plan, stores};
use lockstep_view::error::{Error, Result};
use lockstep_view::{progress, quantity};
use serde_json::{Value, json};

use crate::invocation::Invocation;

/// Remove artifacts that no run needs, and optionally old runs
#[derive(Args)]
#[command(
    after_help = "Keeps pinned artifacts and records (`lockstep pin`), those that notebook sessions, --notebook files and running processes
use, and all of their dependencies. Removed runs are executed again when needed. With a host, also frees the stores of its users,
each by the same rules. In a shared store, records are never removed.

Examples:
  lockstep gc --dry-run
  lockstep gc --older-than 30d
  lockstep gc --keep-size 10GB --notebook analysis.ipynb
  lockstep gc --shared s3://team/lockstep --shared-grace 7d"
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

    /// Keep anything newer than this. What running processes use is always kept
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration, default_value = "1h")]
    grace: Duration,

    /// Also remove blobs from the shared store that no record there needs, unless they were written within this time. Longer than
    /// the longest pipeline runs, such as 7d
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    shared_grace: Option<Duration>,

    /// Show what would be removed, without removing it
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: GcArgs, invocation: &Invocation) -> Result<()> {
    let policy = Policy {
        older_than: args.older_than,
        size: args.keep_size,
        grace: args.grace,
    };
    let roots = roots(&args.notebook)?;
    let engine = invocation.engine(EngineOptions::default())?;
    let looking = progress::spinner("finding unused data");
    let shared = args.shared_grace.map(|grace| plan_shared(invocation, grace)).transpose()?;
    let mut sweeps = Vec::new();
    for directory in stores(&invocation.locations.store) {
        let runtime = invocation.runtime_over(engine.clone(), Store::open(&directory)?)?;
        let sweep = plan(&runtime, &policy, &roots)?;
        sweeps.push((runtime, sweep));
    }
    looking.finish_and_clear();
    if !args.dry_run {
        let bar = progress::steps("removing");
        let all = sweeps
            .iter()
            .map(|(_, sweep)| sweep)
            .chain(shared.iter().map(|(_, sweep)| sweep));
        bar.set_length(all.map(|sweep| sweep.count() as u64).sum());
        for (runtime, sweep) in &sweeps {
            runtime.carry_out(sweep, || bar.inc(1))?;
        }
        if let Some((store, sweep)) = &shared {
            store.carry_out_shared(sweep, || bar.inc(1))?;
        }
        bar.finish_and_clear();
    }
    let sweeps = sweeps.into_iter().map(|(_, sweep)| sweep);
    let sweeps: Vec<Sweep> = sweeps.chain(shared.map(|(_, sweep)| sweep)).collect();
    invocation.answer(report(&sweeps, args.dry_run, invocation.quiet), || {
        to_json(&sweeps, args.dry_run)
    })
}

/// Returns the unneeded blobs of the shared store.
fn plan_shared(invocation: &Invocation, grace: Duration) -> Result<(Store, Sweep)> {
    let store = invocation.store()?;
    if store.shared().is_none() {
        return Err(Error::user("there is no shared store").hint("select one with --shared s3://BUCKET/PREFIX"));
    }
    let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let sweep = store.plan_shared_sweep(before)?;
    Ok((store, sweep))
}

/// Returns the digests that notebooks mention.
fn roots(notebooks: &[PathBuf]) -> Result<BTreeSet<Digest>> {
    let mut roots = BTreeSet::new();
    for notebook in notebooks {
        let text = std::fs::read(notebook).map_err(|e| Error::file("read", notebook, &e))?;
        roots.extend(mentioned(&text));
    }
    Ok(roots)
}

fn report(sweeps: &[Sweep], dry_run: bool, quiet: bool) -> String {
    let sum = |count: fn(&Sweep) -> u64| sweeps.iter().map(count).sum::<u64>();
    if quiet {
        return String::new();
    }
    format!(
        "{} {}, {} and {}, {} total; {} ({}) kept\n",
        if dry_run { "would remove" } else { "removed" },
        quantity::counted(sum(|sweep| sweep.records.len() as u64), "record"),
        quantity::counted(sum(|sweep| sweep.artifacts.len() as u64), "artifact"),
        quantity::counted(sum(|sweep| sweep.leftovers.len() as u64), "leftover file"),
        quantity::bytes(sum(Sweep::bytes)),
        quantity::counted(sum(|sweep| sweep.kept), "artifact"),
        quantity::bytes(sum(|sweep| sweep.kept_bytes)),
    )
}

fn to_json(sweeps: &[Sweep], dry_run: bool) -> Value {
    let artifacts = sweeps.iter().flat_map(|sweep| &sweep.artifacts);
    let artifacts = artifacts.map(|(digest, size)| json!({ "digest": digest, "size": size }));
    let leftovers = sweeps.iter().flat_map(|sweep| &sweep.leftovers);
    json!({
        "removed": !dry_run,
        "records": sweeps.iter().flat_map(|sweep| &sweep.records).collect::<Vec<_>>(),
        "artifacts": artifacts.collect::<Vec<_>>(),
        "leftovers": leftovers.map(|(path, _)| path).collect::<Vec<_>>(),
        "bytes": sweeps.iter().map(Sweep::bytes).sum::<u64>(),
        "kept": sweeps.iter().map(|sweep| sweep.kept).sum::<u64>(),
        "kept_bytes": sweeps.iter().map(|sweep| sweep.kept_bytes).sum::<u64>(),
    })
}
