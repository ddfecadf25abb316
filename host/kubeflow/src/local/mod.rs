//! Conversion of a KFP pipeline with lockstep containers to a plan, for local execution.
//!
//! Loops, conditions and nested pipelines are DAGs, which are replaced by their tasks ([`dag`]). Their parameters and conditions are
//! evaluated first ([`scope`], [`condition`]). The remaining tasks are containers ([`container`]). [`file`](mod@file) reads the file.

mod condition;
mod container;
mod dag;
mod file;
mod scope;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_runtime::pipeline::{Pipeline, Plan};
use lockstep_runtime::run::{Names, Run, Runtime};
use lockstep_runtime::step::{Artifact, OwnLimits, Parameter};
use lockstep_view::artifacts::artifact;
use lockstep_view::artifacts::unique;
use lockstep_view::error::{Error, Result};
use serde_json::Value;

use self::scope::Scope;
use super::ir::PipelineSpec;
use super::{ContainerInputs, allowed, parameter};

pub use self::file::{parse, read};

/// Inputs of a pipeline from the command line.
#[derive(Default)]
pub struct Typed {
    /// Parameters: names and unparsed values.
    pub parameters: Vec<(String, String)>,
    /// Inputs: names and sources.
    pub inputs: Vec<(String, String)>,
    /// File with more parameters.
    pub parameters_file: Option<PathBuf>,
}

/// Parses arguments of `lockstep run`, with the other inputs of a container. Returns the run and its limits.
pub type Bind<'a> = dyn Fn(&[String], ContainerInputs) -> Result<(Run, OwnLimits)> + 'a;

/// Converts a KFP pipeline to a plan. `bind` parses the arguments of containers.
pub fn plan(runtime: &Runtime, spec: &PipelineSpec, given: Typed, bind: &Bind) -> Result<Plan> {
    let Some(dag) = &spec.root.dag else {
        return Err(Error::config(format_args!(
            "{}: pipeline {} has no tasks",
            spec.file, spec.pipeline_info.name
        )));
    };
    dag::check(spec)?;
    let scope = Scope::of_pipeline(parameters(spec, &given)?, inputs(runtime, spec, given.inputs)?);
    dag::plan(bind, spec, dag, &scope)
}

/// Returns the parameters of the pipeline: supplied values and defaults. Optional parameters may be missing.
fn parameters(spec: &PipelineSpec, given: &Typed) -> Result<BTreeMap<String, Value>> {
    let definitions = &spec.root.input_definitions.parameters;
    let mut all = match &given.parameters_file {
        Some(file) => Pipeline::read_parameters(file, None)?,
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
        allowed(name, &definitions[name], value).map_err(Error::user)?;
    }
    for (name, definition) in definitions {
        let parameter = declared(name)?;
        if !all.contains_key(name) && (parameter.default.is_some() || !definition.is_optional) {
            all.insert(name.clone(), parameter.value(None).map_err(Error::user)?);
        }
    }
    Ok(all)
}

/// Returns the input artifacts of the pipeline.
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
