use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use clap::Args;
use lockstep_kernel::cell::Cell;
use lockstep_kernel::notebook::{Notebook, NotebookCell};
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream, Unanswered};
use lockstep_kernel::session::{Account, Session, Setup, fetched_by};
use lockstep_kernel::toolchain::Lock;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Reuse, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use serde_json::{Value, json};

use super::kernel::setup;
use crate::columns::Columns;
use crate::error::{Error, Kind, Result};
use crate::invocation::{Invocation, interrupt_on_ctrl_c, print};
use crate::progress;

/// Run a notebook again, from top to bottom, and compare every digest that it keeps
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep verify analysis.ipynb          # nothing is taken from the cache
  lockstep verify analysis.ipynb --json")]
pub struct VerifyArgs {
    /// The notebook, executed and saved
    #[arg(value_name = "NOTEBOOK")]
    notebook: PathBuf,
}

/// Something that a cell made: its digest as the notebook has it, and as it came out now.
struct Compared {
    cell: u32,
    what: String,
    kept: Digest,
    got: Option<Digest>,
}

impl Compared {
    fn is_equal(&self) -> bool {
        self.got == Some(self.kept)
    }
}

pub fn run(args: VerifyArgs, invocation: &Invocation) -> Result<()> {
    let notebook = Notebook::read(&args.notebook).map_err(Error::user)?;
    let path = std::path::absolute(&args.notebook).map_err(|e| Error::file("find", &args.notebook, &e))?;
    let interrupt = interrupt_on_ctrl_c()?;
    let bar = progress::steps("verifying");
    bar.set_length(notebook.code().count() as u64);
    let setup = Setup {
        reuse: Reuse::Nothing,
        locks: Lock::of_notebook(&notebook),
        fetched: fetched_by(&notebook),
        ..setup(invocation, parent(&path), &mut |_| ())?
    };
    let runtime = setup.runtime.clone();
    let mut session = Session::new(setup).map_err(Error::host)?;
    let mut all = Vec::new();
    for (number, cell) in (1..).zip(notebook.code()) {
        all.extend(again(&mut session, &runtime, number, cell, &interrupt)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report(&all, &args.notebook, invocation)
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Executes a cell, and compares what it comes to with what the notebook keeps of it.
fn again(
    session: &mut Session,
    runtime: &Runtime,
    number: u32,
    cell: &NotebookCell,
    interrupt: &Interrupt,
) -> Result<Vec<Compared>> {
    let account = |value: &Value| serde_json::from_value::<Account>(value.clone()).ok();
    let kept = cell.data(Account::MEDIA_TYPE).rev().find_map(account).unwrap_or_default();
    let typed = match &kept.stdin {
        Some(digest) => String::from_utf8_lossy(&runtime.store.get(digest)?).into_owned(),
        None => String::new(),
    };
    let mut output = Typed(typed.lines().map(str::to_owned).collect::<Vec<_>>().into_iter());
    let executed = Cell {
        id: cell.id.clone(),
        code: cell.source.clone(),
        number,
    };
    let done = session.execute(&executed, &mut output, interrupt);
    let done = done.map_err(|error| failed(number, &error, interrupt))?;
    let flat = |account: &Account| -> BTreeMap<String, Digest> {
        let variables = account.variables.iter().map(|(name, digest)| (name.clone(), *digest));
        let log = account.log.map(|log| ("what it printed".to_owned(), log));
        variables.chain(log).collect()
    };
    let got = flat(&done.account);
    let compare = |(what, kept): (String, Digest)| Compared {
        cell: number,
        got: got.get(&what).copied(),
        what,
        kept,
    };
    Ok(flat(&kept).into_iter().map(compare).collect())
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

fn report(all: &[Compared], notebook: &Path, invocation: &Invocation) -> Result<()> {
    let different = all.iter().filter(|compared| !compared.is_equal()).count();
    let row = |compared: &Compared| {
        let style = match compared.is_equal() {
            true => AnsiColor::Green.on_default(),
            false => AnsiColor::Red.on_default(),
        };
        let word = if compared.is_equal() { "✓" } else { "✗ different" };
        [
            format!("[{}]", compared.cell),
            compared.what.clone(),
            compared.kept.short(),
            compared.got.map_or_else(|| "missing".to_owned(), |got| got.short()),
            format!("{style}{word}{style:#}"),
        ]
    };
    let json = || {
        let rows = all.iter().map(|compared| {
            json!({
                "cell": compared.cell,
                "what": compared.what,
                "kept": compared.kept,
                "got": compared.got,
                "equal": compared.is_equal(),
            })
        });
        json!({ "notebook": notebook, "equal": different == 0, "compared": rows.collect::<Vec<_>>() })
    };
    if invocation.json {
        print(format_args!("{}\n", json()))?;
    } else if !invocation.quiet || different > 0 {
        let mut columns = Columns::headed(&["cell", "what", "in the notebook", "now", ""]);
        all.iter().for_each(|compared| columns.row(row(compared)));
        print(columns)?;
    }
    if all.is_empty() {
        let error = Error::user(format_args!("{} keeps no digests", notebook.display()));
        return Err(error.hint("execute it with the Lockstep kernel, and save it with its outputs"));
    }
    match different {
        0 => Ok(()),
        count => Err(Error::new(
            Kind::Guest,
            format_args!(
                "{count} of {} digests differ: the notebook did not come about from top to bottom",
                all.len()
            ),
        )
        .hint("run all cells in a fresh kernel and save; or look at what has changed")),
    }
}

/// What was typed when the notebook was executed; nothing is shown.
struct Typed(std::vec::IntoIter<String>);

impl Output for Typed {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle, _: Option<&str>) {}
    fn progress(&mut self, _: Option<u8>) {}
    fn ask(&mut self, _: &str, _: bool) -> Result<String, Unanswered> {
        self.0.next().ok_or(Unanswered::NotAllowed)
    }
}
