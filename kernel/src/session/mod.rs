//! A session: what is known after the cells that were executed, and how the next one is.
//!
//! A cell is a run. Its generated source is compiled (or was, under the same key), and the module is run (or was) with the
//! variables that it mentions as inputs; the variables that it leaves are its outputs. The session holds digests and text,
//! nothing else: a cell that fails or is interrupted leaves it as it was.

mod assistant;
mod dependencies;
mod directives;
mod execute;
mod failure;
mod fetch;
mod grants;
mod interpreter;
mod known;
mod saved;
mod starting;
mod streams;
mod tasks;
mod uses;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Reuse, RunError, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::StoreError;

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::compile::{Scope, Variable};
use crate::output::{CellError, MimeBundle, Output, Stream};
use crate::toolchain::{CompileError, Lock, PreludeReady, Requirement, Toolchain};

use dependencies::Crates;
use execute::Execution;
use grants::Checked;
use known::Known;
use saved::Order;

pub use fetch::fetched_by;
pub use starting::{Preparing, Progress, Starting};
pub use tasks::{CellTask, InputFrom, Tasks};

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
    /// What the notebook has downloaded before, by address.
    pub fetched: BTreeMap<String, Digest>,
    /// The notebook's directory: paths in directives are relative to it.
    pub directory: PathBuf,
    /// The only directory whose files directives may name; without one, all that the process can read.
    pub reach: Option<PathBuf>,
    /// A directory for what the compiler writes; nothing is left in it.
    pub scratch: PathBuf,
    /// What each run may use.
    pub limits: Limits,
    /// Where the random numbers of every run start.
    pub seed: u64,
    /// What a cell may be answered with.
    pub reuse: Reuse,
    /// Where the session is kept, so that it can be taken up again after the kernel has died.
    pub place: Option<Place>,
}

impl Setup {
    /// The file or directory that a directive calls `path`; or the problem with it.
    fn path(&self, path: &str) -> Result<PathBuf, String> {
        let whole = self.directory.join(path);
        let Some(reach) = &self.reach else { return Ok(whole) };
        // what is not there can't be read, and of what lies outside nobody learns whether it is there
        let real = |path: &Path| path.canonicalize().ok();
        match real(reach)
            .zip(real(&whole))
            .is_some_and(|(reach, whole)| whole.starts_with(reach))
        {
            true => Ok(whole),
            false => Err(format!(
                "`{path}` is not among the files that this kernel may read: those of the host's directory `{}`",
                reach.display()
            )),
        }
    }
}

impl Setup {
    /// The problem with what a crate is made of, if that may not be read.
    fn within(&self, requirement: &Requirement) -> Result<(), String> {
        if let Some(path) = &requirement.path {
            self.path(path)?;
        }
        match requirement
            .git
            .as_ref()
            .filter(|git| self.reach.is_some() && !git.starts_with("https://"))
        {
            Some(git) => Err(format!("`{git}` is not an address that this kernel may read: write https://")),
            None => Ok(()),
        }
    }
}

/// The place of a session that outlives its process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// A directory for the sessions of all notebooks.
    pub directory: PathBuf,
    /// The notebook's file, as an absolute path.
    pub notebook: PathBuf,
}

/// A notebook's session. Blocks while it works: give it a thread of its own.
pub struct Session {
    setup: Setup,
    /// What cells can name, and are based on.
    crates: Crates,
    scope: Arc<Scope>,
    /// What the assistant sees of it.
    known: Known,
    /// What is to be said with the next cell.
    notes: Vec<String>,
    /// What was said of the order of cells; it is not said twice.
    disorder: BTreeSet<String>,
    order: Order,
    /// What was found to be as it was taken in.
    checked: Checked,
}

/// What a cell came to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Done {
    /// The value of its last expression.
    pub result: Option<MimeBundle>,
    /// Whether it was answered without running anything.
    pub cached: bool,
    /// The execution numbers of cells that read or use what has changed since.
    pub stale: Vec<u32>,
    /// What people should know: lines without `note: `.
    pub notes: Vec<String>,
    /// What the cell came to, in digests.
    pub account: Account,
}

/// What a cell came to, in digests: kept with its output in the notebook, so that anyone can check it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// The variables that it made or changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Digest>,
    /// The modules whose steps it made functions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Digest>,
    /// What it downloaded, by address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fetched: BTreeMap<String, Digest>,
    /// What it wrote to stdout and stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Digest>,
    /// What was typed into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Digest>,
    /// The record of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
}

impl Account {
    /// Its media type in a notebook's outputs.
    pub const MEDIA_TYPE: &'static str = "application/vnd.lockstep.cell+json";

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
    /// What a session depended on is not compiled any more.
    #[error("the crates that this session depended on are not compiled on this machine\nhint: run the cells with `:dep` again")]
    NotCompiled,
    /// A run of this session is gone.
    #[error("the record {0} of a cell is not in the store any more\nhint: execute the cell again")]
    NoRecord(Digest),
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
    /// A session that knows what is kept of its notebook, if anything is. The base of its cells is in the store and ready to run
    /// afterwards, which takes some ten seconds the first time on a machine.
    pub fn new(setup: Setup) -> Result<Self, SessionError> {
        Self::known_as(setup, Known::default())
    }

