use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Record, Runtime};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Artifact;
use lockstep_runtime::store::{Store, StoreError};
use serde_json::{Value, json};

use crate::artifacts::{Named, find};
use crate::columns::{Columns, fit};
use crate::difference::{Difference, compare};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Tell what differs in what two runs were given and came to, or where two artifacts differ first
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep diff 3fa9c1 8b01d2               # two records of `lockstep log`
  lockstep diff 3fa9c1/rows 8b01d2/rows     # an output of each
  lockstep diff old.arrow new.arrow --json")]
pub struct DiffArgs {
    /// A record, or an artifact: a path, a digest, the start of one, or RECORD/OUTPUT
    #[arg(value_name = "LEFT")]
    left: String,

    /// What it is compared with
    #[arg(value_name = "RIGHT")]
    right: String,
}

/// Something that is not the same on both sides.
pub struct Changed {
    /// Whether it went into the run, rather than came out.
    pub went_in: bool,
    /// `input raw`
    pub what: String,
    pub left: String,
    pub right: String,
    /// Where two artifacts differ first, if both are there.
    pub first: Option<Difference>,
}

impl Changed {
    /// The same for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "what": self.what,
            "left": self.left,
            "right": self.right,
            "first": self.first.as_ref().map(Difference::to_json),
        })
    }
}

pub fn run(args: DiffArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    match (find(&runtime, &args.left)?, find(&runtime, &args.right)?) {
        (Named::Artifact(left), Named::Artifact(right)) => diff_artifacts(&runtime, &left, &right, invocation),
        (Named::Record(left), Named::Record(right)) => {
            let changed = diff_records(&runtime.store, &left.1, &right.1)?;
            report(&changed, (&left.0, &right.0), invocation)
        }
        (Named::Record(_), Named::Artifact(_)) => Err(unlike(&args.left, &args.right)),
        (Named::Artifact(_), Named::Record(_)) => Err(unlike(&args.right, &args.left)),
    }
}

fn unlike(record: &str, artifact: &str) -> Error {
    Error::user(format_args!("{record} is a record, {artifact} is an artifact"))
        .hint("compare two of a kind; RECORD/OUTPUT is an output of a record")
}

fn diff_artifacts(runtime: &Runtime, left: &Artifact, right: &Artifact, invocation: &Invocation) -> Result<()> {
    let first = compare(&runtime.store, left, right)?;
    let text = match &first {
        Some(first) => format!("{first}\n"),
        None => "no difference\n".to_owned(),
    };
    invocation.answer(text, || {
        json!({
            "equal": first.is_none(),
            "left": left,
            "right": right,
            "first": first.as_ref().map(Difference::to_json),
        })
    })
}

/// What differs in two records, in what went in and in what came out.
pub fn diff_records(store: &Store, left: &Record, right: &Record) -> Result<Vec<Changed>> {
    let mut changed = Vec::new();
    let mut facts = |went_in, left: BTreeMap<String, String>, right: BTreeMap<String, String>| {
        changed.extend(both(&left, &right).map(|(what, left, right)| Changed {
            went_in,
            what,
            left: left.cloned().unwrap_or_default(),
            right: right.cloned().unwrap_or_default(),
            first: None,
        }));
    };
    facts(true, given(left), given(right));
    facts(false, came_to(left), came_to(right));
    let inputs = |record: &Record| -> BTreeMap<String, Artifact> {
        let input = |(name, input): (&String, &lockstep_runtime::run::Input)| (format!("input {name}"), input.artifact.clone());
        record.run.inputs.iter().map(input).collect()
    };
    let made = |record: &Record| -> BTreeMap<String, Artifact> {
        let outputs = record
            .outputs
            .iter()
            .map(|(name, artifact)| (format!("output {name}"), artifact.clone()));
        outputs
            .chain(record.log.iter().map(|log| ("log".to_owned(), log.clone())))
            .collect()
    };
    for (went_in, left, right) in [(true, inputs(left), inputs(right)), (false, made(left), made(right))] {
        for (what, left, right) in both(&left, &right) {
            changed.push(Changed {
                went_in,
                what,
                left: left.map(|artifact| artifact.digest.short()).unwrap_or_default(),
                right: right.map(|artifact| artifact.digest.short()).unwrap_or_default(),
                first: first(store, left, right)?,
            });
        }
    }
    Ok(changed)
}

