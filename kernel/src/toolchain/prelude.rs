use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::{Digest, Hasher};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::base::{self, BaseError};
use super::cargo::{self, CargoError, Made, Metadata};
use super::confine::Confinement;
use super::dependency::{Dependencies, Requirement};
use super::lock::{self, Lock, Package, Set};
use super::shelf::{Shelf, Work};
use super::sources::{self, Sources, SourcesError};
use super::{BuildProgress, TARGET, Toolchain, flags};

pub(super) mod sdk {
    //! `WORKSPACE`: the manifest of a workspace that holds only the SDK. `FILES`: its other files, by path, with a `Cargo.lock`.
    //! From kernel/build.rs.
    include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
}

/// The crates that every cell can name.
const CRATES: [&str; 3] = ["lockstep", "serde", "serde_json"];

/// The common crates, with the versions that they are compiled in.
const COMMON: &str = include_str!("common.json");

/// The time that sources are given (2006-07-24, as cargo gives those of packages): cargo goes by it, and equal sources must be equally old for a
/// set to be seeded with what is compiled of another.
const WRITTEN: u64 = 1_153_704_088;

/// The crates that cells are compiled against: the SDK, whose sources are part of this program, and what `:dep` adds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prelude {
    dependencies: Dependencies,
    /// What paths in dependencies are relative to.
    notebook: PathBuf,
    /// What the notebook was locked to, oldest first.
    locks: Vec<Lock>,
}

/// A prelude that is compiled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreludeReady {
    /// The crates that cells can name, with their compiled form.
    pub externs: BTreeMap<String, PathBuf>,
    /// Where rustc looks for what those need, as `-L` takes it.
    pub search: BTreeSet<String>,
    /// The digest of all that these crates were made from: sources, versions, flags, toolchain.
    pub identity: Digest,
    /// The module of all of them, that cells are based on.
    pub base: PathBuf,
    /// All crates that are compiled.
    pub libraries: Vec<Library>,
    /// The versions.
    pub lock: Lock,
    /// Files and directories that it was made from, beside this program and what was fetched.
    pub sources: BTreeMap<PathBuf, Digest>,
}

/// A compiled crate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Whether it comes from a registry.
    pub registry: bool,
    /// The features that are on; `default` is among them if there are no others to leave off.
    pub features: BTreeSet<String>,
    /// What source calls it.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// What is told of the making of a prelude, and who may stop it.
pub struct Watch<'a> {
    /// Whether to stop.
    pub interrupt: &'a dyn Fn() -> bool,
    /// Is told what is being done.
    pub tell: &'a mut dyn FnMut(Doing),
}

