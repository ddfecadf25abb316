use std::collections::BTreeMap;

use lockstep_kernel::session::{CellTask, InputFrom, Tasks};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Entry;
use lockstep_runtime::step::MediaType;
use lockstep_view::error::{Error, Result};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The names of modules and inputs in a pipeline file. Others are named by digest.
pub type Names = BTreeMap<Digest, String>;

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: &'a BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "is_zero")]
    seed: u64,
    tasks: InOrder<'a>,
}

/// Tasks in the order of the cells.
struct InOrder<'a>(Vec<(&'a str, Task<'a>)>);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, task) in &self.0 {
            map.serialize_entry(name, task)?;
        }
        map.end()
    }
}

#[derive(Default, Serialize)]
struct Task<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    modules: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    values: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'a str, &'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    outputs: BTreeMap<&'a str, &'a MediaType>,
}

fn is_zero(seed: &u64) -> bool {
    *seed == 0
}

/// Writes the pipeline file of a notebook.
pub fn yaml(name: &str, tasks: &Tasks, names: &Names) -> Result<String> {
    let file = File {
        name,
        parameters: &tasks.parameters,
        seed: tasks.tasks.first().map_or(0, |task| task.run.seed),
        tasks: InOrder(
            tasks
                .tasks
                .iter()
                .map(|each| (each.name.as_str(), task(each, names)))
                .collect(),
        ),
    };
    serde_saphyr::to_string(&file).map_err(|e| Error::host(format_args!("can't write the pipeline as YAML: {e}")))
}

fn task<'a>(task: &'a CellTask, names: &Names) -> Task<'a> {
    let called = |digest: &Digest| names.get(digest).cloned().unwrap_or_else(|| digest.to_string());
    let run = &task.run;
    let mut said = Task {
        modules: run
            .modules
            .iter()
            .map(|(name, module)| (name.as_str(), called(module)))
            .collect(),
        ..Task::default()
    };
    for (input, given) in &run.inputs {
        match task.from.get(input) {
            Some(InputFrom::Output { task, output }) => drop(said.inputs.insert(input, format!("{task}.{output}"))),
            Some(InputFrom::Parameter(name)) => drop(said.values.insert(input, format!("{{{{ {name} }}}}"))),
            Some(InputFrom::Outside(_)) | None => drop(said.inputs.insert(input, called(&given.artifact.digest))),
        }
    }
    match &run.entry {
        Entry::Step { name, parameters } => {
            said.step = Some(format!("{}#{name}", called(&run.module)));
            said.parameters = parameters.iter().map(|(name, value)| (name.as_str(), value)).collect();
        }
        Entry::Program { stdin, .. } => {
            said.program = Some(called(&run.module));
            said.stdin = stdin.as_deref();
            said.outputs = run
                .outputs
                .iter()
                .map(|(name, media_type)| (name.as_str(), media_type))
                .collect();
        }
    }
    said
}
