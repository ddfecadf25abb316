use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::Digest;

use super::base::{self, BaseError};
use super::cargo::CargoError;
use super::dependency::Dependencies;
use super::lock::{self, Lock, Package, Set};
use super::making::{self, Doing, Watch};
use super::ready::PreludeReady;
use super::shelf::{Shelf, Work};
use super::sources::{self, Sources, SourcesError};
use super::{BuildProgress, Toolchain, flags, sdk};

/// The crates that every cell can name.
pub(super) const CRATES: [&str; 3] = [sdk::NAME, "serde", "serde_json"];

/// The common crates, with the versions that they are compiled in.
const COMMON: &str = include_str!("common.json");

/// The crates that cells are compiled against: the SDK, whose sources are part of this program, and what `:dep` adds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prelude {
    dependencies: Dependencies,
    /// What paths in dependencies are relative to.
    notebook: PathBuf,
    /// What the notebook was locked to, oldest first.
    locks: Vec<Lock>,
}

/// Why a prelude can't be compiled.
#[derive(Debug, thiserror::Error)]
pub enum PreludeError {
    /// Cargo failed: no network, or a crate or version that is not there.
    #[error(transparent)]
    Cargo(CargoError),
    /// A crate can't be compiled.
    #[error("`{name}` can't be compiled{}\n{first}{}", if *.for_target { " for wasm32-wasip1, which cells are made for" } else { "" }, more(*.count))]
    Crate {
        /// the crate
        name: String,
        /// whether it is part of cells, not a tool that runs while they are compiled
        for_target: bool,
        /// the first error
        first: String,
        /// how many there are
        count: usize,
    },
    /// The crates can't be made one module.
    #[error(transparent)]
    Base(BaseError),
    /// A directory can't be used as a crate.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// A file of the cache can't be written or read.
    #[error("can't use {} in the cache: {source}\nhint: run `lockstep doctor`", path.display())]
    Cache {
        /// the file or directory
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// A manifest or a lock can't be read or written.
    #[error("can't make {what}: {problem}\nhint: run `lockstep doctor`")]
    Written {
        /// what
        what: &'static str,
        /// what is wrong
        problem: String,
    },
    /// Cargo did not say where a crate is.
    #[error("cargo did not compile the crate `{name}`\nhint: has it a library?")]
    NoCrate {
        /// the crate
        name: String,
    },
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        count => format!("\n({} more errors)", count - 1),
    }
}

impl From<CargoError> for PreludeError {
    fn from(error: CargoError) -> Self {
        match error {
            CargoError::Interrupted => Self::Interrupted,
            CargoError::Compile {
                first,
                count,
                package,
                library,
                ..
            } => Self::Crate {
                name: package_name(&package),
                for_target: library,
                first: first.trim_end().to_owned(),
                count,
            },
            error => Self::Cargo(error),
        }
    }
}

/// The name and version in cargo's id of a package: `registry+https://...#mio@1.0.0`, `path+file:///.../mio#1.0.0`.
fn package_name(id: &str) -> String {
    let (before, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, version)) => format!("{name} {version}"),
        None => format!("{} {fragment}", before.rsplit('/').next().unwrap_or_default()),
    }
}

impl From<BaseError> for PreludeError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Interrupted => Self::Interrupted,
            error => Self::Base(error),
        }
    }
}

impl Prelude {
    /// The SDK, serde and serde_json.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also these dependencies, of a notebook in the directory `notebook`, in the versions that one of `locks` says, or as near
    /// to the last of them as can be.
    pub fn with(dependencies: Dependencies, notebook: &Path, locks: &[Lock]) -> Self {
        Self {
            dependencies,
            notebook: notebook.to_owned(),
            locks: locks.to_vec(),
        }
    }

    /// The common crates, in the versions that come with this program.
    pub fn common() -> Self {
        let common = common_lock();
        Self {
            dependencies: common.dependencies.clone(),
            notebook: PathBuf::new(),
            locks: vec![common],
        }
    }

    /// Names of crates that people often mean.
    pub fn known_crates() -> BTreeSet<String> {
        let sdk = sdk::PACKAGES.iter().map(|package| package.name.clone());
        common_lock().dependencies.into_keys().chain(sdk).collect()
    }

    /// The compiled prelude, if it was compiled before. Reads a few small files, and the directories that dependencies name.
    pub fn ready(&self, toolchain: &Toolchain, cache: &Path) -> Option<PreludeReady> {
        self.find(&Shelf::new(toolchain, cache))
    }

    /// The compiled prelude; compiled now if need be (about a minute for the SDK, the first time), once for all processes that use `cache`.
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

    /// Like [`ensure`](Self::ensure), watched. An interrupt is heeded within 100 ms, and what is compiled then is kept for the next time.
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

    /// What was compiled before. The lock says as part of what; without one, what the notebook alone asked for comes first, so that nothing changes
    /// under it.
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

    /// The lock of exactly these dependencies.
    fn lock(&self) -> Option<&Lock> {
        self.locks.iter().rfind(|lock| lock.dependencies == self.dependencies)
    }

    /// Whether the lock was made with the common crates that this program knows.
    fn is_of_common(&self, lock: &Lock) -> bool {
        lock.set == Set::Common && {
            let common = common_lock().packages;
            lock.packages.iter().all(|package| common.contains(package))
        }
    }

    /// The packages that versions are taken from where they fit.
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

    /// The digest of what is asked for, without asking cargo anything.
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

    /// Writes the workspace. Gives its manifest.
    fn write(&self, work: &Work, sources: &Sources) -> Result<String, PreludeError> {
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
                // The version and the features are those of the SDK.
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

    /// The lock of what is asked for, out of all packages.
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

/// What cargo has resolved to.
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
    fn the_id_of_a_package_has_its_name() {
        assert_eq!(package_name("registry+https://example.org/index#mio@1.0.0"), "mio 1.0.0");
        assert_eq!(package_name("path+file:///a/b/mio#1.0.0"), "mio 1.0.0");
    }

    #[test]
    fn what_comes_with_the_program_can_be_read() {
        assert!(sdk::PACKAGES.iter().any(|package| package.name == "serde_json"));
        let common: Lock = serde_json::from_str(COMMON).unwrap();
        assert_eq!(common.set, Set::Common);
        assert!(common.dependencies.keys().all(|name| common.package(name).is_some()));
        // Else the SDK is compiled anew for the common crates. The file is the lock of a notebook that had none and asks for them all.
        let merged = lock::merge(&sdk::PACKAGES, &common.packages);
        let is_kept = |known: &Package| {
            merged
                .iter()
                .any(|package| (&package.name, &package.version) == (&known.name, &known.version))
        };
        assert!(sdk::PACKAGES.iter().all(is_kept));
    }
}
