//! Reports verdicts, and turns them into an error.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_view::columns::{Columns, fit};
use lockstep_view::difference::Changed;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::print::{print, print_json};
use lockstep_view::report::counts;
use serde_json::{Value, json};

use super::check::{Check, Checked, Verdict};
use crate::invocation::Invocation;

/// Above this number, only runs that are not good are listed.
const LISTED: usize = 50;

/// Prints the verdicts.
pub fn report(checked: &[Checked], took: Duration, invocation: &Invocation) -> Result<()> {
    if let [
        Checked {
            verdict: Verdict::Failed(_),
            ..
        },
    ] = checked
        && !invocation.json
    {
        // the error is printed anyway
        return Ok(());
    }
    let bad = |checked: &Checked| matches!(checked.verdict, Verdict::Different { .. } | Verdict::Failed(_));
    if invocation.json {
        return print_json(&to_json(checked));
    }
    if invocation.quiet && !checked.iter().any(bad) {
        return Ok(());
    }
    let mut text = table(checked);
    for Checked { what, record, verdict } in checked {
        if let (Some(record), Verdict::Different { again, changed }) = (record, verdict) {
            text.push_str(&differences(what, record, again, changed));
        }
    }
    print(format_args!("{text}{}\n", totals(checked, took)))
}

/// Prints a hint if tasks of the pipeline `what` have no record.
pub fn hint(checked: &[Checked], what: &str, invocation: &Invocation) {
    let missing = checked.iter().any(|checked| checked.record.is_none());
    if missing && !invocation.json && !invocation.quiet {
        let cyan = AnsiColor::Cyan.on_default().bold();
        anstream::eprintln!("{cyan}hint{cyan:#}: `lockstep run {what}` runs tasks without a record");
    }
}

fn table(checked: &[Checked]) -> String {
    let mut table = Columns::headed(&["run", "record", "verdict"]);
    let listed = |one: &&Checked| checked.len() <= LISTED || !matches!(one.verdict, Verdict::Good);
    for one in checked.iter().filter(listed) {
        let record = one.record.as_ref().map(Digest::short);
        table.row([fit(&one.what, 60), record.unwrap_or_default(), one.verdict.told()]);
    }
    match table.is_empty() {
        true => String::new(),
        false => table.to_string(),
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Different { .. } => "different",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns the cell of the table: a sign, the word and the reason.
    fn told(&self) -> String {
        let (green, red, dim) = (
            AnsiColor::Green.on_default(),
            AnsiColor::Red.on_default(),
            Style::new().dimmed(),
        );
        match self {
            Self::Good => format!("{green}✓{green:#}"),
            Self::Different { .. } => format!("{red}✗ different{red:#}"),
            Self::Skipped(why) => format!("{dim}skipped: {}{dim:#}", fit(why, 100)),
            Self::Failed(error) => format!("{red}✗ {}{red:#}", fit(error.message(), 160)),
            Self::Interrupted => format!("{dim}interrupted{dim:#}"),
        }
    }
}

/// Returns a table of a record and its new run, side by side.
fn differences(what: &str, record: &Digest, again: &Digest, changed: &[Changed]) -> String {
    let (record, again) = (format!("record {}", record.short()), format!("now {}", again.short()));
    let mut columns = Columns::headed(&[&fit(what, 40), &record, &again, "first difference"]);
    for row in changed {
        let first = row.first.as_ref().map(|first| first.with_byte()).unwrap_or_default();
        columns.row([row.what.clone(), fit(&row.left, 40), fit(&row.right, 40), first]);
    }
    columns.to_string()
}

/// Returns the totals: `5 runs: 4 good, 1 different in 1.2 s`.
fn totals(checked: &[Checked], took: Duration) -> String {
    let words: Vec<&str> = checked.iter().map(|checked| checked.verdict.word()).collect();
    counts(
        "run",
        &words,
        &["good", "different", "failed", "skipped", "interrupted"],
        took,
    )
}

fn to_json(checked: &[Checked]) -> Value {
    let one = |checked: &Checked| {
        let mut object = json!({ "what": checked.what, "record": checked.record, "verdict": checked.verdict.word() });
        match &checked.verdict {
            Verdict::Different { again, changed } => {
                object["again"] = json!(again);
                object["differences"] = changed.iter().map(Changed::to_json).collect();
            }
            Verdict::Skipped(why) => object["why"] = json!(why),
            Verdict::Failed(error) => object["why"] = json!(error.message()),
            Verdict::Good | Verdict::Interrupted => {}
        }
        object
    };
    let good = |checked: &Checked| matches!(checked.verdict, Verdict::Good | Verdict::Skipped(_));
    json!({ "good": checked.iter().all(good), "verified": checked.iter().map(one).collect::<Vec<_>>() })
}

/// Returns an error unless every verdict is good or skipped.
pub fn verdict(checked: Vec<Checked>, how: &Check, interrupt: &Interrupt) -> Result<()> {
    let all = checked.len();
    let count = |word: &str| checked.iter().filter(|checked| checked.verdict.word() == word).count();
    let (different, failed, interrupted) = (count("different"), count("failed"), count("interrupted"));
    if different > 0 {
        return Err(differ(different, all, how));
    }
    if interrupt.is_triggered() && interrupted > 0 {
        let message = format!("interrupted: {} of {all} verified", all - interrupted);
        return Err(Error::new(Kind::Interrupted, message));
    }
    match first_failed(checked) {
        None => Ok(()),
        Some((_, error)) if all == 1 => Err(error),
        Some((what, error)) if failed == 1 => Err(error.of(what)),
        Some((what, error)) => Err(error.of(format_args!("can't verify {failed} of {all}; {what}"))),
    }
}

fn differ(different: usize, all: usize, how: &Check) -> Error {
    let message = match all {
        1 => "the result of the run differs from its record".to_owned(),
        _ => format!("the results of {different} of {all} runs differ from their records"),
    };
    let error = Error::new(Kind::Guest, message);
    match how {
        Check::Again { keep: true, .. } => {
            error.hint("the new result is stored too; compare with `lockstep show` and `lockstep diff`")
        }
        _ => error.hint("omit --on to run on this processor; the new result is then stored for `lockstep diff`"),
    }
}

fn first_failed(checked: Vec<Checked>) -> Option<(String, Error)> {
    checked.into_iter().find_map(|checked| match checked.verdict {
        Verdict::Failed(error) => Some((checked.what, error)),
        _ => None,
    })
}
