//! Leases: the artifacts and records that running work uses. A sweep keeps them.
//!
//! A process that uses a store has the file `leases/<process>`, and holds a lock on it. The operating system releases the lock when the
//! process ends, also if it is killed. A lease of this process is the file `leases/<process>.<number>`: a line with the 64 hexadecimal
//! digits of each object that the work has used.
//!
//! A line is written under a shared lock on `leases/gate`, before the object is looked for. A sweep removes objects under an exclusive lock
//! on it, after reading the leases. So work that finds an object keeps it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::StoreError;
use crate::digest::Digest;

const GATE: &str = "gate";

/// The leases of this process in a store.
pub(super) struct Leases {
    directory: PathBuf,
    process: Mutex<Option<Process>>,
    next: AtomicU64,
}

/// The file of this process. It exists from the first use of the store on.
struct Process {
    gate: File,
    locked: NamedTempFile,
}

/// What a piece of work uses, until it is dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    number: u64,
    held: Mutex<BTreeSet<Digest>>,
}

impl Leases {
    pub(super) fn new(store: &Path) -> Self {
        Self {
            directory: directory(store),
            process: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Returns a new lease, which holds nothing yet.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        Lease {
            leases: self.clone(),
            number: self.next.fetch_add(1, Ordering::Relaxed),
            held: Mutex::default(),
        }
    }

    fn write(&self, number: u64, digest: &Digest) -> io::Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let process = match &mut *process {
            Some(process) => process,
            none => none.insert(Process::start(&self.directory)?),
        };
        process.gate.lock_shared()?;
        let file = OpenOptions::new().append(true).create(true).open(process.path(number));
        let written = file.and_then(|mut file| file.write_all(format!("{}\n", digest.hex()).as_bytes()));
        process.gate.unlock()?;
        written
    }
}

impl Process {
    fn start(directory: &Path) -> io::Result<Self> {
        let gate = gate(directory)?;
        // otherwise a sweep could take the file for that of a dead process before it is locked
        gate.lock_shared()?;
        let locked = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(16)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        locked.as_file().lock()?;
        gate.unlock()?;
        Ok(Self { gate, locked })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.locked.path().with_extension(number.to_string())
    }
}

impl Lease {
    /// Adds an object to the lease. Afterwards, a sweep removes it only if it has done so already.
    pub(super) fn hold(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.contains(digest) {
            let written = self.leases.write(self.number, digest);
            written.map_err(StoreError::file("write a lease in", &self.leases.directory))?;
            held.insert(*digest);
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let process = self.leases.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = &*process {
            // a file that remains is removed after the process has ended
            let _ = fs::remove_file(process.path(self.number));
        }
    }
}

/// Returns what the leases of running processes hold.
pub(super) fn held(store: &Path) -> Result<BTreeSet<Digest>, StoreError> {
    let mut held = BTreeSet::new();
    each(store, |path, is_alive| {
        if is_alive {
            // one that was dropped meanwhile holds nothing
            let text = fs::read_to_string(path).unwrap_or_default();
            held.extend(text.lines().filter_map(|line| Digest::from_hex(line).ok()));
        }
    })?;
    Ok(held)
}

/// Keeps work from using further objects until it is dropped.
pub(super) struct Closed(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

/// Waits for the gate and closes it. Removes the leases of processes that have ended.
pub(super) fn close(store: &Path) -> Result<Closed, StoreError> {
    let directory = directory(store);
    let gate = gate(&directory).and_then(|gate| gate.lock().map(|()| gate));
    let gate = gate.map_err(StoreError::file("lock", directory.join(GATE)))?;
    each(store, |path, is_alive| {
        if !is_alive {
            // one that remains does no harm
            let _ = fs::remove_file(path);
        }
    })?;
    Ok(Closed(gate))
}

/// Calls `act` with each file of a process and of its leases, and whether the process is running.
fn each(store: &Path, mut act: impl FnMut(&Path, bool)) -> Result<(), StoreError> {
    let directory = directory(store);
    let failed = || StoreError::file("list", &directory);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed()(source)),
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(failed())?;
    paths.retain(|path| path.file_name().is_some_and(|name| name != GATE));
    // a process before its leases
    paths.sort();
    let mut process: Option<(PathBuf, bool)> = None;
    for path in paths {
        let own = path.with_extension("");
        let is_alive = match &process {
            Some((known, is_alive)) if *known == own => *is_alive,
            _ => is_locked(&own).map_err(StoreError::file("lock", &own))?,
        };
        act(&path, is_alive);
        process = Some((own, is_alive));
    }
    Ok(())
}

fn is_locked(path: &Path) -> io::Result<bool> {
    match File::open(path).map(|file| file.try_lock()) {
        Ok(Ok(())) => Ok(false),
        Ok(Err(TryLockError::WouldBlock)) => Ok(true),
        Ok(Err(TryLockError::Error(error))) => Err(error),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn gate(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let gate = directory.join(GATE);
    OpenOptions::new().append(true).create(true).open(gate)
}

fn directory(store: &Path) -> PathBuf {
    store.join("leases")
}
