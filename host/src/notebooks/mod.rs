//! Notebooks without Jupyter: execution from top to bottom, and conversion to pipelines.

mod file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_kernel::cell::Cell;
use lockstep_kernel::notebook::{Notebook, NotebookCell};
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream, Unanswered};
use lockstep_kernel::session::{Account, Done, Preparing, Session, Setup, Tasks, fetched_by};
use lockstep_kernel::toolchain::Lock;
use lockstep_runtime::pipeline::Pipeline;
use lockstep_runtime::run::{Reuse, Runtime};
use lockstep_runtime::sandbox::{EngineOptions, Interrupt};
use lockstep_server::prepare::{find, setup_on};
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::progress;

use crate::invocation::Invocation;

pub use file::{Names, yaml};

/// A notebook after its execution in a session of its own.
pub struct Executed {
    /// The contents of its file.
    pub notebook: Notebook,
    /// The session after the last cell.
    pub session: Session,
}

/// Executes the code cells of a notebook from top to bottom and calls `each` with each result. Answers to prompts are those that the saved
/// notebook has.
pub fn execute(
    path: &Path,
    reuse: Reuse,
    engine: EngineOptions,
    interrupt: &Interrupt,
    invocation: &Invocation,
    each: &mut dyn FnMut(u32, &Account, &Done),
) -> Result<Executed> {
    let notebook = Notebook::read(path).map_err(Error::user)?;
    let path = std::path::absolute(path).map_err(|e| Error::file("find", path, &e))?;
    let bar = progress::steps("executing the notebook");
    bar.set_length(notebook.code().count() as u64);
    let setup = Setup {
        reuse,
        locks: Lock::of_notebook(&notebook),
        fetched: fetched_by(&notebook),
        ..setup(invocation, parent(&path), engine, &mut |_| ())?
    };
    let runtime = setup.runtime.clone();
    let mut session = Session::new(setup).map_err(Error::host)?;
    for (number, cell) in (1..).zip(notebook.code()) {
        let kept = account(cell);
        let mut output = Typed(typed(&runtime, &kept)?.into_iter());
        let executed = Cell {
            id: Some(id(number, cell)),
            code: cell.source.clone(),
            number,
        };
        let done = session.execute(&executed, &mut output, interrupt);
        let done = done.map_err(|error| failed(number, &error, interrupt))?;
        each(number, &kept, &done);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Executed { notebook, session })
}

impl Executed {
    /// Converts the cells to tasks. The variables of cells tagged `parameters` become parameters.
    pub fn tasks(&self) -> Result<Tasks> {
        let cells = (1..).zip(self.notebook.code());
        let parameters = cells.filter(|(_, cell)| cell.metadata.tags.iter().any(|tag| tag == "parameters"));
        let parameters: BTreeSet<String> = parameters.map(|(number, cell)| id(number, cell)).collect();
        self.session.tasks(&parameters).map_err(Error::host)
    }
}

/// Converts the notebook to a pipeline with modules and inputs named by digest. Runs cells that have no record, because the types of their
/// variables are only known afterwards.
pub fn pipeline(path: &Path, interrupt: &Interrupt, invocation: &Invocation) -> Result<Pipeline> {
    let executed = execute(
        path,
        Reuse::Records,
        EngineOptions::default(),
        interrupt,
        invocation,
        &mut |_, _, _| (),
    )?;
    let text = yaml(&name(path), &executed.tasks()?, &Names::default())?;
    Ok(Pipeline::parse(path, text)?)
}

/// Returns the name of the pipeline of a notebook.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the account that a notebook stores for a cell.
fn account(cell: &NotebookCell) -> Account {
    let read = |value: &serde_json::Value| serde_json::from_value(value.clone()).ok();
    cell.data(Account::MEDIA_TYPE).rev().find_map(read).unwrap_or_default()
}

fn typed(runtime: &Runtime, kept: &Account) -> Result<Vec<String>> {
    let Some(digest) = &kept.stdin else {
        return Ok(Vec::new());
    };
    let text = runtime.store.get(digest)?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// Returns the id of a cell. Cells of old notebooks have none; they get one from their number.
fn id(number: u32, cell: &NotebookCell) -> String {
    cell.id.clone().unwrap_or_else(|| format!("cell {number}"))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn failed(number: u32, error: &CellError, interrupt: &Interrupt) -> Error {
    if interrupt.is_triggered() {
        return Error::new(Kind::Interrupted, "interrupted");
    }
    let message = format!("cell {number} failed: {}: {}", error.ename, error.evalue);
    error
        .traceback
        .iter()
        .fold(Error::new(Kind::Guest, message), |told, line| told.detail(line))
}

/// Answers prompts with what the saved notebook has, and discards output.
struct Typed(std::vec::IntoIter<String>);

impl Output for Typed {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle, _: Option<&str>) {}
    fn progress(&mut self, _: Option<u8>) {}
    fn ask(&mut self, _: &str, _: bool) -> Result<String, Unanswered> {
        self.0.next().ok_or(Unanswered::NotAllowed)
    }
}

/// Prepares a session in `directory`. Compiles the prelude first if the cache does not have it, and reports the progress to `tell`.
pub fn setup(
    invocation: &Invocation,
    directory: PathBuf,
    engine: EngineOptions,
    tell: &mut dyn FnMut(Preparing),
) -> Result<Setup> {
    let locations = &invocation.locations;
    let found = find(
        &locations.cache,
        locations.cache_from.as_deref(),
        &locations.toolchain(),
        tell,
    )?;
    setup_on(&locations.cache, found, Arc::new(invocation.runtime(engine)?), directory)
}
