use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_kernel::jupyter::{Assistant, Execute, Interpreter};
use lockstep_kernel::output::{CellError, MimeBundle, Output};
use lockstep_kernel::session::{Confined, Setup, Starting};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;

use super::journal::Journal;
use super::workshop::Workshop;

/// State shared by the kernels of a namespace.
pub struct Ground {
    pub runtime: Arc<Runtime>,
    pub workshop: Arc<Workshop>,
    /// The host's data directory for the namespace.
    pub directory: PathBuf,
    /// What cells may read; without it, all that the process can read.
    pub confined: Option<Confined>,
    /// Directory of sessions, which garbage collection of the store scans.
    pub sessions: PathBuf,
}

/// An interpreter that writes each cell to the journal before it starts.
pub struct Noted {
    session: Starting,
    journal: Arc<Mutex<Journal>>,
}

impl Noted {
    /// Starts to set up a session in the background. Paths are relative to `directory`.
    pub fn new(ground: &Arc<Ground>, directory: PathBuf, journal: Arc<Mutex<Journal>>) -> Self {
        let ground = ground.clone();
        let place = journal.lock().unwrap_or_else(PoisonError::into_inner).place().clone();
        let session = Starting::new(move |progress| {
            let runtime = Arc::new(ground.runtime.leased());
            let setup = ground
                .workshop
                .setup(runtime, directory, place, &mut |step| progress.tell(step));
            let setup = setup.map_err(|error| CellError::new("Error", error.to_string()))?;
            Ok(Setup {
                confined: ground.confined.clone(),
                ..setup
            })
        });
        Self { session, journal }
    }
}

impl Interpreter for Noted {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = journal.start(&cell.request, cell.number);
        drop(journal);
        noted.map_err(|error| {
            let what =
                format!("the host can't save the session before this cell: {error}\nhint: check whether its disk is full");
            CellError::new("Error", what)
        })?;
        self.session.execute(cell, output, interrupt)
    }

    fn evaluate(&mut self, expression: &str, interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        self.session.evaluate(expression, interrupt)
    }

    fn restart(&mut self) {
        self.session.restart();
    }

    fn assistant(&self) -> Box<dyn Assistant> {
        self.session.assistant()
    }
}
