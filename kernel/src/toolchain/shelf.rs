//! The cache of compiled preludes.
//!
//! ```text
//! prelude/<program and toolchain>/lock            locked by the compiling process
//!                                 work/           the build in progress; resumed after an interrupt
//!                                 sets/<digest>/  a compiled set; never changes
//!                                 asked/<digest>  the set for a request
//! ```
//!
//! Everything is compiled in `work`, because compilers record paths, and renamed when complete. A new set starts with a copy of
//! the largest set that contains only packages of the new one. So crates are compiled once, and a set is never affected by
//! build scripts of crates that it does not contain. Unchanged files are shared afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_runtime::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::error::PreludeError;
use super::lock::Package;
use super::ready::PreludeReady;
use super::watch::{Doing, Watch};
use super::{Toolchain, base, flags, link, sdk, sources};
use crate::file::write_whole;

/// How often an interrupt is checked.
const POLL: Duration = Duration::from_millis(20);

/// The file that describes a set.
const READY: &str = "ready.json";

/// The file that describes the build in `work`.
const DOING: &str = "doing.json";

/// The preludes of this program with one toolchain.
pub struct Shelf {
    dir: PathBuf,
    digest: Digest,
}

/// The directory in which a prelude is compiled.
pub struct WorkDir(PathBuf);

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    set: Digest,
    seed: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    set: Digest,
    /// The digests of files and directories for which the answer is valid.
    sources: BTreeMap<PathBuf, Digest>,
}

impl Shelf {
    pub fn new(toolchain: &Toolchain, cache: &Path) -> Self {
        let mut hasher = Hasher::default();
        let mut take = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        take(&toolchain.identity().to_string());
        flags::crate_flags().iter().for_each(|flag| take(flag));
        flags::ENVIRONMENT.iter().for_each(|(name, value)| {
            take(name);
            take(value);
        });
        take(&sdk::DIGEST.to_string());
        take(&flags::profile());
        take(base::SOURCE);
        base::MATH.iter().for_each(|name| take(name));
        take(&link::MOST_EXTENSION_CODE.to_string());
        let digest = hasher.finish();
        Self {
            dir: cache.join("prelude").join(digest.short()),
            digest,
        }
    }

    /// Returns the digest of everything that all preludes depend on.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    fn set(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sets").join(digest.short())
    }

    fn asked(&self, question: &Digest) -> PathBuf {
        self.dir.join("asked").join(question.short())
    }

    /// Returns the set if it exists and is complete.
    pub fn ready(&self, digest: &Digest) -> Option<PreludeReady> {
        read_json(&self.set(digest).join(READY)).filter(PreludeReady::is_whole)
    }

    /// Returns the set for a request.
    pub fn answer(&self, question: &Digest) -> Option<PreludeReady> {
        let Answer { set, sources } = read_json(&self.asked(question))?;
        let is_same = |(path, digest): (&PathBuf, &Digest)| sources::digest(path).is_ok_and(|now| now == *digest);
        sources.iter().all(is_same).then(|| self.ready(&set)).flatten()
    }

    /// Records the set for requests, valid while the sources are unchanged.
    pub fn remember(&self, questions: &[Digest], set: &Digest, sources: BTreeMap<PathBuf, Digest>) -> Result<(), PreludeError> {
        let answer = Answer { set: *set, sources };
        questions
            .iter()
            .try_for_each(|question| write_json(&self.asked(question), &answer))
    }

    /// Locks the cache against other processes until the file is dropped.
    pub fn lock(&self, watch: &mut Watch<'_>) -> Result<File, PreludeError> {
        let path = self.dir.join("lock");
        let failed = |source| PreludeError::Cache {
            path: path.clone(),
            source,
        };
        let file = fs::create_dir_all(&self.dir)
            .and_then(|()| File::create(&path))
            .map_err(failed)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if (watch.interrupt)() => return Err(PreludeError::Interrupted),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        (watch.tell)(Doing::Waiting);
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
    }

    /// Returns the directory to compile in. The lock must be held.
    pub fn work(&self) -> Result<WorkDir, PreludeError> {
        let dir = self.dir.join("work");
        fs::create_dir_all(&dir).map_err(cache(&dir))?;
        Ok(WorkDir(dir))
    }

    /// Copies already compiled crates of a set with these packages into `work`. Returns the set that they were copied from.
    pub fn seed(
        &self,
        work: &WorkDir,
        set: &Digest,
        packages: &[Package],
        interrupt: &dyn Fn() -> bool,
    ) -> Result<Option<Digest>, PreludeError> {
        let marker = work.0.join(DOING);
        let begun: Option<Begun> = read_json(&marker);
        if let Some(begun) = begun.filter(|begun| begun.set == *set) {
            return Ok(begun.seed);
        }
        work.remove(DOING)?;
        work.remove("target")?;
        let seed = self.largest_within(packages);
        if let Some((_, dir)) = &seed {
            let target = work.0.join("target");
            copy(&dir.join("target"), &target, interrupt).map_err(cache(&target))?;
        }
        let seed = seed.map(|(digest, _)| digest);
        write_json(&marker, &Begun { set: *set, seed })?;
        Ok(seed)
    }

    /// Returns the set with the most requested packages that are all in `packages`. Other packages of the set belong to the
    /// SDK. Path dependencies don't count.
    fn largest_within(&self, packages: &[Package]) -> Option<(Digest, PathBuf)> {
        let id = |package: &Package| (package.name.clone(), package.version.clone(), package.source.clone());
        let wanted: BTreeSet<_> = packages.iter().map(id).collect();
        let dirs = fs::read_dir(self.dir.join("sets")).into_iter().flatten().flatten();
        let sets = dirs.filter_map(|entry| {
            let ready: PreludeReady = read_json(&entry.path().join(READY))?;
            let fetched = ready.lock.packages.iter().filter(|package| package.source.is_some());
            let fits = fetched.clone().all(|package| wanted.contains(&id(package)));
            fits.then(|| (fetched.count(), ready.identity, entry.path()))
        });
        sets.max().map(|(_, digest, dir)| (digest, dir))
    }

    /// Moves the compiled set to its final place.
    pub fn keep(&self, work: WorkDir, ready: PreludeReady, seed: Option<&Digest>) -> Result<PreludeReady, PreludeError> {
        let set = self.set(&ready.identity);
        let ready = moved(ready, &work.0, &set);
        work.remove(DOING)?;
        write_json(&work.0.join(READY), &ready)?;
        if let Some(seed) = seed {
            // Sharing is optional.
            let _ = share(&work.0.join("target"), &self.set(seed).join("target"));
        }
        let _ = fs::remove_dir_all(&set);
        fs::create_dir_all(self.dir.join("sets"))
            .and_then(|()| fs::rename(&work.0, &set))
            .map_err(cache(&set))?;
        Ok(ready)
    }
}

