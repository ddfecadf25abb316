//! Explanations of plans: the fate of each task, and the edges between tasks.

use lockstep_runtime::pipeline::{Difference, Fate, Miss, Plan, Source};
use lockstep_runtime::step::Limit;

use crate::columns::fit;
use crate::graph::Graph;
use crate::quantity;

/// Returns the fate as a word and its explanation.
pub fn told(fate: &Fate) -> (&'static str, String) {
    match fate {
        Fate::Hit { record, succeeded, .. } => match succeeded {
            true => ("hit", format!("record {}", record.short())),
            false => ("failed", format!("record {}", record.short())),
        },
        Fate::Miss { why } => ("miss", miss(why)),
        Fate::Waits { on } => ("waits", format!("for {}", fit(&on.join(", "), 80))),
        Fate::Skipped { because } => ("skipped", because.clone()),
        Fate::Empty => ("empty", "no instances".to_owned()),
        Fate::Error { message } => ("error", fit(message, 200)),
    }
}

fn miss(why: &Miss) -> String {
    match why {
        Miss::NoEarlierRun => "never run".to_owned(),
        Miss::NotDeterministic { outcome, .. } => fit(outcome, 80),
        Miss::Gone { record } => format!("outputs of record {} are missing", record.short()),
        Miss::Limit { limit, was, is, .. } => {
            let amount = |value: u64| match limit {
                Limit::Fuel => quantity::count(value),
                _ => quantity::bytes(value),
            };
            format!("{limit} limit {} (was {})", amount(*is), amount(*was))
        }
        Miss::Differs { differences, .. } => {
            let all: Vec<String> = differences.iter().map(difference).collect();
            all.join("; ")
        }
    }
}

/// Describes a difference: `parameter depth 8 (was 6)`.
pub fn difference(difference: &Difference) -> String {
    fn maybe<T>(value: &Option<T>, show: impl Fn(&T) -> String) -> String {
        value.as_ref().map_or_else(|| "none".to_owned(), show)
    }
    match difference {
        Difference::Module { was, is } => format!("module {} (was {})", is.short(), was.short()),
        Difference::Parameter { name, was, is } => {
            let value = |value: &serde_json::Value| fit(&value.to_string(), 40);
            format!("parameter {name} {} (was {})", maybe(is, value), maybe(was, value))
        }
        Difference::Input { name, was, is, from } => {
            let from = from.as_ref().map_or(String::new(), |from| format!(" from {from}"));
            let short = |digest: &lockstep_runtime::digest::Digest| digest.short();
            format!("input {name}{from} {} (was {})", maybe(is, short), maybe(was, short))
        }
        Difference::Program { was, is } => {
            format!("called with {} (was {})", fit(&is.to_string(), 60), fit(&was.to_string(), 60))
        }
        Difference::Output { name, was, is } => {
            format!(
                "output {name} {} (was {})",
                maybe(is, ToString::to_string),
                maybe(was, ToString::to_string)
            )
        }
        Difference::Seed { was, is } => format!("seed {is} (was {was})"),
    }
}

/// Adds the edges between tasks.
pub fn edges(graph: &mut Graph, plan: &Plan) {
    for task in plan.tasks() {
        for (input, wire) in &task.wires {
            wire.from
                .tasks()
                .for_each(|from| graph.edge(from, &task.name, edge(input, &wire.from)));
        }
        task.for_each
            .iter()
            .for_each(|each| graph.edge(&each.over.task, &task.name, format!("for each of {}", each.over.output)));
        task.when
            .iter()
            .filter_map(|when| when.task())
            .for_each(|from| graph.edge(from, &task.name, "when"));
    }
}

fn edge(input: &str, from: &Source) -> String {
    match from {
        Source::Output(output) => output.output.clone(),
        _ => input.to_owned(),
    }
}
