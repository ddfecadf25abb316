//! Pipelines on the command line: a file with parameters and inputs, or a plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_kubeflow as kubeflow;
use lockstep_kubeflow::local::{self, Typed};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Arguments, Pipeline, Plan, Use};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_view::artifacts::{artifact, unique};
use lockstep_view::error::{Error, Result};

use crate::cli::read_run;
use crate::commands::build::build_crate;
use crate::commands::run::of_container;
use crate::invocation::Invocation;
use crate::notebooks;

/// Parameters and inputs of a step or a pipeline.
#[derive(Args)]
pub struct GivenArgs {
    /// Set a parameter of the step or pipeline: JSON, or a string without quotes
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub parameters: Vec<(String, String)>,

    /// Set an input: a file, a directory, a digest or its prefix, or RECORD/OUTPUT. A plain program can read it at any path
    #[arg(short, long = "input", value_name = "NAME=SOURCE[@/GUEST/PATH]", value_parser = pair)]
    pub inputs: Vec<(String, String)>,

    /// Read parameters of the pipeline from a YAML or JSON file; --param takes precedence
    #[arg(long = "parameters", value_name = "FILE", help_heading = "Pipelines")]
    pub parameters_file: Option<PathBuf>,
}

/// Parses `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE"),
    }
}

/// Returns whether `what` names a pipeline file, a plan or a notebook.
pub fn is_pipeline(what: &str) -> bool {
    let extension = Path::new(what).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json" | "ipynb"))
}

/// Returns the plan in the store that `what` names by its full digest.
pub fn kept(runtime: &Runtime, what: &str) -> Result<Option<Plan>> {
    let Some(digest) = what.strip_prefix("sha256:").and_then(|hex| Digest::from_hex(hex).ok()) else {
        return Ok(None);
    };
    let bytes = runtime.store.get(&digest)?;
    match bytes.first() {
        Some(b'{') => Plan::read(&bytes)
            .map(Some)
            .map_err(|e| Error::config(format_args!("{what}: {e}"))),
        _ => Ok(None),
    }
}

/// Resolves `what` and what it is given to a plan.
pub fn plan(runtime: &Runtime, what: &str, given: GivenArgs, interrupt: &Interrupt, invocation: &Invocation) -> Result<Plan> {
    Ok(planned(runtime, what, given, interrupt, invocation)?.0)
}

/// Resolves `what` and what it is given to a plan, and returns where its file uses the parameters of the pipeline.
pub fn planned(
    runtime: &Runtime,
    what: &str,
    given: GivenArgs,
    interrupt: &Interrupt,
    invocation: &Invocation,
) -> Result<(Plan, Vec<Use>)> {
    let path = Path::new(what);
    let is_notebook = path.extension().is_some_and(|extension| extension == "ipynb");
    let pipeline = match is_notebook {
        true => notebooks::pipeline(path, interrupt, invocation)?,
        false => {
            if let Some(spec) = local::read(path)? {
                let typed = Typed {
                    parameters: given.parameters,
                    inputs: given.inputs,
                    parameters_file: given.parameters_file,
                };
                let bind = |args: &[String], given: kubeflow::ContainerInputs| of_container(read_run(args)?, runtime, given);
                return Ok((local::plan(runtime, &spec, typed, &bind)?, Vec::new()));
            }
            if path.extension().is_some_and(|extension| extension == "json") {
                return Ok((written(path, &given)?, Vec::new()));
            }
            Pipeline::read(path)?
        }
    };
    let uses = pipeline.uses();
    Ok((resolved(runtime, pipeline, given, interrupt, invocation)?, uses))
}

fn written(path: &Path, given: &GivenArgs) -> Result<Plan> {
    if !given.parameters.is_empty() || !given.inputs.is_empty() || given.parameters_file.is_some() {
        return Err(Error::user("a plan takes no parameters or inputs: they are part of it")
            .hint("`lockstep plan PIPELINE.yaml -p NAME=VALUE -o PLAN.json` writes a new one"));
    }
    let json = std::fs::read(path).map_err(|e| Error::file("read", path, &e))?;
    Plan::read(&json).map_err(|e| Error::config(format_args!("{}: {e}", path.display())))
}

fn resolved(
    runtime: &Runtime,
    pipeline: Pipeline,
    given: GivenArgs,
    interrupt: &Interrupt,
    invocation: &Invocation,
) -> Result<Plan> {
    let mut parameters = match &given.parameters_file {
        Some(file) => Pipeline::read_parameters(file, Some(&pipeline))?,
        None => BTreeMap::new(),
    };
    let typed = unique("parameter", given.parameters)?;
    parameters.extend(pipeline.parse_parameters(&typed)?);
    let mut inputs = BTreeMap::new();
    for (name, source) in unique("input", given.inputs)? {
        inputs.insert(name, artifact(runtime, &source)?);
    }
    let build = |dir: &Path| build_crate(dir, interrupt, invocation).map_err(|error| error.to_string());
    Ok(pipeline.resolve_building(runtime, &Arguments { parameters, inputs }, &build)?)
}
