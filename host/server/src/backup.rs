//! Copies of a store, with the data of a host and its users.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_runtime::run::Runtime;
use lockstep_runtime::store::{Copied, Durability, Store};
use lockstep_view::error::{Error, Result};

use crate::sweep::{list, roots};
use crate::{namespace, works};

/// The file that makes a directory a backup. It contains the path of the store.
const MARK: &str = "backup-of";

/// Names in a store that are not copied as files: objects, which are copied in their order; files of running processes; what can be rebuilt;
/// the stores of users, which are copied as stores.
const OWN: [&str; 10] = [
    MARK,
    "blobs",
    "records",
    "staging",
    "leases",
    "version",
    "index.sqlite",
    "index.sqlite-wal",
    "index.sqlite-shm",
    "users",
];

/// Entries of the host's directory that are not copied as plain files: kernels and the database, which are copied consistently, partial uploads, and
/// the lock file.
const HOST: [&str; 6] = [
    "kernels",
    "uploads",
    "works.sqlite",
    "works.sqlite-wal",
    "works.sqlite-shm",
    namespace::LOCK,
];

/// Number of attempts to copy a kernel that changes meanwhile.
const ATTEMPTS: usize = 100;

/// Copies the store in `source`, and those of a host's users, to `target`. `open` creates a runtime over a store.
pub fn backup(source: &Path, target: &Path, open: impl Fn(Store) -> Result<Runtime>) -> Result<Copied> {
    let canonical = |path: &Path| path.canonicalize().map_err(|e| Error::file("find", path, &e));
    let from = canonical(source)?;
    fs::create_dir_all(target).map_err(|e| Error::file("create", target, &e))?;
    let to = canonical(target)?;
    if to.starts_with(&from) || from.starts_with(&to) {
        let error = format_args!("{} and {} contain each other", from.display(), to.display());
        return Err(Error::user(error).hint("give a directory outside of the store"));
    }
    let name = from.display().to_string();
    let mark = to.join(MARK);
    let is_empty = fs::read_dir(&to).map_err(|e| Error::file("list", &to, &e))?.next().is_none();
    if !is_empty && fs::read_to_string(&mark).ok().as_deref() != Some(&name) {
        let error = format_args!("{} is neither empty nor a backup of {name}", to.display());
        return Err(Error::user(error).hint("give a new directory"));
    }
    // a restored store is no backup, so that nothing overwrites it
    if !from.join(MARK).exists() {
        fs::write(&mark, &name).map_err(|e| Error::file("write", &mark, &e))?;
    }
    let mut copied = copy(&from, &to, &open)?;
    for user in namespace::users(&from) {
        let below = |store: &Path| namespace::user_directory(store, &user);
        let more = copy(&below(&from), &below(&to), &open)?;
        copied.artifacts += more.artifacts;
        copied.bytes += more.bytes;
        copied.records += more.records;
        copied.damaged.extend(more.damaged);
    }
    Ok(copied)
}

fn copy(from: &Path, to: &Path, open: impl Fn(Store) -> Result<Runtime>) -> Result<Copied> {
    let runtime = open(Store::open(from)?)?;
    let target = Store::open(to)?.lasting(Durability::All)?;
    // Copy files before objects, so that every object that a file refers to is copied, too. Copy kernels before sessions: the journal of a
    // kernel has the cells that its session may lack.
    copy_kernels(&from.join("host/kernels"), &to.join("host/kernels"))?;
    copy_files(from, to, &|below| {
        let is_own = OWN.iter().any(|own| below == Path::new(own));
        is_own || HOST.iter().any(|name| below == Path::new("host").join(name))
    })?;
    copy_works(&from.join("host").join(works::TABLE), &to.join("host").join(works::TABLE))?;
    for root in roots(to)? {
        // from here on, no sweep removes it
        runtime.store.contains(&root)?;
    }
    Ok(runtime.copy_to(&target, |_| ())?)
}

/// Copies the directory of each kernel as it was at one moment.
fn copy_kernels(from: &Path, to: &Path) -> Result<()> {
    for kernel in list(from)? {
        let Some(name) = kernel.file_name() else { continue };
        let (journal, to) = (kernel.join("kernel.jsonl"), to.join(name));
        let mut left = ATTEMPTS;
        loop {
            let before = fs::read(&journal).unwrap_or_default();
            if to.exists() {
                fs::remove_dir_all(&to).map_err(|e| Error::file("replace", &to, &e))?;
            }
            copy_files(&kernel, &to, &|_| false)?;
            // each change of the other files comes with a change of the journal
            if fs::read(&journal).unwrap_or_default() == before {
                break;
            }
            left -= 1;
            if left == 0 {
                let error = format_args!("the kernel in {} changes too often to copy it", kernel.display());
                return Err(Error::host(error).hint("run the backup again when the kernel is idle"));
            }
        }
    }
    Ok(())
}

/// Copies the table of work items as it is at one moment.
fn copy_works(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    if to.exists() {
        fs::remove_file(to).map_err(|e| Error::file("replace", to, &e))?;
    }
    works::copy(from, to)
}

/// Copies the files below `from`, except for those that `skip` names by their path below it. Ignores files that are removed meanwhile.
fn copy_files(from: &Path, to: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<()> {
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for path in list(&from.join(&directory))? {
            let Some(name) = path.file_name() else { continue };
            let below = directory.join(name);
            let Ok(stat) = fs::symlink_metadata(&path) else { continue };
            if skip(&below) {
                continue;
            }
            if stat.is_dir() {
                open.push(below);
            } else if stat.is_file() {
                let to = to.join(&below);
                copy_file(&path, &to).map_err(|e| Error::file("copy", &path, &e))?;
            }
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    // an earlier copy may be read-only
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied.map(drop),
    }
}