impl WorkDir {
    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn read(&self, name: &str) -> Result<String, PreludeError> {
        let path = self.0.join(name);
        fs::read_to_string(&path).map_err(cache(&path))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<(), PreludeError> {
        let path = self.0.join(name);
        sources::write(&path, text.as_bytes()).map_err(cache(&path))
    }

    /// Removes a file, or a directory and its content.
    pub fn remove(&self, name: &str) -> Result<(), PreludeError> {
        let path = self.0.join(name);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cache(&path)(error)),
            _ => Ok(()),
        }
    }
}

fn cache(path: &Path) -> impl Fn(io::Error) -> PreludeError {
    move |source| match source.kind() {
        io::ErrorKind::Interrupted => PreludeError::Interrupted,
        _ => PreludeError::Cache {
            path: path.to_owned(),
            source,
        },
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PreludeError> {
    let json = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    json.and_then(|json| write_whole(path, &json)).map_err(cache(path))
}

/// Returns the prelude with paths below `from` moved to `to`.
fn moved(mut ready: PreludeReady, from: &Path, to: &Path) -> PreludeReady {
    let path = |path: &Path| {
        path.strip_prefix(from)
            .map_or_else(|_| path.to_owned(), |below| to.join(below))
    };
    ready.externs.values_mut().for_each(|file| *file = path(file));
    ready
        .libraries
        .iter_mut()
        .for_each(|library| library.path = path(&library.path));
    ready.base = path(&ready.base);
    ready.extension = ready.extension.as_deref().map(path);
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    ready.search = ready.search.iter().map(|dir| dir.replacen(&*from, &to, 1)).collect();
    ready
}

/// Copies directories below `from` that are missing below `to`, each atomically.
pub fn copy_parts(from: &Path, to: &Path, parts: &[PathBuf], interrupt: &dyn Fn() -> bool) -> Result<(), PreludeError> {
    for part in parts {
        let place = to.join(part);
        let dir = place.parent().unwrap_or(to);
        let copied = fs::create_dir_all(dir).and_then(|()| {
            let scratch = tempfile::tempdir_in(dir)?;
            let whole = scratch.path().join("whole");
            copy(&from.join(part), &whole, interrupt)?;
            match fs::rename(&whole, &place) {
                // Another process was faster.
                Err(_) if place.exists() => Ok(()),
                renamed => renamed,
            }
        });
        copied.map_err(cache(&place))?;
    }
    Ok(())
}

/// Copies a directory with the modification times of its files, which cargo compares.
fn copy(from: &Path, to: &Path, interrupt: &dyn Fn() -> bool) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to, interrupt)?;
        } else if interrupt() {
            return Err(io::ErrorKind::Interrupted.into());
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), &to)?;
            File::options()
                .write(true)
                .open(&to)?
                .set_modified(entry.metadata()?.modified()?)?;
        }
    }
    Ok(())
}

/// Replaces files of a directory by hard links to identical files of another.
fn share(dir: &Path, with: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, other) = (entry.path(), with.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            share(&path, &other)?;
        } else if entry.file_type()?.is_file() && is_same(&path, &other).unwrap_or(false) {
            let shared = path.with_extension("shared");
            fs::hard_link(&other, &shared)?;
            fs::rename(&shared, &path)?;
        }
    }
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    let (of_a, of_b) = (a.metadata()?, b.metadata()?);
    if of_a.len() != of_b.len() || of_a.modified()? != of_b.modified()? {
        return Ok(false);
    }
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut of_a, mut of_b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = a.read(&mut of_a)?;
        b.read_exact(&mut of_b[..read])?;
        if read == 0 || of_a[..read] != of_b[..read] {
            return Ok(read == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_keeps_times_and_shares_unchanged_files() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        sources::write(&from.join("x/one"), b"1").unwrap();
        sources::write(&from.join("two"), b"2").unwrap();
        copy(&from, &to, &|| false).unwrap();
        let file = |dir: &Path, name: &str| dir.join(name).metadata().unwrap();
        assert_eq!(
            file(&to, "x/one").modified().unwrap(),
            file(&from, "x/one").modified().unwrap()
        );
        fs::write(to.join("two"), "3").unwrap();
        share(&to, &from).unwrap();
        assert_eq!(file(&to, "x/one").ino(), file(&from, "x/one").ino());
        assert_ne!(file(&to, "two").ino(), file(&from, "two").ino());
        assert_eq!(fs::read_to_string(to.join("two")).unwrap(), "3");
    }
}
