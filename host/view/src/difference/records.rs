//! Differences of two records.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Record};
use lockstep_runtime::step::Artifact;
use lockstep_runtime::store::{Store, StoreError};
use serde_json::{Value, json};

use super::{Difference, compare};
use crate::error::Result;

/// A fact that differs.
pub struct Changed {
    /// Whether it is an input of the run, not a result.
    pub went_in: bool,
    /// Its name, such as `input raw`.
    pub what: String,
    /// The value in the first record; empty if it has none.
    pub left: String,
    /// The value in the second record.
    pub right: String,
    /// The first difference, if both are artifacts in the store.
    pub first: Option<Difference>,
}

impl Changed {
    /// Converts it to JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "what": self.what,
            "left": self.left,
            "right": self.right,
            "first": self.first.as_ref().map(Difference::to_json),
        })
    }
}

/// Compares the inputs and the results of two records.
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
    for (went_in, artifacts) in [(true, inputs as Artifacts), (false, made)] {
        for (what, left, right) in both(&artifacts(left), &artifacts(right)) {
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

/// Returns the artifacts that [`diff_records`] compares: those of the same name that differ.
pub fn differing(left: &Record, right: &Record) -> Vec<Artifact> {
    let mut differing = Vec::new();
    for artifacts in [inputs as Artifacts, made] {
        for (_, left, right) in both(&artifacts(left), &artifacts(right)) {
            differing.extend(left.zip(right).map(|(left, right)| [left.clone(), right.clone()]));
        }
    }
    differing.into_iter().flatten().collect()
}

/// Returns artifacts of a record, by what they are.
type Artifacts = fn(&Record) -> BTreeMap<String, Artifact>;

fn inputs(record: &Record) -> BTreeMap<String, Artifact> {
    let inputs = record.run.inputs.iter();
    inputs
        .map(|(name, input)| (format!("input {name}"), input.artifact.clone()))
        .collect()
}

fn made(record: &Record) -> BTreeMap<String, Artifact> {
    let outputs = record
        .outputs
        .iter()
        .map(|(name, artifact)| (format!("output {name}"), artifact.clone()));
    outputs
        .chain(record.log.iter().map(|log| ("log".to_owned(), log.clone())))
        .collect()
}

/// Returns the entries that differ, or that only one side has.
fn both<'a, T: PartialEq>(
    left: &'a BTreeMap<String, T>,
    right: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (String, Option<&'a T>, Option<&'a T>)> {
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let sides = names.into_iter().map(|name| (name.clone(), left.get(name), right.get(name)));
    sides.filter(|(_, left, right)| left != right)
}

/// Returns the first difference of two artifacts, if the store has both.
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

/// Returns what a run was given, except its inputs.
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

/// Returns the results of a run, except its outputs.
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
