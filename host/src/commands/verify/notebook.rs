//! Verifies a notebook against the digests saved in it.

use std::collections::BTreeMap;
use std::path::Path;

use anstyle::AnsiColor;
use lockstep_kernel::session::{Account, Done};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Reuse;
use lockstep_runtime::sandbox::{EngineOptions, Interrupt};
use lockstep_view::columns::Columns;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::print::{print, print_json};
use serde_json::json;

use crate::invocation::Invocation;
use crate::notebooks;

/// A result of a cell: its digest in the notebook, and now.
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

/// Executes the notebook from top to bottom and compares the results of each cell.
pub fn run(notebook: &Path, engine: EngineOptions, interrupt: &Interrupt, invocation: &Invocation) -> Result<()> {
    let mut all = Vec::new();
    let mut each = |number: u32, kept: &Account, done: &Done| {
        let got = flat(&done.account);
        all.extend(flat(kept).into_iter().map(|(what, kept)| Compared {
            cell: number,
            got: got.get(&what).copied(),
            what,
            kept,
        }));
    };
    notebooks::execute(notebook, Reuse::Unrecorded, engine, interrupt, invocation, &mut each)?;
    report(&all, notebook, invocation)
}

/// Returns the digests of the results of a cell, by name.
fn flat(account: &Account) -> BTreeMap<String, Digest> {
    let variables = account.variables.iter().map(|(name, digest)| (name.clone(), *digest));
    let log = account.log.map(|log| ("what it printed".to_owned(), log));
    variables.chain(log).collect()
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
        print_json(&json())?;
    } else if !invocation.quiet || different > 0 {
        let mut columns = Columns::headed(&["cell", "what", "in the notebook", "now", ""]);
        all.iter().for_each(|compared| columns.row(row(compared)));
        print(columns)?;
    }
    if all.is_empty() {
        let error = Error::user(format_args!("{} has no saved digests", notebook.display()));
        return Err(error.hint("run it with the Lockstep kernel and save it with its outputs"));
    }
    match different {
        0 => Ok(()),
        count => Err(Error::new(
            Kind::Guest,
            format_args!(
                "{count} of {} digests differ: the cells were changed, or not run from top to bottom",
                all.len()
            ),
        )
        .hint("restart the kernel, run all cells and save; or check what changed")),
    }
}
