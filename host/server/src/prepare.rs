//! Preparation of sessions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_kernel::session::{Preparing, Setup};
use lockstep_kernel::toolchain::{BuildProgress, Locations, Prelude, PreludeReady, Toolchain};
use lockstep_runtime::run::{Reuse, Runtime};
use lockstep_runtime::step::Limits;
use lockstep_view::error::{Error, Result};

use crate::cache;

/// Finds the toolchain and compiles the prelude if needed.
pub fn find(
    cache: &Path,
    from: Option<&Path>,
    toolchain: &Locations,
    tell: &mut dyn FnMut(Preparing),
) -> Result<(Toolchain, PreludeReady)> {
    if let Some(from) = from {
        cache::start_from(from, cache).map_err(|e| Error::file("read", from, &e))?;
    }
    let toolchain = Toolchain::find(toolchain).map_err(Error::config)?;
    let prelude = Prelude::new();
    if prelude.ready(&toolchain, cache).is_none() {
        let what = "compiling the notebook prelude (once per machine)";
        tell(Preparing::Says(what.to_owned()));
    }
    let mut tell = |at: BuildProgress| {
        tell(Preparing::Percent(at.percent()));
    };
    let prelude = prelude.ensure(&toolchain, cache, &mut tell).map_err(Error::config)?;
    Ok((toolchain, prelude))
}

/// Compiles the base module of a prelude for this machine.
pub fn load_base(prelude: &PreludeReady, runtime: &Runtime) -> Result<()> {
    let wasm = std::fs::read(&prelude.base).map_err(|e| Error::file("read", &prelude.base, &e))?;
    runtime.load_base(&runtime.store.put(wasm)?)?;
    Ok(())
}

/// Returns the setup of a session in `directory`, on a runtime that may be shared.
pub fn setup_on(
    cache: &Path,
    (toolchain, prelude): (Toolchain, PreludeReady),
    runtime: Arc<Runtime>,
    directory: PathBuf,
) -> Result<Setup> {
    let scratch = cache.join("scratch");
    std::fs::create_dir_all(&scratch).map_err(|e| Error::file("create", &scratch, &e))?;
    Ok(Setup {
        runtime,
        toolchain,
        prelude,
        locks: Vec::new(),
        fetched: BTreeMap::new(),
        directory,
        confined: None,
        scratch,
        limits: Limits::default(),
        seed: 0,
        reuse: Reuse::Records,
        place: None,
    })
}
