//! Garbage collection of a store, and of the users' stores in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::{Digest, mentioned};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::store::{Keep, Store, Sweep};
use lockstep_view::error::{Error, Result};
use serde_json::{Value, json};

use crate::{Server, Settings, namespace, works};

/// Garbage collection by a host removes nothing younger. What clients have uploaded is in use only when they submit their work.
pub(crate) const GRACE: Duration = Duration::from_secs(60 * 60);

/// Which runs to keep.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Remove older runs.
    pub older_than: Option<Duration>,
    /// Remove the oldest runs until at most this many bytes remain.
    pub size: Option<u64>,
    /// Remove nothing that is younger.
    pub grace: Duration,
}

impl Policy {
    /// Returns the policy of a host.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            older_than: settings.gc_older_than(),
            size: settings.gc_keep_size(),
            grace: GRACE,
        }
    }
}

/// Returns the directories of the stores in `store`: itself, and those of a host's users.
pub fn stores(store: &Path) -> Vec<PathBuf> {
    let users = namespace::users(store).into_iter();
    let own = users.map(|user| namespace::user_directory(store, &user));
    std::iter::once(store.to_owned()).chain(own).collect()
}

/// Returns the objects of a store that are not needed, by pins, sessions, a host's kernels and unfinished work, `more` and running processes.
pub fn plan(runtime: &Runtime, policy: &Policy, more: &BTreeSet<Digest>) -> Result<Sweep> {
    let directory = runtime.store.directory();
    let mut roots = roots(directory)?;
    roots.extend(runtime.store.pins()?);
    roots.extend(more);
    let keep = Keep {
        now: SystemTime::now(),
        older_than: policy.older_than,
        size: policy.size,
        grace: policy.grace,
        roots,
        partial: vec![directory.join("host/uploads")],
    };
    Ok(runtime.plan_sweep(&keep)?)
}

/// Returns the digests that sessions, kernels and unfinished work in a store mention.
pub(crate) fn roots(store: &Path) -> Result<BTreeSet<Digest>> {
    let host = store.join("host");
    let mut files = list(&store.join("sessions"))?;
    for kernel in list(&host.join("kernels"))? {
        files.extend(list(&kernel)?);
    }
    let mut roots = BTreeSet::new();
    for file in files {
        roots.extend(mentioned(&read(&file)?));
    }
    for submission in works::submissions(&host.join(works::TABLE))? {
        roots.extend(mentioned(submission.as_bytes()));
    }
    // files of an earlier version that no host has read since, or that this version can't read
    for file in list(&host.join("works"))? {
        let work = read(&file)?;
        // a file that can't be read as JSON may be that of another version
        let has_ended = serde_json::from_slice(&work).is_ok_and(|work: Value| work.get("ended").is_some());
        if !has_ended {
            roots.extend(mentioned(&work));
        }
    }
    Ok(roots)
}

/// Converts garbage collections to an object, as `lockstep gc --json` prints it.
pub fn to_json(sweeps: &[Sweep], dry_run: bool) -> Value {
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

/// Returns the blobs of the shared store behind `store` that no record there needs, and that are older than `grace`.
pub fn plan_shared(store: &Store, grace: Duration) -> Result<Sweep> {
    if store.shared().is_none() {
        return Err(Error::user("there is no shared store").hint("select one with --shared s3://BUCKET/PREFIX"));
    }
    let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(store.plan_shared_sweep(before)?)
}

/// Collects garbage in the open stores of the host, at each interval, until the process ends.
pub(crate) async fn repeat(server: Arc<Server>, every: Duration) {
    let policy = Policy::of(&server.settings);
    loop {
        tokio::time::sleep(every).await;
        let namespaces: Vec<_> = server.namespaces().into_iter().collect();
        for (user, namespace) in namespaces {
            let quota = server.gate.quota(&namespace.owner);
            let policy = Policy {
                older_than: quota.gc_older_than().or(policy.older_than),
                size: quota.gc_keep_size().or(policy.size),
                ..policy
            };
            let swept = tokio::task::spawn_blocking(move || -> Result<Sweep> {
                let sweep = plan(&namespace.runtime, &policy, &BTreeSet::new())?;
                namespace.runtime.carry_out(&sweep, || ())?;
                Ok(sweep)
            });
            let swept = swept
                .await
                .unwrap_or_else(|e| Err(Error::host(format_args!("internal error: {e}"))));
            let user = user.as_deref().unwrap_or("-");
            match &swept {
                Ok(sweep) => tracing::info!(
                    user,
                    records = sweep.records.len(),
                    artifacts = sweep.artifacts.len(),
                    bytes = sweep.bytes(),
                    "garbage collection finished"
                ),
                Err(error) => tracing::error!(user, "garbage collection failed: {error}"),
            }
            server.metrics.swept(&swept);
        }
    }
}

/// Returns the content of a file; nothing if it was removed meanwhile, or is a directory.
fn read(file: &Path) -> Result<Vec<u8>> {
    match std::fs::read(file) {
        Err(error) if !is_gone(&error) => Err(Error::file("read", file, &error)),
        read => Ok(read.unwrap_or_default()),
    }
}

/// Returns the entries of a directory; none if it does not exist.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        entries => entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect()),
    };
    entries.map_err(|error| Error::file("list", directory, &error))
}

/// Returns whether the error says that a file does not exist, or not as one.
fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}
