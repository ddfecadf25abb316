//! Lineage of artifacts.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Direction, Lineage};
use lockstep_runtime::store::{Role, Row};
use serde_json::{Value, json};

use crate::columns::fit;
use crate::error::Result;
use crate::graph::{Class, Graph};

/// Returns the graph of the runs and artifacts in these lineages of `start`. Node ids are hexadecimal digests; `label` returns the labels of
/// artifacts.
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

/// Converts a lineage to an object with `of`, `direction`, `runs` and `artifacts`.
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
