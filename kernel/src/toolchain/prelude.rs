use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::Digest;

use super::base;
use super::dependency::Dependencies;
use super::error::PreludeError;
use super::lock::{self, Lock, Package, Set};
use super::making;
use super::ready::{CRATES, PreludeReady};
use super::shelf::{Shelf, WorkDir};
use super::sources::{self, Sources};
use super::watch::{Doing, Watch};
use super::{BuildProgress, Toolchain, flags, sdk};

/// The lock of the common crates.
const COMMON: &str = include_str!("common.json");

/// The crates that cells are compiled against: the SDK, whose sources are part of this program, and dependencies of `:dep`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prelude {
    dependencies: Dependencies,
    /// The notebook's directory, which paths in dependencies are relative to.
    notebook: PathBuf,
    /// The locks of the notebook, oldest first.
    locks: Vec<Lock>,
}

impl Prelude {
    /// Creates a prelude with the SDK, serde and serde_json.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a prelude with additional dependencies of a notebook in the directory `notebook`. Versions come from the
    /// matching lock in `locks`, else they are as close as possible to the last one.
    pub fn with(dependencies: Dependencies, notebook: &Path, locks: &[Lock]) -> Self {
        Self {
            dependencies,
            notebook: notebook.to_owned(),
            locks: locks.to_vec(),
        }
    }

    /// Creates the prelude with the common crates, in the versions locked in this program.
    pub fn common() -> Self {
        let common = common_lock();
        Self {
            dependencies: common.dependencies.clone(),
            notebook: PathBuf::new(),
            locks: vec![common],
        }
    }

    /// Returns the names of popular crates, for suggestions.
    pub fn known_crates() -> BTreeSet<String> {
        let sdk = sdk::PACKAGES.iter().map(|package| package.name.clone());
        common_lock().dependencies.into_keys().chain(sdk).collect()
    }

    /// Returns the prelude if it is already compiled. Reads a few small files, and the directories of path dependencies.
    pub fn ready(&self, toolchain: &Toolchain, cache: &Path) -> Option<PreludeReady> {
        self.find(&Shelf::new(toolchain, cache))
    }

    /// Returns the compiled prelude. Compiles it if needed (about a minute for the SDK, the first time), once for all processes
    /// that use `cache`.
    pub fn ensure(
        &self,
        toolchain: &Toolchain,
        cache: &Path,
        progress: &mut dyn FnMut(BuildProgress),
    ) -> Result<PreludeReady, PreludeError> {
        let mut tell = |doing| {
            if let Doing::Compiling(at) = doing {
                progress(at);
            }
        };
        let mut watch = Watch {
            interrupt: &|| false,
            tell: &mut tell,
        };
        self.make(toolchain, cache, &mut watch)
    }

    /// Like [`ensure`](Self::ensure), with callbacks. An interrupt takes effect within 100 ms; crates compiled so far are kept
    /// for the next time.
    pub fn make(&self, toolchain: &Toolchain, cache: &Path, watch: &mut Watch<'_>) -> Result<PreludeReady, PreludeError> {
        let shelf = Shelf::new(toolchain, cache);
        if let Some(ready) = self.find(&shelf) {
            return Ok(ready);
        }
        let _locked = shelf.lock(watch)?;
        if let Some(ready) = self.find(&shelf) {
            return Ok(ready);
        }
        if self.lock().is_some_and(|lock| self.is_of_common(lock)) {
            let common = Self::common();
            let ready = match common.own(&shelf) {
                Some(ready) => ready,
                None => common.build(toolchain, &shelf, watch)?,
            };
            if let Some(ready) = ready.naming(self.locked(&ready.packages, Set::Common)) {
                return Ok(ready);
            }
        }
        self.build(toolchain, &shelf, watch)
    }

