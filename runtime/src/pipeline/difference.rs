use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Source, Task};
use crate::digest::Digest;
use crate::run::{Entry, Run};
use crate::step::MediaType;

/// A difference between a run and an earlier one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "field", rename_all = "lowercase")]
pub enum Difference {
    /// The module.
    Module {
        /// the earlier value
        was: Digest,
        /// the current value
        is: Digest,
    },
    /// A parameter.
    Parameter {
        /// its name
        name: String,
        /// the earlier value
        was: Option<Value>,
        /// the current value
        is: Option<Value>,
    },
    /// The content, kind or path of an input.
    Input {
        /// its name
        name: String,
        /// the earlier value
        was: Option<Digest>,
        /// the current value
        is: Option<Digest>,
        /// the task output or file that it comes from
        from: Option<String>,
    },
    /// The arguments, environment, stdin or stdout of a program.
    Program {
        /// the earlier value
        was: Value,
        /// the current value
        is: Value,
    },
    /// A declared output.
    Output {
        /// its name
        name: String,
        /// the earlier value
        was: Option<MediaType>,
        /// the current value
        is: Option<MediaType>,
    },
    /// The seed.
    Seed {
        /// the earlier value
        was: u64,
        /// the current value
        is: u64,
    },
}

impl Difference {
    /// Returns the differences between `was` and `is`, without the origins of inputs.
    pub fn between(was: &Run, is: &Run) -> Vec<Self> {
        between(was, is, |_| None)
    }

    /// Returns the weight of this difference when looking for the most similar run. Parameters and seed weigh more, as they tell tasks
    /// with the same step apart; the module and the inputs of a task change often.
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::Module { .. } | Self::Input { .. } => 2,
            Self::Parameter { .. } | Self::Program { .. } | Self::Output { .. } | Self::Seed { .. } => 3,
        }
    }
}

/// Returns the differences between `was` and `is`, a run of `task`.
pub(super) fn differences(task: &Task, was: &Run, is: &Run) -> Vec<Difference> {
    between(was, is, |input| origin(task, input))
}

fn between(was: &Run, is: &Run, origin: impl Fn(&str) -> Option<String>) -> Vec<Difference> {
    let mut found = Vec::new();
    if was.module != is.module {
        found.push(Difference::Module {
            was: was.module,
            is: is.module,
        });
    }
    entries(&was.entry, &is.entry, &mut found);
    for (name, was, is) in changed(&was.inputs, &is.inputs) {
        found.push(Difference::Input {
            name: name.clone(),
            was: was.map(|input| input.artifact.digest),
            is: is.map(|input| input.artifact.digest),
            from: origin(name),
        });
    }
    for (name, was, is) in changed(&was.outputs, &is.outputs) {
        found.push(Difference::Output {
            name: name.clone(),
            was: was.cloned(),
            is: is.cloned(),
        });
    }
    if was.seed != is.seed {
        found.push(Difference::Seed {
            was: was.seed,
            is: is.seed,
        });
    }
    found
}

/// Returns the task output or file that an input comes from.
fn origin(task: &Task, input: &str) -> Option<String> {
    let made = |from: &Source| match from {
        Source::Part => task.for_each.as_ref().map(|each| each.over.to_string()),
        Source::Output(output) => Some(output.to_string()),
        Source::Gathered(outputs) => outputs
            .values()
            .next()
            .map(|first| format!("{first} and {} others", outputs.len() - 1)),
        Source::Pinned(_) => None,
    };
    match task.wires.get(input) {
        Some(wire) => made(&wire.from),
        None => task.files.get(input).cloned(),
    }
}

fn entries(was: &Entry, is: &Entry, found: &mut Vec<Difference>) {
    match (was, is) {
        (Entry::Step { parameters: was, .. }, Entry::Step { parameters: is, .. }) => {
            found.extend(changed(was, is).map(|(name, was, is)| Difference::Parameter {
                name: name.clone(),
                was: was.cloned(),
                is: is.cloned(),
            }));
        }
        (was, is) if was != is => found.push(Difference::Program {
            was: serde_json::json!(was),
            is: serde_json::json!(is),
        }),
        _ => (),
    }
}

/// Returns the names whose values differ, with both values.
fn changed<'m, V: PartialEq>(
    was: &'m BTreeMap<String, V>,
    is: &'m BTreeMap<String, V>,
) -> impl Iterator<Item = (&'m String, Option<&'m V>, Option<&'m V>)> {
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let both = names.into_iter().map(|name| (name, was.get(name), is.get(name)));
    both.filter(|(_, was, is)| was != is)
}
