//! A pipeline of Kubeflow whose containers are ours, as a plan that is carried out here.
//!
//! Loops, conditions and pipelines within pipelines are DAGs of their own, whose tasks are put in their place ([`dag`]). What decides about them is known by
//! then ([`scope`], [`condition`]); what is left are containers ([`container`]).

mod condition;
mod container;
mod dag;
mod scope;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockstep_runtime::pipeline::{Pipeline, Plan};
use lockstep_runtime::run::{Names, Run, Runtime};
use lockstep_runtime::step::{Artifact, OwnLimits, Parameter};
use lockstep_view::artifacts::artifact;
use lockstep_view::artifacts::unique;
use lockstep_view::error::{Error, Result};
use serde_json::Value;

use self::scope::Scope;
use super::ir::PipelineSpec;
use super::{Given, parameter};

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

/// What a person gives a pipeline, as it was typed.
pub struct Typed {
    /// Parameters: names and texts.
    pub parameters: Vec<(String, String)>,
    /// Inputs: names, and what people call artifacts.
    pub inputs: Vec<(String, String)>,
    /// A file with more parameters.
    pub parameters_file: Option<PathBuf>,
}

/// The run that the arguments of `lockstep run` ask for, with what else a container is given; and the limits that they set.
pub type Bind<'a> = dyn Fn(&[String], Given) -> Result<(Run, OwnLimits)> + 'a;

/// The plan of a pipeline of Kubeflow, with what it is given. `bind` reads what containers are called with.
pub fn plan(runtime: &Runtime, spec: &PipelineSpec, given: Typed, bind: &Bind) -> Result<Plan> {
    let Some(dag) = &spec.root.dag else {
        return Err(Error::config(format_args!("{} has no tasks", spec.pipeline_info.name)));
    };
    let scope = Scope::of_pipeline(parameters(spec, &given)?, inputs(runtime, spec, given.inputs)?);
    let (tasks, outputs) = dag::tasks(bind, spec, dag, &scope)?;
    Ok(Plan::of_tasks(&spec.pipeline_info.name, tasks, outputs)?)
}

/// The parameters of the pipeline: those that are given, else the defaults. Those that may be left out may be missing.
fn parameters(spec: &PipelineSpec, given: &Typed) -> Result<BTreeMap<String, Value>> {
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