    /// Finds the compiled prelude. The lock determines its set. Without a lock, the notebook's own set is preferred, so that
    /// existing notebooks don't change.
    fn find(&self, shelf: &Shelf) -> Option<PreludeReady> {
        let own = || self.own(shelf);
        let part_of = |whole: Self, set| {
            let whole = whole.own(shelf)?;
            whole.naming(self.locked(&whole.packages, set))
        };
        let plain = || part_of(Self::new(), Set::Plain);
        let common = || part_of(Self::common(), Set::Common);
        match self.lock() {
            Some(lock) if lock.set == Set::Plain => plain().or_else(own),
            Some(lock) if self.is_of_common(lock) => common(),
            Some(_) => own(),
            None if self.locks.iter().all(|lock| lock.set != Set::Own) => own().or_else(plain).or_else(common),
            None => own().or_else(plain),
        }
    }

    fn own(&self, shelf: &Shelf) -> Option<PreludeReady> {
        shelf.answer(&self.question(shelf, self.start()))
    }

    /// Returns the lock of exactly these dependencies.
    fn lock(&self) -> Option<&Lock> {
        self.locks.iter().rfind(|lock| lock.dependencies == self.dependencies)
    }

    /// Returns whether the lock was created with this program's common crates.
    fn is_of_common(&self, lock: &Lock) -> bool {
        lock.set == Set::Common && {
            let common = common_lock().packages;
            lock.packages.iter().all(|package| common.contains(package))
        }
    }

    /// Returns the packages whose versions are preferred.
    fn start(&self) -> &[Package] {
        let lock = self.lock().or(self.locks.last());
        lock.map_or(&[], |lock| &lock.packages)
    }

    fn set(&self) -> Set {
        match &self.dependencies {
            none if none.is_empty() => Set::Plain,
            own if *own == common_lock().dependencies => Set::Common,
            _ => Set::Own,
        }
    }

    /// Returns the digest of the request, computed without cargo.
    fn question(&self, shelf: &Shelf, start: &[Package]) -> Digest {
        let paths = self.dependencies.values().filter_map(|requirement| requirement.path.as_ref());
        let paths: Vec<_> = paths.map(|path| self.notebook.join(path)).collect();
        let asked = serde_json::json!([shelf.digest(), self.dependencies, paths, start]);
        Digest::of(asked.to_string())
    }

    fn build(&self, toolchain: &Toolchain, shelf: &Shelf, watch: &mut Watch<'_>) -> Result<PreludeReady, PreludeError> {
        let plain = match self.set() {
            Set::Own => Some(match Self::new().own(shelf) {
                Some(ready) => ready,
                None => Self::new().build(toolchain, shelf, watch)?,
            }),
            Set::Plain | Set::Common => None,
        };
        (watch.tell)(Doing::Resolving);
        let sources = Sources::find(toolchain, &self.dependencies, &self.notebook)?;
        let work = shelf.work()?;
        let manifest = self.write(&work, &sources)?;
        let metadata = making::resolve(toolchain, work.dir(), watch)?;
        let cargo_lock = work.read("Cargo.lock")?;
        let packages = packages(&cargo_lock, &sources)?;
        let lock = self.locked(&packages, self.set());
        let digest = Digest::of(format!("{}\n{manifest}\n{cargo_lock}", shelf.digest()));
        let questions = [self.start(), &lock.packages].map(|start| self.question(shelf, start));
        if let Some(ready) = shelf.ready(&digest) {
            shelf.remember(&questions, &digest, sources.digests()?)?;
            return Ok(ready);
        }
        let seed = shelf.seed(&work, &digest, &packages, watch.interrupt)?;
        making::fetch(toolchain, work.dir(), watch)?;
        let made = making::compile(toolchain, &work, &metadata, watch)?;
        let mut ready = PreludeReady {
            externs: making::externs(&metadata, &made)?,
            search: making::search(&made),
            identity: digest,
            base: work.dir().join(base::FILE),
            extension: None,
            libraries: making::libraries(&metadata, &made),
            packages,
            lock,
        };
        (watch.tell)(Doing::Joining);
        if let Some(plain) = plain {
            ready.extension = base::extend(toolchain, &plain, &ready, work.dir(), watch.interrupt)?;
        }
        if ready.extension.is_none() {
            base::build(toolchain, &ready, work.dir(), watch.interrupt)?;
        }
        let ready = shelf.keep(work, ready, seed.as_ref())?;
        shelf.remember(&questions, &digest, sources.digests()?)?;
        Ok(ready)
    }

