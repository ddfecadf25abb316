use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Direction, Lineage, Runtime};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Artifact;
use lockstep_runtime::store::{Link, Row};
use lockstep_view::artifacts::{Named, find};
use lockstep_view::columns::fit;
use lockstep_view::error::Result;
use lockstep_view::lineage::{from_json, graph, to_json};
use lockstep_view::quantity;
use serde_json::json;

use crate::format::Format;
use crate::invocation::Invocation;

/// Show the upstream or downstream runs of an artifact or a record
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep lineage 8b01d2/rows
  lockstep lineage penguins.csv --down
  lockstep lineage 8b01d2 --graph svg > lineage.svg")]
pub struct LineageArgs {
    /// Path, digest or its prefix, or RECORD/OUTPUT
    #[arg(value_name = "WHAT")]
    what: String,

    /// Show what was made from it
    #[arg(long)]
    down: bool,

    /// Print a graph in this format
    #[arg(long, value_name = "FORMAT")]
    graph: Option<Format>,
}

/// The artifacts of a lineage.
enum Artifacts {
    /// In the store of this machine.
    Here(Box<Runtime>),
    /// As a host described them.
    There(BTreeMap<Digest, Artifact>),
}

impl Artifacts {
    fn known(&self, digest: &Digest) -> Result<Option<Artifact>> {
        match self {
            Self::Here(runtime) => Ok(runtime.store.artifact(digest)?),
            Self::There(known) => Ok(known.get(digest).cloned()),
        }
    }

    /// Returns digest, media type and size, as far as they are known.
    fn describe(&self, digest: &Digest, between: &str) -> Result<String> {
        Ok(match self.known(digest)? {
            None => digest.short(),
            Some(artifact) => {
                let (media_type, size) = (fit(artifact.media_type.as_str(), 60), quantity::bytes(artifact.size));
                format!("{}{between}{media_type}  {size}", digest.short())
            }
        })
    }
}

/// The text of a lineage, while it is written.
struct LineageText<'a> {
    artifacts: &'a Artifacts,
    lineage: &'a Lineage,
    direction: Direction,
    /// What is written already. It is not repeated.
    above: BTreeSet<Digest>,
    text: String,
}

pub fn run(args: LineageArgs, invocation: &Invocation) -> Result<()> {
    let direction = if args.down { Direction::Down } else { Direction::Up };
    let (start, lineage, artifacts) = lineage(&args.what, direction, invocation)?;
    if let Some(format) = args.graph {
        let graph = graph(&[&lineage], &start, |artifact| artifacts.describe(artifact, "\n"))?.to_format(format.into());
        return invocation.answer(&graph, || json!({ "graph": graph }));
    }
    let mut told = LineageText {
        artifacts: &artifacts,
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
    let json = to_json(&lineage, &start, direction, |artifact| artifacts.known(artifact))?;
    invocation.answer(text, || json)
}

/// Returns the digest that `what` names, and its lineage: on the host, if there is one.
fn lineage(what: &str, direction: Direction, invocation: &Invocation) -> Result<(Digest, Lineage, Artifacts)> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let start = || -> Result<(Digest, bool)> {
        Ok(match find(&runtime, what)? {
            Named::Artifact(artifact) => (artifact.digest, false),
            Named::Record(found) => (found.0, true),
        })
    };
    let Some(remote) = invocation.remote()? else {
        let (start, _) = start()?;
        let lineage = runtime.lineage(&start, direction)?;
        return Ok((start, lineage, Artifacts::Here(Box::new(runtime))));
    };
    let (start, is_record) = match remote.bring_name(&runtime, what)? {
        Some(artifact) => (artifact, false),
        None => start()?,
    };
    let (lineage, known) = from_json(remote.lineage(&start, is_record, direction)?)?;
    Ok((start, lineage, Artifacts::There(known)))
}

impl LineageText<'_> {
    /// Writes a line for an artifact, indented with `first`, and what it leads to, indented with `rest`.
    fn artifact(&mut self, name: Option<&str>, digest: &Digest, first: &str, rest: &str) -> Result<()> {
        let leads = self.lineage.leads.get(digest).map_or(&[][..], Vec::as_slice);
        let note = match (self.above.insert(*digest), self.direction) {
            (false, _) if !leads.is_empty() => "  (see above)",
            (_, Direction::Up) if leads.is_empty() => "  given",
            _ => "",
        };
        let name = name.map_or_else(String::new, |name| format!("{}  ", fit(name, 40)));
        let line = format!("{first}{name}{}{note}\n", self.artifacts.describe(digest, "  ")?);
        self.text.push_str(&line);
        if note.is_empty() {
            let runs = leads.iter().filter_map(|record| self.lineage.runs.get(record));
            self.below(&runs.collect::<Vec<_>>(), rest, |told, row, first, rest| {
                told.run(row, first, rest)
            })?;
        }
        Ok(())
    }

    /// Writes a line for a run, and the artifacts that it leads to.
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

    /// Writes the branches below a line.
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

/// Returns the line of a run: `copy of module 1f2e3d4c5b6a, record 8b01d2e3f4a5`.
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
