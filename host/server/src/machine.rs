//! The machine that a host runs on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use lockstep_runtime::run::{Machine, Runtime};
use lockstep_runtime::sandbox::{CodeKey, Compiler, Engine, EngineOptions};
use lockstep_runtime::store::{Durability, Store};
use lockstep_view::error::Result;

/// Locations and environment of a host.
#[derive(Clone)]
pub struct Surroundings {
    /// Store of callers without a user. Each piece of work takes a lease.
    pub store: Store,
    /// Durability of the stores.
    pub durability: Durability,
    /// Directory of the store. It also contains the stores of users.
    pub directory: PathBuf,
    /// URL of the shared store.
    pub shared: Option<String>,
    /// Settings of the shared store.
    pub shared_settings: BTreeMap<String, String>,
    /// Cache directory.
    pub cache: PathBuf,
    /// Read-only cache that initializes it.
    pub cache_from: Option<PathBuf>,
    /// Locations of the toolchain.
    pub toolchain: lockstep_kernel::toolchain::Locations,
    /// Key that authenticates compiled code in the shared store.
    pub code_key: Option<CodeKey>,
    /// Token with the scope `admin`.
    pub token: Option<String>,
    /// Log filter, from `LOCKSTEP_LOG`.
    pub log: Option<String>,
    /// Print and log JSON.
    pub json: bool,
}

impl Surroundings {
    /// Returns the data directory of the host itself and of callers without a user.
    pub(crate) fn host_directory(&self) -> PathBuf {
        self.directory.join("host")
    }
}

/// Returns a runtime with `engine` and `store`.
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

static COMPILER: OnceLock<Compiler> = OnceLock::new();

/// Makes all engines of this process compile with `compiler`.
pub fn compile_with(compiler: Compiler) {
    let _ = COMPILER.set(compiler);
}

/// Creates an engine that caches compiled modules in `cache`.
pub fn engine(cache: &Path, mut options: EngineOptions) -> Result<Engine> {
    options.native_cache = Some(cache.join("native"));
    options.compiler = COMPILER.get().cloned();
    Ok(Engine::new(&options)?)
}

/// Returns the memory in bytes that is available without swapping.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Returns the name of this machine.
pub fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
