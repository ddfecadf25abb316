//! Garbage collection of a store, and of the users' stores in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_runtime::store::{Keep, Sweep};
use lockstep_view::artifacts::mentioned;
use lockstep_view::error::{Error, Result};
use serde_json::Value;

use crate::namespace;

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

/// Returns the directories of the stores in `store`: itself, and those of a host's users.
pub fn stores(store: &Path) -> Vec<PathBuf> {
    let users = namespace::users(store).into_iter();
    let own = users.map(|user| namespace::user_directory(store, &user));
    std::iter::once(store.to_owned()).chain(own).collect()
}

/// Returns the objects of a store that are not needed, by pins, sessions, a host's kernels and unfinished work, `roots` and running processes.
pub fn plan(runtime: &Runtime, policy: &Policy, roots: &BTreeSet<Digest>) -> Result<Sweep> {
    let Some(directory) = runtime.store.directory() else {
        return Ok(Sweep::default());
    };
    let host = directory.join("host");
    let mut roots = roots.clone();
    roots.extend(runtime.store.pins()?);
    let sessions = files(&directory.join("sessions"))?;
    let kernels = files(&host.join("kernels"))?.into_iter();
    let kernels = kernels.map(|kernel| files(&kernel)).collect::<Result<Vec<_>>>()?;
    for file in sessions.iter().chain(kernels.iter().flatten()) {
        roots.extend(mentioned(&read(file)?));
    }
    for file in files(&host.join("works"))? {
        let work = read(&file)?;
        // a file that can't be read as JSON may be that of another version
        let has_ended = serde_json::from_slice(&work).is_ok_and(|work: Value| work.get("ended").is_some());
        if !has_ended {
            roots.extend(mentioned(&work));
        }
    }
    let keep = Keep {
        now: SystemTime::now(),
        older_than: policy.older_than,
        size: policy.size,
        grace: policy.grace,
        roots,
        partial: vec![host.join("uploads")],
    };
    Ok(runtime.plan_sweep(&keep)?)
}

/// Returns the content of a file; nothing if it was removed meanwhile.
fn read(file: &Path) -> Result<Vec<u8>> {
    match std::fs::read(file) {
        Err(error) if !is_gone(&error) => Err(Error::file("read", file, &error)),
        read => Ok(read.unwrap_or_default()),
    }
}

/// Returns the entries of a directory; none if it does not exist.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if !is_gone(&error) => return Err(Error::file("list", directory, &error)),
        entries => entries.into_iter().flatten(),
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    paths.map_err(|error| Error::file("list", directory, &error))
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}
