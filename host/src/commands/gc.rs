use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lockstep_client::Remote;
use lockstep_runtime::digest::{Digest, mentioned};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::{Store, Sweep};
use lockstep_server::sweep::{Policy, plan, plan_shared, stores, to_json};
use lockstep_view::error::{Error, Result};
use lockstep_view::events::read;
use lockstep_view::{progress, quantity};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::invocation::Invocation;

/// Remove artifacts that no run needs, and optionally old runs
#[derive(Args)]
#[command(
    after_help = "Keeps pinned artifacts and records (`lockstep pin`), those that notebook sessions, --notebook files and running processes
use, and all of their dependencies. Removed runs are executed again when needed. With a host, also frees the stores of its users,
each by the same rules. In a shared store, records are never removed. With --host, the host frees its stores; that needs a token
with the scope admin.

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
    let told = match invocation.remote()? {
        Some(remote) => collect_there(&remote, &args)?,
        None => collect(&args, invocation)?,
    };
    let text = if invocation.quiet { String::new() } else { report(&told)? };
    invocation.answer(text, || told)
}

/// Has the host collect garbage.
fn collect_there(remote: &Remote, args: &GcArgs) -> Result<Value> {
    let seconds = |time: Duration| time.as_secs();
    remote.ask(
        "gc",
        &json!({
            "older_than_s": args.older_than.map(seconds),
            "keep_size": args.keep_size,
            "grace_s": seconds(args.grace),
            "shared_grace_s": args.shared_grace.map(seconds),
            "keep": roots(&args.notebook)?,
            "dry_run": args.dry_run,
        }),
    )
}

fn collect(args: &GcArgs, invocation: &Invocation) -> Result<Value> {
    let policy = Policy {
        older_than: args.older_than,
        size: args.keep_size,
        grace: args.grace,
    };
    let roots = roots(&args.notebook)?;
    let engine = invocation.engine(EngineOptions::default())?;
    let looking = progress::spinner("finding unused data");
    let shared = args.shared_grace.map(|grace| -> Result<_> {
        let store = invocation.store()?;
        let sweep = plan_shared(&store, grace)?;
        Ok((store, sweep))
    });
    let shared = shared.transpose()?;
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
    Ok(to_json(&sweeps, args.dry_run))
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

/// Returns the text for what [`to_json`] tells.
fn report(told: &Value) -> Result<String> {
    #[derive(Deserialize)]
    struct Told {
        removed: bool,
        records: Vec<Value>,
        artifacts: Vec<Value>,
        leftovers: Vec<Value>,
        bytes: u64,
        kept: u64,
        kept_bytes: u64,
    }
    let told: Told = read(told.clone())?;
    Ok(format!(
        "{} {}, {} and {}, {} total; {} ({}) kept\n",
        if told.removed { "removed" } else { "would remove" },
        quantity::counted(told.records.len() as u64, "record"),
        quantity::counted(told.artifacts.len() as u64, "artifact"),
        quantity::counted(told.leftovers.len() as u64, "leftover file"),
        quantity::bytes(told.bytes),
        quantity::counted(told.kept, "artifact"),
        quantity::bytes(told.kept_bytes),
    ))
}
