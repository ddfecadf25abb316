//! A pipeline of Kubeflow whose containers are ours, as a plan that is carried out here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Pipeline, Plan, Source, TaskOutput, Wire};
use lockstep_runtime::run::{Names, Runtime};
use lockstep_runtime::step::{Artifact, MediaType, Parameter};
use serde_json::Value;

use super::ir::{ArtifactFrom, Container, Dag, ParameterFrom, PipelineSpec, Task};
use super::{Given, executor, parameter};
use crate::artifacts::artifact;
use crate::cli::read_run;
use crate::commands::run::of_container;
use crate::error::{Error, Result};
use crate::pipelines::{GivenArgs, unique};

/// What tells such a file from a pipeline of ours and from a plan.
const KEYS: [&str; 2] = ["pipelineInfo", "deploymentSpec"];

/// Reads the pipeline in `path`; `None` if the file is none of Kubeflow's, or can't be read, which others tell.
pub fn read(path: &Path) -> Result<Option<PipelineSpec>> {
    let text = std::fs::read_to_string(path).ok();
    let Some(text) = text.filter(|text| KEYS.iter().all(|key| text.contains(key))) else {
        return Ok(None);
    };
    // as much as there is text for
    let budget = serde_saphyr::budget! {
        max_events: usize::MAX, max_nodes: usize::MAX, max_total_scalar_bytes: usize::MAX
    };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    let failed = |reason: &dyn std::fmt::Display| Error::config(format_args!("{}: {reason}", path.display()));
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options).map_err(|e| failed(&e))?;
    let is_spec = |document: &Value| KEYS.iter().all(|key| document.get(key).is_some());
    let Some(document) = documents.into_iter().find(is_spec) else {
        return Ok(None);
    };
    let spec = serde_json::from_value::<PipelineSpec>(document).map_err(|e| {
        failed(&format_args!("the pipeline of Kubeflow can't be read: {e}")).hint("it is to have schema version 2.1.0")
    })?;
    Ok(Some(spec))
}

/// The plan of a pipeline of Kubeflow, with what it is given.
pub fn plan(runtime: &Runtime, spec: &PipelineSpec, given: GivenArgs) -> Result<Plan> {
    let Some(dag) = &spec.root.dag else {
        return Err(Error::config(format_args!("{} has no tasks", spec.pipeline_info.name)));
    };
    let reading = Reading {
        runtime,
        spec,
        parameters: parameters(spec, &given)?,
        inputs: inputs(runtime, spec, given.inputs)?,
    };
    let mut tasks = Vec::new();
    for label in in_order(dag)? {
        let task = reading.task(label, &dag.tasks[label]);
        tasks.push(task.map_err(|error| error.of(format_args!("task `{label}`")))?);
    }
    let outputs = dag
        .outputs
        .artifacts
        .iter()
        .filter_map(|(name, from)| match &from.artifact_selectors[..] {
            [one] => Some((
                name.clone(),
                Source::Output(output(&one.producer_subtask, &one.output_artifact_key)),
            )),
            _ => None,
        });
    Ok(Plan::of_tasks(&spec.pipeline_info.name, tasks, outputs.collect())?)
}

