use anstyle::AnsiColor;
use clap::Args;
use lockstep_kernel::toolchain::{Check, CheckState, doctor};
use lockstep_runtime::store::{Shared, Store};
use lockstep_view::error::{Error, Result};
use lockstep_view::print::{print, print_json};
use serde_json::json;

use crate::invocation::Invocation;

/// Check that everything lockstep needs is available
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep doctor
  lockstep doctor --json")]
pub struct DoctorArgs {}

pub fn run(_: DoctorArgs, invocation: &Invocation) -> Result<()> {
    let jupyter = invocation.locations.program("jupyter");
    let mut checks = vec![store(invocation)];
    checks.extend(shared(invocation));
    checks.extend(doctor(&invocation.locations.toolchain(), jupyter.as_deref()));
    if invocation.json {
        print_json(&json!({ "checks": checks }))?;
    } else {
        checks.iter().try_for_each(|check| print(line(check)))?;
    }
    let missing: Vec<&str> = checks
        .iter()
        .filter(|check| check.state == CheckState::Missing)
        .map(|check| check.name)
        .collect();
    match &missing[..] {
        [] => Ok(()),
        missing => Err(Error::config(format_args!("missing: {}", missing.join(", "))).reported()),
    }
}

fn store(invocation: &Invocation) -> Check {
    let directory = &invocation.locations.store;
    let (state, detail, mend) = match Store::open(directory) {
        Ok(_) => (CheckState::Ok, directory.display().to_string(), None),
        Err(_) => {
            let mend = "set LOCKSTEP_STORE to a directory that you may write to".to_owned();
            (CheckState::Missing, format!("can't use {}", directory.display()), Some(mend))
        }
    };
    Check {
        name: "store",
        state,
        detail,
        mend,
    }
}

/// Checks the shared store, if there is one.
fn shared(invocation: &Invocation) -> Option<Check> {
    let url = invocation.locations.shared.as_ref()?;
    let asked = Shared::open(url, &invocation.locations.shared_settings()).and_then(|shared| shared.ask());
    let (state, detail, mend) = match asked {
        Ok(()) => (CheckState::Ok, url.clone(), None),
        Err(error) => (
            CheckState::Missing,
            error.to_string(),
            Error::from(error).hints().first().cloned(),
        ),
    };
    Some(Check {
        name: "shared store",
        state,
        detail,
        mend,
    })
}

fn line(check: &Check) -> String {
    let (colour, sign) = match check.state {
        CheckState::Ok => (AnsiColor::Green, "ok"),
        CheckState::Warning => (AnsiColor::Yellow, "warning"),
        CheckState::Missing => (AnsiColor::Red, "missing"),
    };
    let style = colour.on_default().bold();
    let mend = check
        .mend
        .as_ref()
        .map_or(String::new(), |mend| format!("\n{:22}  to fix: {mend}", ""));
    format!("{style}{sign:7}{style:#}  {:13}  {}{mend}\n", check.name, check.detail)
}
