//! A session: the state after the executed cells, and the execution of the next one.
//!
//! A cell is a run. Its generated source is compiled, and the module is run with the variables that it mentions as inputs.
//! The variables that it defines are its outputs. Both steps are cached. The session holds only digests and text, and a
//! cell that fails or is interrupted leaves it unchanged.

mod assistant;
mod crates;
mod dependencies;
mod directives;
mod downloads;
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

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::cell::{self, Cell};
use crate::compile::{Scope, Variable};
use crate::output::{CellError, MimeBundle, Output, Stream};
use crate::toolchain::{CompileError, Lock, PreludeReady, Requirement, Toolchain};

use crates::Crates;
use execute::Execution;
use grants::Checked;
use known::Known;
use saved::Order;

pub use downloads::{Downloads, InvalidServer, Server};
pub use fetch::fetched_by;
pub use starting::{Preparing, Progress, Starting};
pub use tasks::{CellTask, InputFrom, Tasks};

/// The configuration of a session.
#[derive(Clone)]
pub struct Setup {
    /// Carries out runs.
    pub runtime: Arc<Runtime>,
    /// Compiles cells.
    pub toolchain: Toolchain,
    /// The crates that cells can name from the start.
    pub prelude: PreludeReady,
    /// The locks of the notebook's dependencies, oldest first.
    pub locks: Vec<Lock>,
    /// Earlier downloads of the notebook, by URL.
    pub fetched: BTreeMap<String, Digest>,
    /// The notebook's directory. Paths in directives are relative to it.
    pub directory: PathBuf,
    /// What directives may read; `None` allows all that the process can read.
    pub confined: Option<Confined>,
    /// A directory for temporary files of the compiler.
    pub scratch: PathBuf,
    /// The limits of each run.
    pub limits: Limits,
    /// The random seed of every run.
    pub seed: u64,
    /// Which cached results may be reused.
    pub reuse: Reuse,
    /// Where the session is saved, so that it survives the kernel process.
    pub place: Option<SessionFile>,
}

/// What the directives of a confined kernel may read.
#[derive(Clone, Debug)]
pub struct Confined {
    /// The only directory with readable files.
    pub files: PathBuf,
    /// The servers that it may download from.
    pub downloads: Downloads,
}

impl Setup {
    /// Resolves a path in a directive. Returns a message if it may not be read.
    fn path(&self, path: &str) -> Result<PathBuf, String> {
        let whole = self.directory.join(path);
        let Some(Confined { files, .. }) = &self.confined else {
            return Ok(whole);
        };
        // a missing file gets the same error, so that the error does not reveal which outside files exist
        let real = |path: &Path| path.canonicalize().ok();
        match real(files)
            .zip(real(&whole))
            .is_some_and(|(files, whole)| whole.starts_with(files))
        {
            true => Ok(whole),
            false => Err(format!(
                "`{path}` is not accessible: this kernel may only read files in `{}`",
                files.display()
            )),
        }
    }
}

impl Setup {
    /// Checks that the kernel may read a crate's sources. Returns a message if not.
    fn within(&self, requirement: &Requirement) -> Result<(), String> {
        if let Some(path) = &requirement.path {
            self.path(path)?;
        }
        let (Some(git), Some(confined)) = (&requirement.git, &self.confined) else {
            return Ok(());
        };
        match Url::parse(git).ok().filter(|url| url.scheme() == "https") {
            Some(url) => confined
                .downloads
                .check(&url)
                .map_err(|why| format!("`{git}` is not accessible: {why}")),
            None => Err(format!("`{git}` is not accessible: this kernel may only read https:// URLs")),
        }
    }
}

/// The location of a saved session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionFile {
    /// A directory for the sessions of all notebooks.
    pub directory: PathBuf,
    /// The notebook's file, as an absolute path.
    pub notebook: PathBuf,
}

/// A notebook's session. Its methods block, so run it on a separate thread.
pub struct Session {
    setup: Setup,
    /// The crates that cells can name, and their base.
    crates: Crates,
    scope: Arc<Scope>,
    /// Facts for the assistant.
    known: Known,
    /// Notes to show with the next cell.
    notes: Vec<String>,
    /// Notes about the order of cells that were already shown.
    disorder: BTreeSet<String>,
    order: Order,
    /// Changed files that were already checked.
    checked: Checked,
}

/// The result of a cell.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Done {
    /// The value of its last expression.
    pub result: Option<MimeBundle>,
    /// Whether the result was cached, so that nothing was run.
    pub cached: bool,
    /// The execution numbers of cells whose inputs have changed since.
    pub stale: Vec<u32>,
    /// Notes for the user: lines without `note: `.
    pub notes: Vec<String>,
    /// The results as digests.
    pub account: Account,
}

/// The results of a cell as digests. The notebook keeps them with the cell's output for verification.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// Variables that the cell defined or changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Digest>,
    /// Modules whose steps it imported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Digest>,
    /// Downloads, by URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fetched: BTreeMap<String, Digest>,
    /// Its output on stdout and stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Digest>,
    /// The text typed on stdin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Digest>,
    /// The record of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
}

