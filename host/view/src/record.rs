//! Descriptions of records.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Observed, Record};
use serde_json::{Value, json};

use crate::columns::{Align, Columns, fit};
use crate::runs::age;
use crate::{quantity, report};

/// Returns the description of a record as text.
pub fn describe(digest: &Digest, record: &Record, observed: &Observed) -> String {
    let mut facts = Columns::plain();
    facts.row(["record".to_owned(), digest.to_string()]);
    facts.row([
        "run".to_owned(),
        format!("{} of module {}", report::title(record), record.run.module.short()),
    ]);
    facts.row(["outcome".to_owned(), fit(&record.outcome.to_string(), 400)]);
    facts.row(["when".to_owned(), when(observed)]);
    facts.row(["took".to_owned(), took(record, observed)]);
    if record.run.seed != 0 {
        facts.row(["seed".to_owned(), record.run.seed.to_string()]);
    }
    let mut text = facts.to_string();
    section(&mut text, "parameters", &parameters(&record.run.entry));
    let mut inputs = artifacts();
    for (name, input) in &record.run.inputs {
        let at = input.at.as_ref().map_or(name.clone(), |at| format!("{name} at {at}"));
        inputs.row(report::artifact_row(&at, &input.artifact));
    }
    section(&mut text, "inputs", &inputs);
    section(&mut text, "outputs", &report::outputs(record).indented(2));
    let mut log = artifacts();
    if let Some(artifact) = record.log.as_ref().or(observed.log.as_ref()) {
        log.row(report::artifact_row("stdout and stderr", artifact));
    }
    section(&mut text, "log", &log);
    if let Some(backtrace) = &observed.backtrace {
        let _ = writeln!(text, "backtrace");
        backtrace
            .trim_end()
            .lines()
            .for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

/// Converts a record to JSON, as `lockstep run --json` writes it.
pub fn to_json(digest: &Digest, record: &Record, observed: &Observed) -> Value {
    let mut object = record.to_json(observed);
    object["record"] = json!(digest);
    object
}

fn artifacts() -> Columns {
    Columns::plain()
        .indented(2)
        .aligned([Align::Left, Align::Left, Align::Left, Align::Right])
}

fn section(text: &mut String, name: &str, rows: &Columns) {
    if !rows.is_empty() {
        let _ = write!(text, "{name}\n{rows}");
    }
}

fn parameters(entry: &Entry) -> Columns {
    let mut rows = Columns::plain().indented(2);
    match entry {
        Entry::Step { parameters, .. } => {
            parameters
                .iter()
                .for_each(|(name, value)| rows.row([name.clone(), fit(&value.to_string(), 200)]));
        }
        Entry::Program { env, stdin, stdout, .. } => {
            env.iter()
                .for_each(|(name, value)| rows.row([format!("${name}"), fit(value, 200)]));
            for (what, name) in [("stdin", stdin), ("stdout", stdout)] {
                name.iter().for_each(|name| rows.row([what, name]));
            }
        }
    }
    rows
}

fn when(observed: &Observed) -> String {
    let started = UNIX_EPOCH + Duration::from_millis(observed.started_ms);
    let (host, version) = (fit(&observed.host, 60), fit(&observed.version, 20));
    let age = quantity::age(age(observed.started_ms));
    format!(
        "{} ({age}) on {host}, lockstep {version}",
        humantime::format_rfc3339_seconds(started)
    )
}

fn took(record: &Record, observed: &Observed) -> String {
    let time = quantity::micros(observed.wall_us);
    match &record.usage {
        Some(usage) => {
            format!(
                "{time}, {} units of fuel, {} of memory",
                quantity::count(usage.fuel),
                quantity::bytes(usage.memory)
            )
        }
        None => time,
    }
}