/// The parameters of the pipeline: those that are given, else the defaults. Those that may be left out may be missing.
fn parameters(spec: &PipelineSpec, given: &GivenArgs) -> Result<BTreeMap<String, Value>> {
    let definitions = &spec.root.input_definitions.parameters;
    let mut all = match &given.parameters_file {
        Some(file) => Pipeline::read_parameters(file)?,
        None => BTreeMap::new(),
    };
    let declared = |name: &String| -> Result<Parameter> {
        let Some(definition) = definitions.get(name) else {
            let known = Names::of(definitions.keys().map(String::as_str));
            return Err(Error::user(format_args!(
                "the pipeline has no parameter `{name}`; it has {known}"
            )));
        };
        let kind = definition.parameter_type.kind();
        Ok(Parameter {
            name: name.clone(),
            doc: String::new(),
            kind,
            default: definition.default_value.clone().and_then(|value| parameter(kind, value)),
        })
    };
    for (name, text) in unique("parameter", given.parameters.clone())? {
        let value = declared(&name)?.parse(&text).map_err(Error::user)?;
        all.insert(name, value);
    }
    for (name, value) in &all {
        declared(name)?.value(Some(value)).map_err(Error::user)?;
    }
    for (name, definition) in definitions {
        let parameter = declared(name)?;
        if !all.contains_key(name) && (parameter.default.is_some() || !definition.is_optional) {
            all.insert(name.clone(), parameter.value(None).map_err(Error::user)?);
        }
    }
    Ok(all)
}

/// The artifacts that the pipeline is given.
fn inputs(runtime: &Runtime, spec: &PipelineSpec, given: Vec<(String, String)>) -> Result<BTreeMap<String, Artifact>> {
    let definitions = &spec.root.input_definitions.artifacts;
    let mut inputs = BTreeMap::new();
    for (name, source) in unique("input", given)? {
        if !definitions.contains_key(&name) {
            let known = Names::of(definitions.keys().map(String::as_str));
            return Err(Error::user(format_args!(
                "the pipeline has no input `{name}`; it has {known}"
            )));
        }
        inputs.insert(name, artifact(runtime, &source)?);
    }
    Ok(inputs)
}

/// The tasks, each after those whose outputs it is given.
fn in_order(dag: &Dag) -> Result<Vec<&str>> {
    let mut order = Vec::new();
    let mut open: BTreeSet<&str> = dag.tasks.keys().map(String::as_str).collect();
    while !open.is_empty() {
        let ready = |label: &&str| producers(&dag.tasks[*label]).all(|producer| !open.contains(producer));
        let ready: Vec<&str> = open.iter().copied().filter(ready).collect();
        if ready.is_empty() {
            let known = Names::of(open);
            return Err(Error::config(format_args!("these tasks wait for one another: {known}")));
        }
        open.retain(|label| !ready.contains(label));
        order.extend(ready);
    }
    Ok(order)
}

fn producers(task: &Task) -> impl Iterator<Item = &str> {
    task.inputs.artifacts.values().filter_map(|from| match from {
        ArtifactFrom::TaskOutputArtifact { producer_task, .. } => Some(producer_task.as_str()),
        ArtifactFrom::ComponentInputArtifact(_) => None,
    })
}

fn output(task: &str, output: &str) -> TaskOutput {
    TaskOutput {
        task: task.to_owned(),
        output: output.to_owned(),
    }
}

/// What tasks are read with.
struct Reading<'a> {
    runtime: &'a Runtime,
    spec: &'a PipelineSpec,
    parameters: BTreeMap<String, Value>,
    inputs: BTreeMap<String, Artifact>,
}

