use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_kernel::notebook::Notebook;
use lockstep_kernel::session::{Place, Preparing, Setup, fetched_by};
use lockstep_kernel::toolchain::{Lock, PreludeReady, Toolchain};
use lockstep_runtime::run::Runtime;
use lockstep_view::error::Result;

use crate::machine::Surroundings;
use crate::prepare::{find, load_base, setup_on};

/// What all kernels of a host are made with: the toolchain and the prelude, found when the first one needs them.
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

    /// Has ready what the first session would wait for. Blocks.
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

    /// What a session works with. Blocks, and tells how far it is, when this machine has yet to compile what cells start with.
    pub fn setup(
        &self,
        runtime: Arc<Runtime>,
        directory: PathBuf,
        place: Place,
        tell: &mut dyn FnMut(Preparing),
    ) -> Result<Setup> {
        let found = self.found(tell)?;
        let setup = setup_on(&self.surroundings.cache, found, runtime, directory)?;
        // There only if the session is that of a notebook, whose file is on this machine.
        let notebook = Notebook::read(&place.notebook).ok();
        Ok(Setup {
            locks: notebook.as_ref().map_or_else(Vec::new, Lock::of_notebook),
            fetched: notebook.as_ref().map_or_else(BTreeMap::new, fetched_by),
            place: Some(place),
            ..setup
        })
    }
}