/// What is being done to make a prelude.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Another process makes one.
    Waiting,
    /// Versions are chosen.
    Resolving,
    /// Sources are fetched.
    Fetching,
    /// Crates are compiled.
    Compiling(BuildProgress),
    /// The base is made of them.
    Joining,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for another notebook, which compiles crates"),
            Self::Resolving => f.write_str("choosing versions"),
            Self::Fetching => f.write_str("fetching crates"),
            Self::Compiling(at) => write!(f, "compiling {}", at.doing),
            Self::Joining => f.write_str("making one module of all crates"),
        }
    }
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
                first, count, package, ..
            } => Self::Crate {
                name: package_name(&package),
                for_target: true,
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

static SDK_PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
    let cargo_lock = sdk::FILES.iter().find(|(path, _)| *path == "Cargo.lock");
    cargo_lock.and_then(|(_, text)| lock::read(text).ok()).unwrap_or_default()
});

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
        let sdk = SDK_PACKAGES.iter().map(|package| package.name.clone());
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
            if let Some(ready) = ready.naming(self, Set::Common) {
                return Ok(ready);
            }
        }
        self.build(toolchain, &shelf, watch)
    }

    /// What was compiled before. The lock says as part of what; without one, what the notebook alone asked for comes first, so that nothing changes
    /// under it.
    fn find(&self, shelf: &Shelf) -> Option<PreludeReady> {
        let own = || self.own(shelf);
        let plain = || Self::new().own(shelf)?.naming(self, Set::Plain);
        let common = || Self::common().own(shelf)?.naming(self, Set::Common);
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
        (watch.tell)(Doing::Resolving);
        let sources = Sources::find(toolchain, &self.dependencies, &self.notebook)?;
        let work = shelf.work()?;
        let manifest = self.write(&work, &sources)?;
        let metadata = resolve(toolchain, work.dir(), watch)?;
        let cargo_lock = work.read("Cargo.lock")?;
        let lock = self.locked(&cargo_lock, &sources)?;
        let digest = Digest::of(format!("{}\n{manifest}\n{cargo_lock}", shelf.digest()));
        let questions = [self.start(), &lock.packages].map(|start| self.question(shelf, start));
        if let Some(ready) = shelf.ready(&digest) {
            shelf.remember(&questions, &digest)?;
            return Ok(ready);
        }
        let seed = shelf.seed(&work, &digest, &lock.packages)?;
        fetch(toolchain, work.dir(), watch)?;
        let made = compile(toolchain, &work, &metadata, watch)?;
        let libraries = libraries(&metadata, &made);
        let ready = PreludeReady {
            externs: externs(&metadata, &made)?,
            search: search(&made),
            identity: digest,
            base: work.dir().join(base::FILE),
            libraries,
            lock,
            sources: sources.digests()?,
        };
        (watch.tell)(Doing::Joining);
        base::build(toolchain, &ready, work.dir(), watch.interrupt)?;
        let ready = shelf.keep(work, ready, seed.as_ref())?;
        shelf.remember(&questions, &digest)?;
        Ok(ready)
    }

    /// Writes the workspace. Gives its manifest.
    fn write(&self, work: &Work, sources: &Sources) -> Result<String, PreludeError> {
        let manifest = self.manifest(sources)?;
        let written = |error: toml::ser::Error| unwritable("a lock", &error);
        let start = lock::merge(&SDK_PACKAGES, self.start());
        let cargo_lock = lock::write(&start).map_err(written)?;
        for (path, text) in sdk::FILES {
            work.write(path, text)?;
        }
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
            dependencies.insert(
                name.to_owned(),
                toml::Table::from_iter([("workspace".to_owned(), true.into())]).into(),
            );
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
        let workspace = sdk::WORKSPACE.replacen(
            "[workspace]\n",
            &format!("[workspace]\nexclude = [\"{}\"]\n", sources::DIRECTORY),
            1,
        );
        Ok(format!("{package}{dependencies}{}{workspace}", flags::PRELUDE_PROFILE))
    }

    /// What cargo has resolved to.
    fn locked(&self, cargo_lock: &str, sources: &Sources) -> Result<Lock, PreludeError> {
        let all = lock::read(cargo_lock).map_err(|error| unwritable("a lock", &error))?;
        let mut packages = lock::beyond(&all, &SDK_PACKAGES);
        packages.retain(|package| package.name != "prelude" || package.source.is_some());
        for package in packages.iter_mut().filter(|package| package.source.is_none()) {
            package.digest = sources.digest_of(&package.name);
        }
        Ok(Lock {
            dependencies: self.dependencies.clone(),
            set: self.set(),
            packages,
            base: None,
        })
    }
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

/// Chooses versions: from what is on this machine, else with the network.
fn resolve(toolchain: &Toolchain, dir: &Path, watch: &mut Watch<'_>) -> Result<Metadata, CargoError> {
    match cargo::metadata(toolchain, dir, &["--offline".to_owned()], watch.interrupt) {
        Err(CargoError::Failed { .. }) => {
            (watch.tell)(Doing::Fetching);
            cargo::metadata(toolchain, dir, &[], watch.interrupt)
        }
        done => done,
    }
}

fn fetch(toolchain: &Toolchain, dir: &Path, watch: &mut Watch<'_>) -> Result<(), CargoError> {
    match cargo::fetch(toolchain, dir, true, watch.interrupt) {
        Err(CargoError::Failed { .. }) => {
            (watch.tell)(Doing::Fetching);
            cargo::fetch(toolchain, dir, false, watch.interrupt)
        }
        done => done,
    }
}