/// What is not the same under a name, or there on one side only.
fn both<'a, T: PartialEq>(
    left: &'a BTreeMap<String, T>,
    right: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (String, Option<&'a T>, Option<&'a T>)> {
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let sides = names.into_iter().map(|name| (name.clone(), left.get(name), right.get(name)));
    sides.filter(|(_, left, right)| left != right)
}

/// Where two artifacts differ first, as far as the store still has both.
fn first(store: &Store, left: Option<&Artifact>, right: Option<&Artifact>) -> Result<Option<Difference>> {
    let (Some(left), Some(right)) = (left, right) else {
        return Ok(None);
    };
    for side in [left, right] {
        match store.get(&side.digest) {
            Err(StoreError::Missing(_)) => return Ok(None),
            other => other?,
        };
    }
    compare(store, left, right)
}

/// What a run was given, but for its inputs.
fn given(record: &Record) -> BTreeMap<String, String> {
    let run = &record.run;
    let mut facts = BTreeMap::from([
        ("module".to_owned(), run.module.short()),
        ("seed".to_owned(), run.seed.to_string()),
    ]);
    for (name, input) in &run.inputs {
        if let Some(at) = &input.at {
            facts.insert(format!("place of {name}"), at.to_string());
        }
    }
    for (name, media_type) in &run.outputs {
        facts.insert(format!("type of {name}"), media_type.to_string());
    }
    match &run.entry {
        Entry::Step { name, parameters } => {
            facts.insert("step".to_owned(), name.clone());
            facts.extend(
                parameters
                    .iter()
                    .map(|(name, value)| (format!("parameter {name}"), value.to_string())),
            );
        }
        Entry::Program {
            args,
            env,
            stdin,
            stdout,
        } => {
            facts.insert("arguments".to_owned(), args.join(" "));
            facts.extend(env.iter().map(|(name, value)| (format!("${name}"), value.clone())));
            facts.extend(stdin.iter().map(|name| ("stdin".to_owned(), name.clone())));
            facts.extend(stdout.iter().map(|name| ("stdout".to_owned(), name.clone())));
        }
    }
    facts
}

/// What a run came to, but for what it made.
fn came_to(record: &Record) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("outcome".to_owned(), record.outcome.to_string())]);
    if let Some(usage) = &record.usage {
        facts.insert("fuel".to_owned(), usage.fuel.to_string());
        facts.insert("memory".to_owned(), usage.memory.to_string());
        facts.insert("bytes of files".to_owned(), usage.output.to_string());
        facts.insert("bytes of log".to_owned(), usage.log.to_string());
        let reached = usage.reached.iter();
        facts.extend(reached.map(|(limit, value)| (format!("limit of {limit}, reached"), value.to_string())));
    }
    if !record.called.is_empty() {
        let called: Vec<String> = record.called.iter().map(Digest::short).collect();
        facts.insert("called".to_owned(), called.join(" "));
    }
    facts
}

fn report(changed: &[Changed], (left, right): (&Digest, &Digest), invocation: &Invocation) -> Result<()> {
    let mut text = String::new();
    for (title, went_in) in [("what went in", true), ("what came out", false)] {
        let mut columns = Columns::headed(&[title, &left.short(), &right.short(), "first difference"]);
        for row in changed.iter().filter(|row| row.went_in == went_in) {
            let first = row.first.as_ref().map(ToString::to_string).unwrap_or_default();
            columns.row([fit(&row.what, 40), fit(&row.left, 40), fit(&row.right, 40), first]);
        }
        if !columns.is_empty() {
            text.push_str(&columns.to_string());
        }
    }
    if changed.is_empty() {
        text.push_str("no difference\n");
    }
    invocation.answer(text, || to_json(changed, left, right))
}

fn to_json(changed: &[Changed], left: &Digest, right: &Digest) -> Value {
    let rows = |went_in| -> Vec<Value> {
        let rows = changed.iter().filter(|row| row.went_in == went_in);
        rows.map(Changed::to_json).collect()
    };
    json!({ "equal": changed.is_empty(), "left": left, "right": right, "in": rows(true), "out": rows(false) })
}
