//! The interpreter of a kernel in this process: each cell takes its turn, like a job, and is written to the journal before it starts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_kernel::jupyter::{Assistant, Execute, Interpreter};
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream, Unanswered};
use lockstep_kernel::session::{Confined, Setup, Starting};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::{Limits, OwnLimits};
use lockstep_view::quantity;
use tokio::runtime::Handle;

use super::journal::Journal;
use super::workshop::Workshop;
use crate::fair::Owner;
use crate::gate::{CellTurn, Gate};

/// Number of starts of a cell that may end with the host. It is not started again after that.
const ATTEMPTS: u32 = 2;

/// Interval of checks whether a waiting cell is interrupted.
const LOOK: Duration = Duration::from_millis(20);
/// Time after which a waiting cell tells its user that it waits.
const QUIET: Duration = Duration::from_secs(1);

const WAITING: &str = "note: waiting for other cells and runs on this host, which has no free turn or memory for this cell\n";

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
    /// Hands out turns and memory.
    pub gate: Arc<Gate>,
    /// The user, for whom cells take turns.
    pub owner: Owner,
    /// For the threads of kernels, which wait for turns.
    pub threads: Handle,
}

/// An interpreter whose cells take turns, and are written to the journal before they start.
pub struct Noted {
    session: Starting,
    ground: Arc<Ground>,
    journal: Arc<Mutex<Journal>>,
    /// The limits of each cell.
    limits: Limits,
}

impl Noted {
    /// Starts to set up a session in the background. Paths are relative to `directory`.
    pub fn new(ground: &Arc<Ground>, directory: PathBuf, journal: Arc<Mutex<Journal>>) -> Self {
        let place = journal.lock().unwrap_or_else(PoisonError::into_inner).place().clone();
        let limits = ground.gate.limits(&ground.owner, &OwnLimits::default());
        let (own, of_cells) = (ground.clone(), limits.clone());
        let session = Starting::new(move |progress| {
            let runtime = Arc::new(own.runtime.leased());
            let setup = own.workshop.setup(runtime, directory, place, &mut |step| progress.tell(step));
            let setup = setup.map_err(|error| CellError::new("Error", error.to_string()))?;
            Ok(Setup {
                confined: own.confined.clone(),
                limits: of_cells,
                ..setup
            })
        });
        Self {
            session,
            ground: ground.clone(),
            journal,
            limits,
        }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how to stay within the limit that ended a cell.
    fn explain(&self, error: CellError) -> CellError {
        let hint = if error.evalue.starts_with("out of memory") {
            format!(
                "a cell may use {} on this host: work on less data at a time, or ask the administrator of the host for more (`--run-memory`, `--memory` \
                 or the quota `memory` of `lockstep serve`)",
                quantity::bytes(self.limits.memory)
            )
        } else if error.ename == "TimeOut" {
            "split the cell, so that later cells continue with its variables, or ask the administrator of the host for more time (`lockstep serve \
             --max-time`)"
                .to_owned()
        } else {
            return error;
        };
        CellError::new(error.ename, format!("{}\nhint: {hint}", error.evalue))
    }
}

impl Interpreter for Noted {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        if self.journal().attempts(&cell.request) >= ATTEMPTS {
            return Err(given_up());
        }
        let ground = self.ground.clone();
        let mut output = Admitted {
            output,
            ground: &ground,
            memory: self.limits.memory,
            interrupt,
            turn: None,
        };
        if !output.admit() {
            return Err(interrupted());
        }
        let noted = self.journal().start(&cell.request, cell.number);
        noted.map_err(|error| {
            let what =
                format!("the host can't save the session before this cell: {error}\nhint: check whether its disk is full");
            CellError::new("Error", what)
        })?;
        let result = self.session.execute(cell, &mut output, interrupt);
        // after a failure, the start counts if the cell has to run again
        let _ = self.journal().end(&cell.request);
        result.map_err(|error| self.explain(error))
    }

    fn evaluate(&mut self, expression: &str, interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        let ground = self.ground.clone();
        let mut unseen = Unseen;
        let mut output = Admitted {
            output: &mut unseen,
            ground: &ground,
            memory: self.limits.memory,
            interrupt,
            turn: None,
        };
        match output.admit() {
            true => self.session.evaluate(expression, interrupt),
            false => Err(interrupted()),
        }
    }

    fn restart(&mut self) {
        self.session.restart();
    }

    fn assistant(&self) -> Box<dyn Assistant> {
        self.session.assistant()
    }
}

fn interrupted() -> CellError {
    CellError::new(
        "Interrupted",
        "the cell was interrupted while it waited for its turn; it did not run",
    )
}

fn given_up() -> CellError {
    let what = "the host ended twice while this cell ran, so it is not run again by itself; variables are those before it\n\
                hint: the cell may need more memory than the host has: work on less data at a time, then execute it again";
    CellError::new("HostEnded", what)
}

/// The output of a cell that has its turn. While the cell waits for its user's input, others may have the turn.
struct Admitted<'a> {
    output: &'a mut dyn Output,
    ground: &'a Ground,
    /// The memory that the cell may use, in bytes.
    memory: u64,
    interrupt: &'a Interrupt,
    turn: Option<CellTurn>,
}

impl Admitted<'_> {
    /// Waits for the turn. Returns false if the cell is interrupted. While the host shuts down, no cell gets a turn: the next host runs it.
    fn admit(&mut self) -> bool {
        let Self {
            ground,
            memory,
            interrupt,
            ..
        } = *self;
        let output = &mut *self.output;
        let begun = Instant::now();
        let is_interrupted = async {
            let mut told = false;
            while !interrupt.is_triggered() {
                tokio::time::sleep(LOOK).await;
                if !told && begun.elapsed() > QUIET {
                    told = true;
                    output.stream(Stream::Stderr, WAITING.as_bytes());
                }
            }
        };
        self.turn = ground.threads.block_on(async {
            tokio::select! {
                biased;
                Some(turn) = ground.gate.cell(&ground.owner, memory) => Some(turn),
                () = is_interrupted => None,
            }
        });
        self.turn.is_some()
    }
}

impl Output for Admitted<'_> {
    fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        self.output.stream(stream, bytes);
    }

    fn name(&self) -> String {
        self.output.name()
    }

    fn display(&mut self, bundle: MimeBundle, id: Option<&str>) {
        self.output.display(bundle, id);
    }

    fn update(&mut self, bundle: MimeBundle, id: &str) {
        self.output.update(bundle, id);
    }

    fn clear(&mut self, wait: bool) {
        self.output.clear(wait);
    }

    fn progress(&mut self, percent: Option<u8>) {
        self.output.progress(percent);
    }

    fn ask(&mut self, prompt: &str, password: bool) -> Result<String, Unanswered> {
        self.turn = None;
        let answer = self.output.ask(prompt, password)?;
        match self.admit() {
            true => Ok(answer),
            false => Err(Unanswered::Interrupted),
        }
    }
}

/// The output of an expression, which is not shown.
struct Unseen;

impl Output for Unseen {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle, _: Option<&str>) {}
    fn progress(&mut self, _: Option<u8>) {}
}
