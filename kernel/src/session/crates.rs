//! The crates of a session, and their base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use lockstep_runtime::run::Runtime;

use super::{SessionError, Setup};
use crate::toolchain::{Base, Lock, Prelude, PreludeReady};

/// The bases in use, some megabytes each. All sessions of a process share them, as the files never change.
static BASES: Mutex<BTreeMap<PathBuf, Weak<Base>>> = Mutex::new(BTreeMap::new());

/// The crates that cells can name, and the base built from them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Crates {
    pub prelude: Arc<PreludeReady>,
    pub base: Arc<Base>,
}

impl Crates {
    /// Loads the base into the store and prepares it to run. This takes about ten seconds the first time on a machine.
    pub fn load(runtime: &Runtime, prelude: PreludeReady) -> Result<Self, SessionError> {
        let base = Self::base(runtime, &prelude.base)?;
        runtime.load_base(&base.digest())?;
        Ok(Self {
            prelude: Arc::new(prelude),
            base,
        })
    }

    /// Reads the base in the file at `path` and puts it into the store.
    fn base(runtime: &Runtime, path: &Path) -> Result<Arc<Base>, SessionError> {
        let mut bases = BASES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bases.get(path).and_then(Weak::upgrade);
        if let Some(base) = &known
            && runtime.store.contains(&base.digest())?
        {
            return Ok(base.clone());
        }
        let read = |source| SessionError::Read {
            path: path.to_owned(),
            source,
        };
        let wasm = Bytes::from(std::fs::read(path).map_err(read)?);
        let base = match known {
            Some(base) => base,
            None => Arc::new(Base::read(&wasm).map_err(|error| SessionError::Compile(error.into()))?),
        };
        bases.insert(path.to_owned(), Arc::downgrade(&base));
        runtime.store.put(wasm)?;
        Ok(base)
    }

    /// Returns the crates of a restored session, or `None` if it had no dependencies. Fails if they are not compiled:
    /// compiling takes long, so the user must request it.
    pub fn again(setup: &Setup, lock: Lock) -> Result<Option<Self>, SessionError> {
        if lock.dependencies.is_empty() {
            return Ok(None);
        }
        let prelude = Prelude::with(lock.dependencies.clone(), &setup.directory, &[lock]);
        let ready = prelude.ready(&setup.toolchain, &setup.toolchain.locations().cache);
        let ready = ready.ok_or(SessionError::NotCompiled)?;
        Ok(Some(Self::load(&setup.runtime, ready)?))
    }
}