/// Compiles all crates: confined, for build scripts and proc macros are executed.
fn compile(toolchain: &Toolchain, work: &Work, metadata: &Metadata, watch: &mut Watch<'_>) -> Result<Made, PreludeError> {
    let (target, scratch) = (work.dir().join("target"), work.dir().join("scratch"));
    for dir in [&target, &scratch] {
        fs::create_dir_all(dir).map_err(|source| PreludeError::Cache {
            path: dir.clone(),
            source,
        })?;
    }
    let mut command = toolchain.bare_cargo_command(&scratch);
    command
        .args(["build", "--release", "--lib", "--frozen", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .args(["--config", &cargo::rustflags(toolchain, metadata, &target)])
        .current_dir(work.dir());
    let confinement = confinement(toolchain, work, metadata).writing(&target).writing(&scratch);
    let mut progress = |at| (watch.tell)(Doing::Compiling(at));
    let made = cargo::build(toolchain, &mut command, Some(&confinement), watch.interrupt, &mut progress);
    work.remove("scratch")?;
    Ok(made?)
}

/// What cargo reads: sources, and settings, but no credentials.
fn confinement(toolchain: &Toolchain, work: &Work, metadata: &Metadata) -> Confinement {
    let mut confinement = toolchain.confinement().reading(work.dir());
    let fetched = metadata.packages.iter().filter(|package| package.source.is_some());
    let places: BTreeSet<&Path> = fetched
        .filter_map(|package| package.manifest_path.parent()?.parent())
        .collect();
    for place in places {
        confinement = confinement.reading(place);
    }
    let home = toolchain.cargo_home();
    let settings = work.dir().ancestors().map(|dir| dir.join(".cargo"));
    for dir in settings.chain(home.clone()) {
        confinement = confinement.reading(dir.join("config.toml")).reading(dir.join("config"));
    }
    match home {
        Some(home) => confinement.reading(home.join("registry")).reading(home.join("git")),
        None => confinement,
    }
}

impl PreludeReady {
    /// Where it lies.
    pub fn directory(&self) -> &Path {
        self.base.parent().unwrap_or(&self.base)
    }

    /// The version of what satisfies a dependency.
    pub fn version(&self, name: &str) -> Option<&str> {
        let requirement = self.lock.dependencies.get(name)?;
        self.library(name, requirement).map(|library| library.version.as_str())
    }

    /// Where rustc looks for crates that are not named.
    pub(super) fn search(&self) -> impl Iterator<Item = String> {
        self.search.iter().map(|dir| format!("-L{dir}"))
    }

    /// The arguments of rustc that let a cell name the crates.
    pub(super) fn arguments(&self) -> Vec<String> {
        let externs = self
            .externs
            .iter()
            .map(|(name, path)| format!("--extern={name}={}", path.display()));
        externs.chain(self.search()).collect()
    }

    /// Whether all is there, and as it was.
    pub(super) fn is_whole(&self) -> bool {
        let there = self.externs.values().chain([&self.base]).all(|path| path.is_file());
        let same = |(path, digest): (&PathBuf, &Digest)| sources::digest(path).is_ok_and(|now| now == *digest);
        there && self.sources.iter().all(same)
    }

    fn library(&self, name: &str, requirement: &Requirement) -> Option<&Library> {
        let package = requirement.package(name);
        let fits = |library: &&Library| library.package == package && requirement.allows(&library.version);
        self.libraries.iter().rfind(fits)
    }

    /// The same crates for cells that name what `prelude` asks for; `None` if that is not among them, or not with the same features.
    fn naming(&self, prelude: &Prelude, set: Set) -> Option<Self> {
        let mut named = self.clone();
        named.externs.retain(|name, _| CRATES.contains(&name.as_str()));
        for (name, requirement) in &prelude.dependencies {
            let library = self
                .library(name, requirement)
                .filter(|library| library.answers(requirement))?;
            let called = match &requirement.package {
                Some(_) => name.replace('-', "_"),
                None => library.name.clone(),
            };
            named.externs.insert(called, library.path.clone());
        }
        let names: BTreeSet<&str> = prelude
            .dependencies
            .iter()
            .map(|(name, requirement)| requirement.package(name))
            .collect();
        named.lock = Lock {
            dependencies: prelude.dependencies.clone(),
            set,
            packages: lock::closure(&self.lock.packages, &names),
            base: None,
        };
        let mut hasher = Hasher::default();
        for text in std::iter::once(&self.identity.to_string()).chain(named.externs.keys()) {
            hasher.update(format!("{}:{text}", text.len()).as_bytes());
        }
        named.identity = hasher.finish();
        Some(named)
    }
}

impl Library {
    /// Whether it is code of the target, rather than a proc macro.
    pub(super) fn is_linked(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rlib")
    }

    fn answers(&self, requirement: &Requirement) -> bool {
        let by_default = requirement.default_features.unwrap_or(true);
        let is_on = |feature: &str| self.features.contains(feature);
        self.registry
            && requirement.path.is_none()
            && requirement.git.is_none()
            && requirement.features.iter().all(|feature| is_on(feature))
            && (!by_default || is_on("default"))
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

/// The compiled form of a package: a library for the target, or a proc macro of the host. (Proc macros may use the same libraries,
/// compiled for the host.)
fn compiled<'a>(made: &'a Made, package: &str) -> Option<&'a PathBuf> {
    let for_target = |file: &Path| file.components().any(|part| part.as_os_str() == TARGET);
    let of_package = made.artifacts.iter().filter(|artifact| artifact.package_id == package);
    let mut files = of_package.flat_map(|artifact| &artifact.filenames);
    files.find(|file| match file.extension().and_then(|extension| extension.to_str()) {
        Some("rlib") => for_target(file),
        Some("so" | "dylib" | "dll") => true,
        _ => false,
    })
}

/// The crates that the prelude's own package depends on.
fn externs(metadata: &Metadata, made: &Made) -> Result<BTreeMap<String, PathBuf>, PreludeError> {
    let root = metadata
        .resolve
        .nodes
        .iter()
        .find(|node| Some(&node.id) == metadata.resolve.root.as_ref());
    let edges = root.into_iter().flat_map(|node| &node.deps);
    let pair = |edge: &cargo::Edge| {
        let path = compiled(made, &edge.pkg).ok_or_else(|| PreludeError::NoCrate { name: edge.name.clone() })?;
        Ok((edge.name.clone(), path.clone()))
    };
    edges.map(pair).collect()
}

/// All crates that are compiled, in an order that is the same everywhere.
fn libraries(metadata: &Metadata, made: &Made) -> Vec<Library> {
    let mut libraries = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| Some(&package.id) != metadata.resolve.root.as_ref())
    {
        let node = metadata.resolve.nodes.iter().find(|node| node.id == package.id);
        let library = package.targets.iter().find(|target| target.is_library());
        let (Some(node), Some(target), Some(path)) = (node, library, compiled(made, &package.id)) else {
            continue;
        };
        let mut features = node.features.clone();
        if !package.features.contains_key("default") {
            features.insert("default".to_owned());
        }
        libraries.push(Library {
            package: package.name.clone(),
            version: package.version.clone(),
            registry: package
                .source
                .as_ref()
                .is_some_and(|source| source.starts_with("registry+") || source.starts_with("sparse+")),
            features,
            name: target.name.replace('-', "_"),
            path: path.clone(),
        });
    }
    let version = |library: &Library| Version::parse(&library.version).ok();
    libraries.sort_by(|a, b| (&a.package, version(a)).cmp(&(&b.package, version(b))));
    libraries
}

/// The directories of all crates, for the target and for the host (proc macros), and those of native libraries.
fn search(made: &Made) -> BTreeSet<String> {
    let files = made.artifacts.iter().flat_map(|artifact| &artifact.filenames);
    let dirs = files
        .filter(|file| file.extension().is_some_and(|extension| extension != "rmeta"))
        .filter_map(|file| file.parent());
    let dirs = dirs.filter(|dir| dir.ends_with("deps"));
    dirs.map(|dir| format!("dependency={}", dir.display()))
        .chain(made.native.iter().cloned())
        .collect()
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
        assert!(SDK_PACKAGES.iter().any(|package| package.name == "serde_json"));
        let common: Lock = serde_json::from_str(COMMON).unwrap();
        assert_eq!(common.set, Set::Common);
        assert!(
            common
                .dependencies
                .keys()
                .all(|name| common.package(name).is_some() || SDK_PACKAGES.iter().any(|p| p.name == *name))
        );
    }
}
