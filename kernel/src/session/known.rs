use std::sync::{Arc, Mutex, PoisonError};

use super::Setup;
use crate::assist::Surroundings;
use crate::compile::Scope;
use crate::toolchain::PreludeReady;

/// What there is to say about a session, for whoever asks while a cell runs.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<Facts>>);

#[derive(Clone, Default)]
pub(super) struct Facts {
    /// What the last cell left.
    pub scope: Arc<Scope>,
    /// The crates that cells can name.
    pub crates: Arc<[String]>,
    /// None until the session is set up.
    pub around: Option<Arc<Surroundings>>,
}

impl Known {
    pub fn set(&self, scope: Arc<Scope>) {
        self.change(|facts| facts.scope = scope);
    }

    /// To be called again when the prelude is another.
    pub fn set_crates(&self, setup: &Setup, prelude: &PreludeReady) {
        let crates = prelude.externs.keys().cloned().collect();
        // That is the package that cargo compiled the prelude as.
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
