use std::sync::{Arc, Mutex, PoisonError};

use super::Setup;
use crate::assist::Surroundings;
use crate::compile::Scope;
use crate::toolchain::PreludeReady;

/// Facts about a session, shared so that requests can be answered while a cell runs.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<Facts>>);

#[derive(Clone, Default)]
pub(super) struct Facts {
    /// The scope after the last cell.
    pub scope: Arc<Scope>,
    /// The crates that cells can name.
    pub crates: Arc<[String]>,
    /// `None` until the session is set up.
    pub around: Option<Arc<Surroundings>>,
}

impl Known {
    pub fn set(&self, scope: Arc<Scope>) {
        self.change(|facts| facts.scope = scope);
    }

    /// Sets the crates. Must be called again when the prelude changes.
    pub fn set_crates(&self, setup: &Setup, prelude: &PreludeReady) {
        let crates = prelude.externs.keys().cloned().collect();
        // The package that cargo compiled as the prelude.
        let around = Surroundings {
            toolchain: setup.toolchain.clone(),
            package: prelude.directory().to_owned(),
        };
        self.change(|facts| {
            facts.crates = crates;
            facts.around = Some(Arc::new(around));
        });
    }

    pub fn facts(&self) -> Facts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, with: impl FnOnce(&mut Facts)) {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
