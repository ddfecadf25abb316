//! Lineage of artifacts.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Direction, Lineage};
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::{Link, Role, Row};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::columns::fit;
use crate::error::Result;
use crate::events::read;
use crate::graph::{Class, Graph};
use crate::runs;

/// Returns the graph of the runs and artifacts in these lineages of `start`. Node ids are hexadecimal digests; `label` returns the labels of
/// artifacts.
pub fn graph(lineages: &[&Lineage], start: &Digest, label: impl Fn(&Digest) -> Result<String>) -> Result<Graph> {
    let mut graph = Graph::default();
    let class = |digest: &Digest, other| if digest == start { Class::Focus } else { other };
    let artifacts = artifacts(lineages);
    let runs: BTreeMap<&Digest, &Row> = lineages.iter().flat_map(|lineage| &lineage.runs).collect();
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

/// Returns the artifacts in these lineages: those that lead to runs, and all outputs.
fn artifacts(lineages: &[&Lineage]) -> BTreeSet<Digest> {
    let mut artifacts: BTreeSet<Digest> = lineages.iter().flat_map(|lineage| lineage.leads.keys().copied()).collect();
    for row in lineages.iter().flat_map(|lineage| lineage.runs.values()) {
        let outputs = row.links.iter().filter(|link| link.role == Role::Output);
        artifacts.extend(outputs.map(|link| link.artifact));
    }
    artifacts
}

/// An artifact in the JSON of a lineage.
#[derive(Serialize, Deserialize)]
struct Listed {
    digest: Digest,
    /// The next runs; absent for an artifact where the lineage does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<Digest>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<MediaType>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// Converts a lineage to an object with `of`, `direction`, `runs` and `artifacts`. `known` returns what is known of an artifact.
pub fn to_json(
    lineage: &Lineage,
    start: &Digest,
    direction: Direction,
    known: impl Fn(&Digest) -> Result<Option<Artifact>>,
) -> Result<Value> {
    let links = |row: &Row, role| -> Value {
        let links = row.links.iter().filter(|link| link.role == role);
        links
            .map(|link| (link.name.clone(), json!(link.artifact)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let run = |row: &Row| {
        let mut run = runs::to_json(row);
        run["inputs"] = links(row, Role::Input);
        run["outputs"] = links(row, Role::Output);
        run
    };
    let artifact = |digest: &Digest| -> Result<Listed> {
        let known = known(digest)?;
        Ok(Listed {
            digest: *digest,
            records: lineage.leads.get(digest).cloned(),
            size: known.as_ref().map(|known| known.size),
            media_type: known.map(|known| known.media_type),
        })
    };
    let artifacts = artifacts(&[lineage]).iter().map(artifact).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "of": start,
        "direction": if direction == Direction::Up { "up" } else { "down" },
        "runs": lineage.runs.values().map(run).collect::<Vec<_>>(),
        "artifacts": artifacts,
    }))
}

/// Reads a lineage that [`to_json`] wrote, with what it knows of the artifacts.
pub fn from_json(mut value: Value) -> Result<(Lineage, BTreeMap<Digest, Artifact>)> {
    let mut lineage = Lineage::default();
    let listed: Vec<Value> = read(value["runs"].take())?;
    for mut run in listed {
        let links = |role, value: Value| -> Result<Vec<Link>> {
            let links: BTreeMap<String, Digest> = read(value)?;
            let link = |(name, artifact)| Link { artifact, role, name };
            Ok(links.into_iter().map(link).collect())
        };
        let (inputs, outputs) = (run["inputs"].take(), run["outputs"].take());
        let mut row = runs::from_json(run)?;
        row.links.push(Link {
            artifact: row.module,
            role: Role::Module,
            name: "module".to_owned(),
        });
        row.links.extend(links(Role::Input, inputs)?);
        row.links.extend(links(Role::Output, outputs)?);
        lineage.runs.insert(row.record, row);
    }
    let mut known = BTreeMap::new();
    let listed: Vec<Listed> = read(value["artifacts"].take())?;
    for Listed {
        digest,
        records,
        media_type,
        size,
    } in listed
    {
        lineage.leads.extend(records.map(|records| (digest, records)));
        if let (Some(media_type), Some(size)) = (media_type, size) {
            let artifact = Artifact {
                digest,
                media_type,
                size,
            };
            known.insert(digest, artifact);
        }
    }
    Ok((lineage, known))
}
