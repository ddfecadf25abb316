//! The setup of test sessions: a real toolchain, a real sandbox, a temporary store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use lockstep_kernel::session::Setup;
use lockstep_kernel::toolchain::{Locations, Prelude, Toolchain};
use lockstep_runtime::run::{Machine, Reuse, Runtime};
use lockstep_runtime::sandbox::{Engine, EngineOptions};
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Store;

/// Returns the user's cache, because compiling the prelude takes minutes.
pub fn cache() -> PathBuf {
    std::env::home_dir().unwrap().join(".cache/lockstep")
}

/// Returns the setup for a notebook in `directory`.
pub fn setup(cache: &Path, directory: &Path) -> Setup {
    let locations = Locations {
        cache: cache.to_owned(),
        environment: std::env::vars_os().collect(),
        debian: false,
    };
    let toolchain = Toolchain::find(&locations).unwrap();
    let prelude = Prelude::new().ensure(&toolchain, cache, &mut |_| ()).unwrap();
    let machine = Machine {
        name: "test".into(),
        version: "test".into(),
        clock: SystemTime::now,
    };
    let engine = Engine::new(&EngineOptions {
        native_cache: Some(cache.join("native")),
        ..EngineOptions::default()
    });
    Setup {
        runtime: Arc::new(Runtime::new(engine.unwrap(), Store::temporary().unwrap(), machine)),
        toolchain,
        prelude,
        locks: Vec::new(),
        fetched: Default::default(),
        directory: directory.to_owned(),
        confined: None,
        scratch: std::env::temp_dir(),
        limits: Limits::default(),
        seed: 0,
        reuse: Reuse::Records,
        place: None,
    }
}