impl Reading<'_> {
    fn task(&self, label: &str, task: &Task) -> Result<lockstep_runtime::pipeline::Task> {
        for (is_there, what) in [
            (task.trigger_policy.is_some(), "a condition"),
            (
                task.parameter_iterator.is_some() || task.artifact_iterator.is_some(),
                "a loop",
            ),
        ] {
            if is_there {
                return Err(Error::config(format_args!("it is run by {what}, which is not done here")));
            }
        }
        let container = self.container(task)?;
        let (given, mut wires) = self.given(task)?;
        let (mut run, limits) = of_container(read_run(&container.args)?, self.runtime, given)?;
        for (name, wire) in &mut wires {
            wire.at = run.inputs.remove(name).and_then(|input| input.at);
        }
        Ok(lockstep_runtime::pipeline::Task {
            name: label.to_owned(),
            run,
            wires,
            files: BTreeMap::new(),
            for_each: None,
            when: Vec::new(),
            retries: task.retry_policy.as_ref().map_or(0, |policy| policy.max_retry_count),
            limits,
        })
    }

    /// The container of a task; an error unless it is one of ours.
    fn container(&self, task: &Task) -> Result<&Container> {
        let name = &task.component_ref.name;
        let Some(component) = self.spec.components.get(name) else {
            return Err(Error::config(format_args!("there is no component `{name}`")));
        };
        let label = component.executor_label.as_ref();
        let executor = label.and_then(|label| self.spec.deployment_spec.executors.get(label));
        let Some(container) = executor.and_then(|executor| executor.container.as_ref()) else {
            return Err(Error::config(format_args!(
                "component `{name}` is a pipeline of its own, or is carried out by Kubeflow itself"
            ))
            .hint("what is run here are tasks with containers of lockstep"));
        };
        let is_ours = container
            .command
            .last()
            .is_some_and(|last| last == crate::cluster::pod::COMMAND)
            && container.args.first().is_some_and(|first| first == "run")
            && container.args.iter().any(|arg| arg == executor::EXECUTOR_INPUT);
        match is_ours {
            true => Ok(container),
            false => Err(Error::config(format_args!(
                "image {} is run with a command that is not lockstep's",
                container.image
            ))
            .hint("`lockstep export STEP --to kfp` writes components that run here too")),
        }
    }

    /// What a task is given: artifacts that others make stand there in name only, and are wires.
    fn given(&self, task: &Task) -> Result<(Given, BTreeMap<String, Wire>)> {
        let mut given = Given::default();
        for (name, from) in &task.inputs.parameters {
            given
                .parameters
                .extend(self.parameter(name, from)?.map(|value| (name.clone(), value)));
        }
        let mut wires: BTreeMap<String, Wire> = BTreeMap::new();
        for (name, from) in &task.inputs.artifacts {
            let from = match from {
                ArtifactFrom::ComponentInputArtifact(input) => {
                    if let Some(artifact) = self.inputs.get(input) {
                        given.inputs.insert(name.clone(), artifact.clone());
                    }
                    continue;
                }
                ArtifactFrom::TaskOutputArtifact {
                    producer_task,
                    output_artifact_key,
                } => output(producer_task, output_artifact_key),
            };
            let (name, entry) = match name.split_once('/') {
                None => (name.as_str(), None),
                Some((name, entry)) => (name, Some(entry.to_owned())),
            };
            let wire = wires.entry(name.to_owned()).or_insert_with(|| Wire {
                from: Source::Gathered(BTreeMap::new()),
                at: None,
            });
            match (&mut wire.from, entry) {
                (Source::Gathered(entries), Some(entry)) => drop(entries.insert(entry, from)),
                (whole, _) => *whole = Source::Output(from),
            }
            given.inputs.insert(name.to_owned(), stand_in());
        }
        Ok((given, wires))
    }

    fn parameter(&self, name: &str, from: &ParameterFrom) -> Result<Option<Value>> {
        match from {
            ParameterFrom::RuntimeValue { constant } if constant.as_str().is_some_and(|text| text.contains("{{$")) => Err(
                Error::config(format_args!("parameter `{name}` is put together by Kubeflow: {constant}")),
            ),
            ParameterFrom::RuntimeValue { constant } => Ok(Some(constant.clone())),
            ParameterFrom::ComponentInputParameter(parameter) => Ok(self.parameters.get(parameter).cloned()),
            ParameterFrom::TaskOutputParameter(_) | ParameterFrom::TaskFinalStatus(_) => Err(Error::config(format_args!(
                "parameter `{name}` is known only when another task has run"
            ))
            .hint("what tasks make for one another are artifacts")),
        }
    }
}

/// What stands for an artifact that another task makes.
fn stand_in() -> Artifact {
    Artifact {
        digest: Digest::of([]),
        media_type: MediaType::default(),
        size: 0,
    }
}
