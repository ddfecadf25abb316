use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_kernel::notebook::Notebook;
use lockstep_kernel::session::{Preparing, SessionFile, Setup, fetched_by};
use lockstep_kernel::toolchain::{Lock, PreludeReady, Toolchain};
use lockstep_runtime::run::Runtime;
use lockstep_view::error::Result;

use crate::machine::Surroundings;
use crate::prepare::{find, load_base, setup_on};

/// Toolchain and prelude for the kernels of a host. They are prepared for the first kernel.
pub struct Workshop {
    surroundings: Surroundings,
    found: Mutex<Option<(Toolchain, PreludeReady)>>,
}

impl Workshop {
    pub fn new(surroundings: &Surroundings) -> Self {
        Self {
            surroundings: surroundings.clone(),
            found: Mutex::default(),
        }
    }

    /// Prepares toolchain and prelude ahead of the first session. Blocks.
    pub fn prepare(&self, runtime: &Runtime) -> Result<()> {
        let (_, prelude) = self.found(&mut |_| ())?;
        load_base(&prelude, runtime)
    }

    fn found(&self, tell: &mut dyn FnMut(Preparing)) -> Result<(Toolchain, PreludeReady)> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some(found) => Ok(found.clone()),
            None => {
                let Surroundings {
                    cache,
                    cache_from,
                    toolchain,
                    ..
                } = &self.surroundings;
                Ok(found.insert(find(cache, cache_from.as_deref(), toolchain, tell)?).clone())
            }
        }
    }

    /// Returns the setup of a session. Blocks and reports progress while the prelude is compiled.
    pub fn setup(
        &self,
        runtime: Arc<Runtime>,
        directory: PathBuf,
        place: SessionFile,
        tell: &mut dyn FnMut(Preparing),
    ) -> Result<Setup> {
        let found = self.found(tell)?;
        let setup = setup_on(&self.surroundings.cache, found, runtime, directory)?;
        // only if the session's notebook is a file on this machine
        let notebook = Notebook::read(&place.notebook).ok();
        Ok(Setup {
            locks: notebook.as_ref().map_or_else(Vec::new, Lock::of_notebook),
            fetched: notebook.as_ref().map_or_else(BTreeMap::new, fetched_by),
            place: Some(place),
            ..setup
        })
    }
}
