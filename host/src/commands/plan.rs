use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::pipeline::{Difference, Explained, Fate, Miss, Plan, Source, explain};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::{Limit, Limits};
use serde_json::json;

use crate::columns::{Columns, fit};
use crate::error::Result;
use crate::graph::{Class, Format, Graph};
use crate::invocation::{Invocation, interrupt_on_ctrl_c, print};
use crate::pipelines::{GivenArgs, plan};
use crate::remote::{Remote, bring};
use crate::{export, quantity};

/// Say of each task of a pipeline whether it would be run, and why
///
/// Modules, parameters and inputs are pinned to digests; nothing is run.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep plan wine.yaml
  lockstep plan wine.yaml -p depth=8 --json
  lockstep plan wine.yaml --graph svg > wine.svg
  lockstep plan wine.yaml -o plan.json && lockstep run plan.json")]
pub struct PlanArgs {
    /// The pipeline's file, or a plan
    #[arg(value_name = "PIPELINE.yaml")]
    what: String,

    #[command(flatten)]
    given: GivenArgs,

    /// Print a graph of the tasks
    #[arg(long, value_name = "FORMAT", conflicts_with = "output")]
    graph: Option<Format>,

    /// Write the plan, which `lockstep run` runs, to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: PlanArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let interrupt = interrupt_on_ctrl_c()?;
    for (_, source) in &args.given.inputs {
        bring(&runtime, source, invocation)?;
    }
    let plan = plan(&runtime, &args.what, args.given, &interrupt, invocation)?;
    if let Some(path) = &args.output {
        export::write(path, &plan.write()?)?;
    }
    let explained = match Remote::of(invocation)? {
        None => explain(&runtime, &plan, &Limits::default())?,
        Some(remote) => remote.explain(&runtime.store, &plan)?,
    };
    if let Some(format) = args.graph {
        return print(graph(&plan, &explained).to_format(format));
    }
    let digest = plan.digest()?;
    invocation.answer(
        table(&explained),
        || json!({ "pipeline": plan.name, "plan": digest, "tasks": explained }),
    )
}

fn table(explained: &[Explained]) -> String {
    let mut table = Columns::headed(&["task", "plan", "why"]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for Explained { task, fate } in explained {
        let (word, why) = told(fate);
        *counts.entry(word).or_default() += 1;
        table.row([fit(task, 60), word.to_owned(), why]);
    }
    let counts = counts.iter().map(|(word, count)| format!("{count} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    match explained.len() {
        0 => "no tasks\n".to_owned(),
        1 => table.to_string(),
        count => format!("{table}{count} tasks: {counts}\n"),
    }
}

/// The fate in a word, and what there is to say of it.
pub fn told(fate: &Fate) -> (&'static str, String) {
    match fate {
        Fate::Hit { record, succeeded, .. } => match succeeded {
            true => ("hit", format!("record {}", record.short())),
            false => ("failed", format!("record {}", record.short())),
        },
        Fate::Miss { why } => ("miss", miss(why)),
        Fate::Waits { on } => ("waits", format!("for {}", fit(&on.join(", "), 80))),
        Fate::Skipped { because } => ("skipped", because.clone()),
        Fate::Error { message } => ("error", fit(message, 200)),
    }
}

fn miss(why: &Miss) -> String {
    match why {
        Miss::NoEarlierRun => "never run".to_owned(),
        Miss::NotDeterministic { outcome, .. } => fit(outcome, 80),
        Miss::Gone { record } => format!("what record {} made is gone", record.short()),
        Miss::Limit { limit, was, is, .. } => {
            let amount = |value: u64| match limit {
                Limit::Fuel => quantity::count(value),
                _ => quantity::bytes(value),
            };
            format!("limit of {limit} {} (was run with {})", amount(*is), amount(*was))
        }
        Miss::Differs { differences, .. } => {
            let all: Vec<String> = differences.iter().map(difference).collect();
            all.join("; ")
        }
    }
}

/// `parameter depth 8 (was 6)`
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

fn graph(plan: &Plan, explained: &[Explained]) -> Graph {
    let mut graph = Graph::default();
    let mut fates = explained.iter().peekable();
    for task in plan.tasks() {
        // a task that is known to be several has the fates of its instances
        let instances = format!("{}[", task.name);
        let mut own = Vec::new();
        while let Some(next) =
            fates.next_if(|next| next.task == task.name || task.for_each.is_some() && next.task.starts_with(&instances))
        {
            own.push(told(&next.fate).0);
        }
        own.sort_unstable();
        own.dedup();
        graph.node(&task.name, format!("{}\n{}", task.name, own.join(", ")), class(&own));
    }
    edges(&mut graph, plan);
    graph
}

/// Adds what leads from task to task.
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

fn class(fates: &[&str]) -> Class {
    let any = |words: &[&str]| fates.iter().any(|fate| words.contains(fate));
    if any(&["failed", "error"]) {
        Class::Failed
    } else if any(&["miss"]) {
        Class::Miss
    } else if any(&["waits", "skipped"]) || fates.is_empty() {
        Class::Plain
    } else {
        Class::Hit
    }
}
