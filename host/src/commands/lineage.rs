use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Direction, Lineage, Runtime};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::{Link, Role, Row};
use serde_json::{Value, json};

use crate::artifacts::{Named, find};
use crate::columns::fit;
use crate::error::Result;
use crate::graph::{Class, Format, Graph};
use crate::invocation::Invocation;
use crate::quantity;

/// Tell what an artifact or a record came from, back to what was given; or what came from it
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep lineage 8b01d2/rows
  lockstep lineage penguins.csv --down
  lockstep lineage 8b01d2 --graph svg > lineage.svg")]
pub struct LineageArgs {
    /// A path, a digest, the start of one, or RECORD/OUTPUT
    #[arg(value_name = "WHAT")]
    what: String,

    /// Tell what came from it
    #[arg(long)]
    down: bool,

    /// Write a graph
    #[arg(long, value_name = "FORMAT")]
    graph: Option<Format>,
}

/// A lineage that is being written.
struct Told<'a> {
    runtime: &'a Runtime,
    lineage: &'a Lineage,
    direction: Direction,
    /// What stands above already, and is not told again.
    above: BTreeSet<Digest>,
    text: String,
}

pub fn run(args: LineageArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let direction = if args.down { Direction::Down } else { Direction::Up };
    let start = match find(&runtime, &args.what)? {
        Named::Artifact(artifact) => artifact.digest,
        Named::Record(found) => found.0,
    };
    let lineage = runtime.lineage(&start, direction)?;
    if let Some(format) = args.graph {
        let graph = graph(&[&lineage], &start, |artifact| describe(&runtime, artifact, "\n"))?.to_format(format);
        return invocation.answer(&graph, || json!({ "graph": graph }));
    }
    let mut told = Told {
        runtime: &runtime,
        lineage: &lineage,
        direction,
        above: BTreeSet::new(),
        text: String::new(),
    };
    match lineage.runs.get(&start) {
        Some(row) => told.run(row, "", "")?,
        None => told.artifact(None, &start, "", "")?,
    }
    let text = told.text;
    invocation.answer(text, || to_json(&lineage, &start, direction))
}

impl Told<'_> {
    /// A line for an artifact, behind `first`, and what it leads to, behind `rest`.
    fn artifact(&mut self, name: Option<&str>, digest: &Digest, first: &str, rest: &str) -> Result<()> {
        let leads = self.lineage.leads.get(digest).map_or(&[][..], Vec::as_slice);
        let note = match (self.above.insert(*digest), self.direction) {
            (false, _) if !leads.is_empty() => "  (see above)",
            (_, Direction::Up) if leads.is_empty() => "  given",
            _ => "",
        };
        let name = name.map_or_else(String::new, |name| format!("{}  ", fit(name, 40)));
        let line = format!("{first}{name}{}{note}\n", describe(self.runtime, digest, "  ")?);
        self.text.push_str(&line);
        if note.is_empty() {
            let runs = leads.iter().filter_map(|record| self.lineage.runs.get(record));
            self.below(&runs.collect::<Vec<_>>(), rest, |told, row, first, rest| {
                told.run(row, first, rest)
            })?;
        }
        Ok(())
    }

    /// A line for a run, and the artifacts that it leads to.
    fn run(&mut self, row: &Row, first: &str, rest: &str) -> Result<()> {
        let known = !self.above.insert(row.record);
        let note = if known { "  (see above)" } else { "" };
        self.text.push_str(&format!("{first}{}{note}\n", title(row)));
        let links = if known {
            Vec::new()
        } else {
            self.lineage.of_run(&row.record, self.direction)
        };
        self.below(&links, rest, |told, link: &&Link, first, rest| {
            told.artifact(Some(&link.name), &link.artifact, first, rest)
        })
    }

    /// The branches below a line.
    fn below<T>(&mut self, all: &[T], rest: &str, tell: impl Fn(&mut Self, &T, &str, &str) -> Result<()>) -> Result<()> {
        for (at, item) in all.iter().enumerate() {
            let (corner, line) = match at + 1 == all.len() {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            tell(self, item, &format!("{rest}{corner}"), &format!("{rest}{line}"))?;
        }
        Ok(())
    }
}