    /// Writes the workspace. Returns its manifest.
    fn write(&self, work: &WorkDir, sources: &Sources) -> Result<String, PreludeError> {
        let manifest = self.manifest(sources)?;
        let written = |error: toml::ser::Error| unwritable("a lock", &error);
        let start = lock::merge(&sdk::PACKAGES, self.start());
        let cargo_lock = lock::write(&start).map_err(written)?;
        sdk::write(work.dir()).map_err(|source| PreludeError::Cache {
            path: work.dir().join(sdk::DIRECTORY),
            source,
        })?;
        for (path, text) in [
            ("Cargo.toml", &manifest),
            ("Cargo.lock", &cargo_lock),
            ("lib.rs", &String::new()),
        ] {
            work.write(path, text)?;
        }
        work.remove(sources::DIRECTORY)?;
        sources.copy(work.dir())?;
        Ok(manifest)
    }

    fn manifest(&self, sources: &Sources) -> Result<String, PreludeError> {
        let mut dependencies = toml::Table::new();
        for name in CRATES {
            let requirement = match name {
                sdk::NAME => vec![("package", sdk::PACKAGE.to_owned()), ("path", sdk::place())],
                // The SDK determines the version and the features.
                _ => vec![("version", "1".to_owned())],
            };
            let requirement = requirement.into_iter().map(|(key, value)| (key.to_owned(), value.into()));
            dependencies.insert(name.to_owned(), toml::Table::from_iter(requirement).into());
        }
        for (name, requirement) in &self.dependencies {
            let place = requirement
                .path
                .as_ref()
                .map(|path| sources.place(&self.notebook.join(path)))
                .transpose()?;
            let value = requirement.in_manifest(place.as_deref());
            dependencies.insert(name.clone(), value.map_err(|error| unwritable("a manifest", &error))?);
        }
        let dependencies = toml::Table::from_iter([("dependencies".to_owned(), dependencies.into())]);
        let dependencies = toml::to_string(&dependencies).map_err(|error| unwritable("a manifest", &error))?;
        let package = "[package]\nname = \"prelude\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n";
        let workspace = format!(
            "[workspace]\nexclude = [\"{}\", \"{}\"]\n",
            sources::DIRECTORY,
            sdk::DIRECTORY
        );
        Ok(format!("{package}{dependencies}{}{workspace}", flags::profile()))
    }

    /// Returns the lock of the requested dependencies, from all packages.
    pub(super) fn locked(&self, packages: &[Package], set: Set) -> Lock {
        let names = self.dependencies.iter().map(|(name, requirement)| requirement.package(name));
        Lock {
            dependencies: self.dependencies.clone(),
            set,
            packages: lock::closure(packages, &names.collect()),
            base: None,
        }
    }
}

/// Returns the packages that cargo resolved.
fn packages(cargo_lock: &str, sources: &Sources) -> Result<Vec<Package>, PreludeError> {
    let mut packages = lock::read(cargo_lock).map_err(|error| unwritable("a lock", &error))?;
    for package in packages.iter_mut().filter(|package| package.source.is_none()) {
        package.digest = sources.digest_of(&package.name);
    }
    Ok(packages)
}

fn unwritable(what: &'static str, problem: &dyn fmt::Display) -> PreludeError {
    PreludeError::Written {
        what,
        problem: problem.to_string(),
    }
}

fn common_lock() -> Lock {
    serde_json::from_str(COMMON).unwrap_or(Lock {
        dependencies: Dependencies::new(),
        set: Set::Common,
        packages: Vec::new(),
        base: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_locks_can_be_read() {
        assert!(sdk::PACKAGES.iter().any(|package| package.name == "serde_json"));
        let common: Lock = serde_json::from_str(COMMON).unwrap();
        assert_eq!(common.set, Set::Common);
        assert!(common.dependencies.keys().all(|name| common.package(name).is_some()));
        // Otherwise the SDK is recompiled for the common crates. The file is the lock of a new notebook with all of them.
        let merged = lock::merge(&sdk::PACKAGES, &common.packages);
        let is_kept = |known: &Package| {
            merged
                .iter()
                .any(|package| (&package.name, &package.version) == (&known.name, &known.version))
        };
        assert!(sdk::PACKAGES.iter().all(is_kept));
    }
}
