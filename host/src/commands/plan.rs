use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::pipeline::{Explained, Plan, explain};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Limits;
use lockstep_view::columns::{Columns, fit};
use lockstep_view::error::Result;
use lockstep_view::export;
use lockstep_view::graph::{Class, Graph};
use lockstep_view::plan::{edges, told};
use lockstep_view::print::print;
use serde_json::json;

use crate::format::Format;
use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::pipelines::{GivenArgs, plan};

/// Show which tasks of a pipeline would run, and why
///
/// Resolves modules, parameters and inputs to digests. Runs nothing.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep plan wine.yaml
  lockstep plan wine.yaml -p depth=8 --json
  lockstep plan wine.yaml --graph svg > wine.svg
  lockstep plan wine.yaml -o plan.json && lockstep run plan.json")]
pub struct PlanArgs {
    /// Pipeline file or plan
    #[arg(value_name = "PIPELINE.yaml")]
    what: String,

    #[command(flatten)]
    given: GivenArgs,

    /// Print the graph of tasks in this format
    #[arg(long, value_name = "FORMAT", conflicts_with = "output")]
    graph: Option<Format>,

    /// Write the plan to a file, for `lockstep run`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: PlanArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let interrupt = interrupt_on_ctrl_c()?;
    for (_, source) in &args.given.inputs {
        invocation.bring(&runtime, source)?;
    }
    let plan = plan(&runtime, &args.what, args.given, &interrupt, invocation)?;
    if let Some(path) = &args.output {
        export::write(path, &plan.write()?)?;
    }
    let explained = match invocation.remote()? {
        None => explain(&runtime, &plan, &Limits::default())?,
        Some(remote) => remote.explain(&runtime.store, &plan)?,
    };
    if let Some(format) = args.graph {
        return print(graph(&plan, &explained).to_format(format.into()));
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

fn graph(plan: &Plan, explained: &[Explained]) -> Graph {
    let mut graph = Graph::default();
    let mut fates = explained.iter().peekable();
    for task in plan.tasks() {
        // an expanded task has the fates of its instances
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
