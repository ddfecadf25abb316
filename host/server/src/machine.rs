//! The machine that a host runs on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
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

/// Returns the number of CPU cores that this process may use.
pub fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Returns the memory in bytes that is available without swapping: that of the machine, or less if a control group (a container) has a
/// limit. `u64::MAX` if it is unknown.
pub fn available_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = available_in(&read("/proc/meminfo")).unwrap_or(u64::MAX);
    let groups = read("/proc/self/cgroup");
    machine.min(available_in_groups(&groups, Path::new("/sys/fs/cgroup")))
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Names of the files of a control group: the limit, the usage, and the statistics with the entry of page cache that can be dropped.
struct Names(&'static str, &'static str, &'static str);

const V2: Names = Names("memory.max", "memory.current", "inactive_file ");
const V1: Names = Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");

/// Returns what the groups leave, which `groups` lists as /proc/self/cgroup does, and those above them. `root` is where they are mounted.
fn available_in_groups(groups: &str, root: &Path) -> u64 {
    let mut least = u64::MAX;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mounted, names) = match controllers {
            "" => (root.to_owned(), V2),
            _ if controllers.split(',').any(|one| one == "memory") => (root.join("memory"), V1),
            _ => continue,
        };
        let group = mounted.join(path.trim_start_matches('/'));
        for group in group.ancestors().take_while(|group| group.starts_with(&mounted)) {
            least = least.min(left_in(group, &names).unwrap_or(u64::MAX));
        }
    }
    least
}

/// Returns what a group leaves of its limit; `None` if it has no limit.
fn left_in(group: &Path, Names(limit, usage, inactive): &Names) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limit = number(limit)?;
    let statistics = read("memory.stat").unwrap_or_default();
    let cache = statistics
        .lines()
        .find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(number(usage)?.saturating_sub(cache)))
}

/// Returns the name of this machine.
pub fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_limits_the_memory() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let available = |groups: &str| available_in_groups(groups, root.path());
        assert_eq!(available("0::/pod/container\n"), u64::MAX);
        write("pod/memory.max", "1000\n");
        write("pod/memory.current", "700\n");
        write("pod/memory.stat", "active_file 5\ninactive_file 200\n");
        write("pod/container/memory.max", "max\n");
        write("pod/container/memory.current", "300\n");
        assert_eq!(available("0::/pod/container\n"), 500);
        assert_eq!(available("0::/other\n"), u64::MAX);
        // version 1, as seen in a container: its own group is the root of the mount
        write("memory/memory.limit_in_bytes", "900\n");
        write("memory/memory.usage_in_bytes", "800\n");
        write("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n");
        let both = "12:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n";
        assert_eq!(available(both), 150);
        write("memory/memory.usage_in_bytes", "2000\n");
        assert_eq!(available(both), 0);
    }

    #[test]
    fn this_machine_has_memory() {
        assert_eq!(available_in("MemTotal: 9 kB\nMemAvailable:    3 kB\n"), Some(3072));
        assert!(available_memory() > 1 << 20);
    }
}