    fn known_as(setup: Setup, known: Known) -> Result<Self, SessionError> {
        let crates = Crates::load(&setup.runtime, setup.prelude.clone())?;
        known.set_crates(&setup, &crates.prelude);
        let mut session = Self {
            setup,
            crates,
            scope: Arc::default(),
            known,
            notes: Vec::new(),
            disorder: BTreeSet::new(),
            order: Order::default(),
            checked: Checked::default(),
        };
        session.take_up();
        Ok(session)
    }

    /// Takes up the session of this notebook where a process left it that ended without being asked to.
    fn take_up(&mut self) {
        let Some(saved) = self.setup.place.as_ref().and_then(|place| saved::read(&place.current())) else {
            return;
        };
        let scope = saved::with_what_is_left(saved.cells, &self.setup.runtime.store);
        if scope.versions().is_empty() {
            return;
        }
        let count = scope.variables().len();
        self.notes.push(format!(
            "the session of this notebook is taken up again, with {count} variables; `:clear` starts anew"
        ));
        self.set(scope);
        if let Err(lost) = self.depend_again(saved.lock) {
            self.notes.push(lost.to_string().replace("\nhint: ", ": "));
        }
    }

    /// The user restarts the kernel: the session is kept for `:restore` and not taken up by itself.
    pub fn restart(&mut self) {
        if let Some(place) = &self.setup.place {
            place.end();
        }
    }

    fn depend_again(&mut self, lock: Lock) -> Result<(), SessionError> {
        if let Some(crates) = Crates::again(&self.setup, lock)? {
            self.known.set_crates(&self.setup, &crates.prelude);
            self.crates = crates;
        }
        Ok(())
    }

    fn set(&mut self, scope: Scope) {
        self.scope = Arc::new(scope);
        self.known.set(self.scope.clone());
    }

    /// Executes a cell. What it prints goes to `output` as it comes. After an error the session is as it was before.
    pub fn execute(&mut self, cell: &Cell, output: &mut dyn Output, interrupt: &Interrupt) -> Result<Done, CellError> {
        for note in std::mem::take(&mut self.notes) {
            output.stream(Stream::Stderr, format!("note: {note}\n").as_bytes());
        }
        let scope = self.scope.before(cell.id.as_deref());
        let mut execution = Execution::new(&self.setup, self.crates.clone(), scope, cell, output, interrupt);
        let mut done = execution.execute()?;
        let (scope, fetched) = (execution.scope, execution.fetched);
        if !Arc::ptr_eq(&self.crates.prelude, &execution.crates.prelude) {
            self.crates = execution.crates;
            self.known.set_crates(&self.setup, &self.crates.prelude);
        }
        self.setup.fetched = fetched;
        done.stale = scope
            .stale()
            .into_iter()
            .map(|index| scope.versions()[index].number)
            .collect();
        self.set(scope);
        done.notes.extend(self.save().err());
        done.notes.extend(self.changed_files());
        done.notes.extend(self.new_disorder());
        Ok(done)
    }

    /// The value of an expression; the session stays as it is.
    pub fn evaluate(&self, expression: &str, interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        let cell = Cell {
            id: None,
            code: expression.to_owned(),
            number: 0,
        };
        let scope = (*self.scope).clone();
        let done = Execution::new(&self.setup, self.crates.clone(), scope, &cell, &mut Unseen, interrupt).execute()?;
        Ok(done.result.unwrap_or_default())
    }

    /// Keeps the session in its place.
    fn save(&self) -> Result<(), String> {
        let Some(place) = &self.setup.place else {
            return Ok(());
        };
        let path = place.current();
        saved::write(&path, &self.scope, &self.crates.prelude.lock).map_err(|error| {
            format!(
                "the session can't be kept in {}: {error}; it would not survive the kernel",
                path.display()
            )
        })
    }

    /// What a run from top to bottom would do in another way, as far as the notebook's file tells the order of the cells; what was not
    /// said before.
    fn new_disorder(&mut self) -> Vec<String> {
        let Some(place) = &self.setup.place else {
            return Vec::new();
        };
        let ids = self.order.of(&place.notebook);
        let places = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        let number = |version: usize| self.scope.versions()[version].number;
        let said = self
            .scope
            .out_of_order(&places)
            .into_iter()
            .map(|(reader, name, expected)| match expected {
                Some(maker) => format!(
                    "from top to bottom, [{}] would read `{name}` from [{}]: run it again, or move it",
                    number(reader),
                    number(maker)
                ),
                None => format!(
                    "from top to bottom, [{}] would not find `{name}`: the cell that makes it stands below",
                    number(reader)
                ),
            });
        let now: BTreeSet<String> = said.collect();
        let new = now.difference(&self.disorder).cloned().collect();
        self.disorder = now;
        new
    }

    /// Forgets what the cells of these ids defined: the user deleted them.
    pub fn forget(&mut self, ids: &[String]) {
        if !ids.is_empty() {
            let scope = ids.iter().fold((*self.scope).clone(), |scope, id| scope.before(Some(id)));
            self.set(scope);
        }
    }

    /// The variables, by name.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.scope.variables().values()
    }
}

/// Output that nobody sees.
struct Unseen;

impl Output for Unseen {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle, _: Option<&str>) {}
    fn progress(&mut self, _: Option<u8>) {}
}