/// `copy of module 1f2e3d4c5b6a, record 8b01d2e3f4a5`
fn title(row: &Row) -> String {
    let step = match row.step.as_str() {
        "" => "program".to_owned(),
        step => fit(step, 60),
    };
    let outcome = match row.word.as_str() {
        "succeeded" => String::new(),
        _ => format!(", {}", fit(&row.outcome, 60)),
    };
    format!(
        "{step} of module {}, record {}{outcome}",
        row.module.short(),
        row.record.short()
    )
}

/// Digest, media type and size, as far as they are known.
fn describe(runtime: &Runtime, digest: &Digest, between: &str) -> Result<String> {
    Ok(match runtime.store.artifact(digest)? {
        None => digest.short(),
        Some(artifact) => {
            let (media_type, size) = (fit(artifact.media_type.as_str(), 60), quantity::bytes(artifact.size));
            format!("{}{between}{media_type}  {size}", digest.short())
        }
    })
}

/// Runs and artifacts of these lineages of `start`; nodes are called by the digits of their digests. `label` is what is written in those
/// of artifacts.
pub fn graph(lineages: &[&Lineage], start: &Digest, label: impl Fn(&Digest) -> Result<String>) -> Result<Graph> {
    let mut graph = Graph::default();
    let class = |digest: &Digest, other| if digest == start { Class::Focus } else { other };
    let mut artifacts: BTreeSet<Digest> = lineages.iter().flat_map(|lineage| lineage.leads.keys().copied()).collect();
    let runs: BTreeMap<&Digest, &Row> = lineages.iter().flat_map(|lineage| &lineage.runs).collect();
    for row in runs.values() {
        artifacts.extend(
            row.links
                .iter()
                .filter(|link| link.role == Role::Output)
                .map(|link| link.artifact),
        );
    }
    for digest in &artifacts {
        graph.node(&digest.hex(), label(digest)?, class(digest, Class::Plain));
    }
    for (record, row) in runs {
        let outcome = if row.word == "succeeded" { Class::Hit } else { Class::Failed };
        let label = format!("{}\nrecord {}", fit(&row.step, 30), record.short());
        graph.node(&record.hex(), label, class(record, outcome));
        for link in row.links.iter().filter(|link| artifacts.contains(&link.artifact)) {
            let (artifact, run) = (link.artifact.hex(), record.hex());
            match link.role {
                Role::Input => graph.edge(&artifact, &run, &link.name),
                Role::Module => graph.edge(&artifact, &run, "module"),
                Role::Output => graph.edge(&run, &artifact, &link.name),
                Role::Log => {}
            }
        }
    }
    Ok(graph)
}

/// `of`, `direction`, `runs` and `artifacts`.
pub fn to_json(lineage: &Lineage, start: &Digest, direction: Direction) -> Value {
    let links = |row: &Row, role| -> Value {
        let links = row.links.iter().filter(|link| link.role == role);
        links
            .map(|link| (link.name.clone(), json!(link.artifact)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let run = |row: &Row| {
        json!({
            "record": row.record,
            "module": row.module,
            "step": row.step,
            "is": row.word,
            "inputs": links(row, Role::Input),
            "outputs": links(row, Role::Output),
        })
    };
    let artifact = |(digest, runs): (&Digest, &Vec<Digest>)| json!({ "digest": digest, "records": runs });
    json!({
        "of": start,
        "direction": if direction == Direction::Up { "up" } else { "down" },
        "runs": lineage.runs.values().map(run).collect::<Vec<_>>(),
        "artifacts": lineage.leads.iter().map(artifact).collect::<Vec<_>>(),
    })
}
