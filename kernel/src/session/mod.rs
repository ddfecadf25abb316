//! A session: what is known after the cells that were executed, and how the next one is.
//!
//! A cell is a run. Its generated source is compiled (or was, under the same key), and the module is run (or was) with the
//! variables that it mentions as inputs; the variables that it leaves are its outputs. The session holds digests and text,
//! nothing else: a cell that fails or is interrupted leaves it as it was.

mod dependencies;
mod directives;
mod execute;
mod failure;
mod interpreter;
mod starting;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_runtime::run::{RunError, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::StoreError;

use crate::cell::Cell;
use crate::compile::{Scope, Variable};
use crate::output::{CellError, MimeBundle, Output};
use crate::toolchain::{CompileError, Lock, PreludeReady, Toolchain};
use dependencies::Crates;

pub use starting::{Preparing, Progress, Starting};

/// What a session works with.
#[derive(Clone)]
pub struct Setup {
    /// Carries out runs.
    pub runtime: Arc<Runtime>,
    /// Compiles cells.
    pub toolchain: Toolchain,
    /// The crates that cells can name from the start.
    pub prelude: PreludeReady,
    /// What the dependencies of the notebook were locked to, oldest first.
    pub locks: Vec<Lock>,
    /// The notebook's directory: paths in directives are relative to it.
    pub directory: PathBuf,
    /// A directory for what the compiler writes; nothing is left in it.
    pub scratch: PathBuf,
    /// What each run may use.
    pub limits: Limits,
    /// Where the random numbers of every run start.
    pub seed: u64,
}

/// A notebook's session. Blocks while it works: give it a thread of its own.
pub struct Session {
    setup: Setup,
    /// What cells can name, and are based on.
    crates: Crates,
    scope: Scope,
}

/// What a cell came to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Done {
    /// The value of its last expression.
    pub result: Option<MimeBundle>,
    /// Whether it was answered without running anything.
    pub cached: bool,
    /// The execution numbers of cells that read a variable which has changed since.
    pub stale: Vec<u32>,
}

/// Why a session could not do its work; no fault of the cell.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A run could not be carried out.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The compiler failed.
    #[error(transparent)]
    Compile(CompileError),
    /// A file of the cache can't be read.
    #[error("can't read {}: {source}\nhint: run `lockstep doctor`", path.display())]
    Read {
        /// the file
        path: PathBuf,
        /// why not
        source: std::io::Error,
    },
    /// Something in the store is not what it should be.
    #[error("{what} can't be read: {source}\nhint: run `lockstep fsck`")]
    Malformed {
        /// what it should be
        what: &'static str,
        /// why it is not
        source: serde_json::Error,
    },
    /// A cell ended well without saying what its variables are.
    #[error("the cell did not say what it made\nhint: the prelude is not of this lockstep; run `lockstep doctor`")]
    Silent,
}

impl From<SessionError> for CellError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Compile(CompileError::Interrupted) => failure::interrupted(),
            error => Self::new("Error", error.to_string()),
        }
    }
}

impl Session {
    /// A session that knows nothing yet. The base of its cells is in the store and ready to run afterwards, which takes some ten
    /// seconds the first time on a machine.
    pub fn new(setup: Setup) -> Result<Self, SessionError> {
        let crates = Crates::load(&setup.runtime, setup.prelude.clone())?;
        Ok(Self {
            setup,
            crates,
            scope: Scope::default(),
        })
    }

    /// Executes a cell. What it prints goes to `output` as it comes. After an error the session is as it was before.
    pub fn execute(&mut self, cell: &Cell, output: &mut dyn Output, interrupt: &Interrupt) -> Result<Done, CellError> {
        let scope = self.scope.before(cell.id.as_deref());
        let mut execution = execute::Execution {
            setup: &self.setup,
            crates: self.crates.clone(),
            scope,
            cell,
            output,
            interrupt,
        };
        let mut done = execution.execute()?;
        self.scope = execution.scope;
        self.crates = execution.crates;
        done.stale = self.scope.stale();
        Ok(done)
    }

    /// Forgets what the cells of these ids defined: the user deleted them.
    pub fn forget(&mut self, ids: &[String]) {
        for id in ids {
            self.scope = self.scope.before(Some(id));
        }
    }

    /// The variables, by name.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.scope.variables().values()
    }

    /// The execution number of the cell that made a variable.
    pub fn number_of(&self, variable: &Variable) -> Option<u32> {
        self.scope.versions().get(variable.made_by).map(|version| version.number)
    }
}
