//! The machine that a host is on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lockstep_runtime::run::{Machine, Runtime};
use lockstep_runtime::sandbox::{CodeKey, Engine, EngineOptions};
use lockstep_runtime::store::Store;
use lockstep_view::error::Result;

/// What a host is told of the machine that it is on.
#[derive(Clone)]
pub struct Surroundings {
    /// The store of those whom it does not tell apart.
    pub store: Store,
    /// Where that is, and the stores of users are.
    pub directory: PathBuf,
    /// The shared store behind it.
    pub shared: Option<String>,
    /// The settings of the shared store.
    pub shared_settings: BTreeMap<String, String>,
    /// What can be made again.
    pub cache: PathBuf,
    /// What it starts from, which is only read.
    pub cache_from: Option<PathBuf>,
    /// What the toolchain is told.
    pub toolchain: lockstep_kernel::toolchain::Locations,
    /// Whose seal compiled code has that comes through the shared store.
    pub code_key: Option<CodeKey>,
    /// What may do everything.
    pub token: Option<String>,
    /// What the host writes of its own work.
    pub log: Option<String>,
    /// Answer with JSON.
    pub json: bool,
}

impl Surroundings {
    /// What a host keeps beside the store, for itself and for those whom it does not tell apart.
    pub(crate) fn host_directory(&self) -> PathBuf {
        self.directory.join("host")
    }
}

/// What carries out runs with `engine`, over `store`.
pub fn runtime_over(engine: Engine, store: Store, code_key: Option<&CodeKey>) -> Result<Runtime> {
    let machine = Machine {
        name: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: SystemTime::now,
    };
    let runtime = Runtime::new(engine, store, machine);
    runtime.ensure_index()?;
    Ok(match code_key {
        Some(key) => runtime.sharing_code(key.clone()),
        None => runtime,
    })
}

/// An engine. Compiled modules are kept in the cache of this user.
pub fn engine(cache: &Path, mut options: EngineOptions) -> Result<Engine> {
    options.native_cache = Some(cache.join("native"));
    Ok(Engine::new(&options)?)
}

/// The memory that programs can take without others being pushed out, in bytes.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// What this machine is called.
pub fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
