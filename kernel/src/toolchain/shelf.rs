//! Where compiled preludes lie.
//!
//! ```text
//! prelude/<program and toolchain>/lock            held by whoever compiles
//!                                 work/           what is being compiled; what an interrupt leaves is gone on with
//!                                 sets/<digest>/  what is compiled; never changes
//!                                 asked/<digest>  which set answers a question
//! ```
//!
//! Everything is compiled in `work`, because compilers write down where they are, and renamed when it is whole. A set begins with a copy of the
//! largest one that holds nothing else than it needs itself: so crates are compiled once, and no build script has ever had access to
//! what belongs to a set without its crate. Files that did not change are afterwards shared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::lock::Package;
use super::making::{Doing, Watch};
use super::prelude::PreludeError;
use super::ready::PreludeReady;
use super::{Toolchain, base, flags, link, sdk, sources};
use crate::file::write_whole;

/// How long an interrupt may go unnoticed.
const POLL: Duration = Duration::from_millis(20);

/// The file of a set that says what is in it.
const READY: &str = "ready.json";

/// The file in `work` that says what is being compiled.
const DOING: &str = "doing.json";

/// The time that sources are given (2006-07-24, as cargo gives those of packages): cargo goes by it, and equal sources must be equally old for a
/// set to be seeded with what is compiled of another.
const WRITTEN: u64 = 1_153_704_088;

/// The preludes that this program makes with one toolchain.
pub struct Shelf {
    dir: PathBuf,
    digest: Digest,
}

/// The directory in which a prelude is compiled.
pub struct Work(PathBuf);

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    set: Digest,
    seed: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    set: Digest,
    /// Files and directories that it holds for, beside this program and what was fetched.
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

    /// The digest of what all preludes are made from.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    fn set(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sets").join(digest.short())
    }

    fn asked(&self, question: &Digest) -> PathBuf {
        self.dir.join("asked").join(question.short())
    }

    /// The set, if it is there and whole.
    pub fn ready(&self, digest: &Digest) -> Option<PreludeReady> {
        read_json(&self.set(digest).join(READY)).filter(PreludeReady::is_whole)
    }

    /// The set that answers a question.
    pub fn answer(&self, question: &Digest) -> Option<PreludeReady> {
        let Answer { set, sources } = read_json(&self.asked(question))?;
        let is_same = |(path, digest): (&PathBuf, &Digest)| sources::digest(path).is_ok_and(|now| now == *digest);
        sources.iter().all(is_same).then(|| self.ready(&set)).flatten()
    }

    /// From now on, the set answers the questions, as long as the sources are the same.
    pub fn remember(&self, questions: &[Digest], set: &Digest, sources: BTreeMap<PathBuf, Digest>) -> Result<(), PreludeError> {
        let answer = Answer { set: *set, sources };
        questions
            .iter()
            .try_for_each(|question| write_json(&self.asked(question), &answer))
    }

    /// Holds other processes off until the file is dropped.
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

    /// The directory to compile in. The lock must be held.
    pub fn work(&self) -> Result<Work, PreludeError> {
        let dir = self.dir.join("work");
        fs::create_dir_all(&dir).map_err(cache(&dir))?;
        Ok(Work(dir))
    }

    /// Puts into `work` what is compiled already of a set with these packages. Gives the set that it was taken from.
    pub fn seed(
        &self,
        work: &Work,
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

    /// The set that asked for the most packages, all of them among these. All that it has beside them is of the SDK; directories are the user's own.
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

    /// Gives what is compiled its place.
    pub fn keep(&self, work: Work, ready: PreludeReady, seed: Option<&Digest>) -> Result<PreludeReady, PreludeError> {
        let set = self.set(&ready.identity);
        let ready = moved(ready, &work.0, &set);
        work.remove(DOING)?;
        write_json(&work.0.join(READY), &ready)?;
        if let Some(seed) = seed {
            // Whatever can't be shared stays as it is.
            let _ = share(&work.0.join("target"), &self.set(seed).join("target"));
        }
        let _ = fs::remove_dir_all(&set);
        fs::create_dir_all(self.dir.join("sets"))
            .and_then(|()| fs::rename(&work.0, &set))
            .map_err(cache(&set))?;
        Ok(ready)
    }
}

impl Work {
    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn read(&self, name: &str) -> Result<String, PreludeError> {
        let path = self.0.join(name);
        fs::read_to_string(&path).map_err(cache(&path))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<(), PreludeError> {
        let path = self.0.join(name);
        write(&path, text.as_bytes()).map_err(cache(&path))
    }

    /// Removes a file, or a directory with all that is in it.
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

/// Writes a file that is as old as all sources.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, bytes)?;
    File::options()
        .write(true)
        .open(path)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(WRITTEN))
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

/// The same with every path below `from` below `to`.
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

/// Copies directories below `from` to where they are not yet below `to`, each as a whole or not at all.
pub fn copy_parts(from: &Path, to: &Path, parts: &[PathBuf], interrupt: &dyn Fn() -> bool) -> Result<(), PreludeError> {
    for part in parts {
        let place = to.join(part);
        let dir = place.parent().unwrap_or(to);
        let copied = fs::create_dir_all(dir).and_then(|()| {
            let scratch = tempfile::tempdir_in(dir)?;
            let whole = scratch.path().join("whole");
            copy(&from.join(part), &whole, interrupt)?;
            match fs::rename(&whole, &place) {
                // Another process was first.
                Err(_) if place.exists() => Ok(()),
                renamed => renamed,
            }
        });
        copied.map_err(cache(&place))?;
    }
    Ok(())
}

/// Copies a directory, with the times of its files: cargo goes by them.
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

/// Replaces files of a directory by those of another that hold the same.
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
    fn a_copy_keeps_times_and_is_shared_where_it_did_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        write(&from.join("x/one"), b"1").unwrap();
        write(&from.join("two"), b"2").unwrap();
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