impl Account {
    /// The media type in a notebook's outputs.
    pub const MEDIA_TYPE: &'static str = "application/vnd.lockstep.cell+json";

    /// Returns whether there are no results.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An error of the session that the cell did not cause.
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
    /// A blob in the store is malformed.
    #[error("can't read {what}: {source}\nhint: run `lockstep fsck`")]
    Malformed {
        /// the expected content
        what: &'static str,
        /// why it can't be parsed
        source: serde_json::Error,
    },
    /// The crates of a restored session are not compiled.
    #[error("the session's crates are not compiled on this machine\nhint: re-run the cells with `:dep`")]
    NotCompiled,
    /// A record of this session was deleted.
    #[error("record {0} of a cell is missing from the store\nhint: re-run the cell")]
    NoRecord(Digest),
    /// A cell succeeded without listing its variables.
    #[error("the cell did not list its variables\nhint: the prelude is from another lockstep version; run `lockstep doctor`")]
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
    /// Creates a session, and restores the notebook's saved session if there is one. Loads the base of its cells into the
    /// store and prepares it to run, which takes about ten seconds the first time on a machine.
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

    /// Restores the session that a kernel left when it died unexpectedly.
    fn take_up(&mut self) {
        let Some(place) = &self.setup.place else { return };
        let saved = match saved::read(&place.current()) {
            Ok(None) => return,
            Ok(Some(saved)) => saved,
            Err(reason) => {
                let kept = match place.set_aside() {
                    Ok(aside) => format!("it is kept as {}", aside.display()),
                    Err(error) => format!("the next cell replaces {}: {error}", place.current().display()),
                };
                self.notes
                    .push(format!("the saved session can't be restored: {reason}; {kept}"));
                return;
            }
        };
        let scope = saved::with_what_is_left(saved.cells, &self.setup.runtime.store);
        if scope.versions().is_empty() {
            return;
        }
        let count = scope.variables().len();
        self.notes
            .push(format!("session restored with {count} variables; `:clear` starts over"));
        self.set(scope);
        if let Err(lost) = self.depend_again(saved.lock) {
            self.notes.push(lost.to_string().replace("\nhint: ", "; "));
        }
    }

    /// Handles a restart by the user: the session is kept for `:restore` and not restored automatically.
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

    /// Executes a cell and streams what it prints to `output`. After an error the session is unchanged.
    pub fn execute(&mut self, cell: &Cell, output: &mut dyn Output, interrupt: &Interrupt) -> Result<Done, CellError> {
        for note in std::mem::take(&mut self.notes) {
            output.stream(Stream::Stderr, format!("note: {note}\n").as_bytes());
        }
        let query = cell::of_query(&cell.code).map(|code| Cell { code, ..cell.clone() });
        let cell = query.as_ref().unwrap_or(cell);
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
        done.notes.extend(self.unpublished());
        done.notes.extend(self.changed_files());
        done.notes.extend(self.new_disorder());
        Ok(done)
    }

    /// Evaluates an expression without changing the session.
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

    /// Saves the session to its place.
    fn save(&self) -> Result<(), String> {
        let Some(place) = &self.setup.place else {
            return Ok(());
        };
        let path = place.current();
        let durability = self.setup.runtime.store.durability();
        saved::write(&path, &self.scope, &self.crates.prelude.lock, durability).map_err(|error| {
            format!(
                "can't save the session to {}: {error}; it will not survive this kernel",
                path.display()
            )
        })
    }

    /// Returns a note for each result that the shared store lacks, because it refused it.
    fn unpublished(&self) -> Vec<String> {
        let lacks = self.setup.runtime.store.take_unpublished().into_iter();
        lacks
            .map(|(record, why)| {
                let record = record.short();
                format!("record {record} is complete, but not in the shared store: {why}; to upload it, fix the cause and run the cell again")
            })
            .collect()
    }

    /// Returns new notes about cells that would behave differently in a run from top to bottom, by the cell order in the
    /// notebook's file.
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
                    "run from top to bottom, [{0}] would read `{name}` from [{1}]; re-run or move [{0}]",
                    number(reader),
                    number(maker)
                ),
                None => format!(
                    "run from top to bottom, [{}] would not find `{name}`, which a cell below defines",
                    number(reader)
                ),
            });
        let now: BTreeSet<String> = said.collect();
        let new = now.difference(&self.disorder).cloned().collect();
        self.disorder = now;
        new
    }

    /// Removes the definitions of the cells with these ids, which the user deleted.
    pub fn forget(&mut self, ids: &[String]) {
        if !ids.is_empty() {
            let scope = ids.iter().fold((*self.scope).clone(), |scope, id| scope.before(Some(id)));
            self.set(scope);
        }
    }

    /// Returns the variables, sorted by name.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.scope.variables().values()
    }
}

/// An output that discards everything.
struct Unseen;

impl Output for Unseen {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle, _: Option<&str>) {}
    fn progress(&mut self, _: Option<u8>) {}
}
