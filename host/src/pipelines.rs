//! Pipelines on the command line: a file with parameters and inputs, or a plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_kubeflow::ContainerInputs;
use lockstep_kubeflow::local::{self, Typed};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Arguments, Pipeline, Plan, Use};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_view::artifacts::{ColumnType, artifact, unique, with_types};
use lockstep_view::error::{Error, Result};

use crate::crates::build_crate;
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

    /// Set the type of a column of a CSV input: boolean, integer, float, date, time or text
    #[arg(long = "type", value_name = "INPUT.COLUMN=TYPE", value_parser = input_column_type)]
    pub types: Vec<(String, String, ColumnType)>,

    /// Read parameters of the pipeline from a YAML or JSON file; --param takes precedence
    #[arg(long = "parameters", value_name = "FILE", help_heading = "Pipelines")]
    pub parameters_file: Option<PathBuf>,
}

impl GivenArgs {
    /// Returns whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.inputs.is_empty() && self.types.is_empty() && self.parameters_file.is_none()
    }

    /// Replaces CSV inputs whose columns are given types by tables with these types.
    pub fn apply_types(&mut self, runtime: &Runtime) -> Result<()> {
        let mut types: BTreeMap<String, BTreeMap<String, ColumnType>> = BTreeMap::new();
        for (input, column, of) in self.types.drain(..) {
            if types.entry(input.clone()).or_default().insert(column.clone(), of).is_some() {
                return Err(Error::user(format_args!("--type {input}.{column} is given twice")));
            }
        }
        for (name, source) in &mut self.inputs {
            if let Some(types) = types.remove(name.split(':').next().unwrap_or_default()) {
                *source = with_types(runtime, source, &types)?.digest.to_string();
            }
        }
        match types.keys().next() {
            None => Ok(()),
            Some(input) => Err(
                Error::user(format_args!("--type names input `{input}`, which was not supplied"))
                    .hint(format_args!("add --input {input}=PATH")),
            ),
        }
    }
}

/// Parses `COLUMN=TYPE`.
pub fn column_type(text: &str) -> Result<(String, ColumnType), String> {
    let (column, of) = text.rsplit_once('=').ok_or("expected COLUMN=TYPE")?;
    let of = of.parse::<ColumnType>().map_err(|error| error.to_string())?;
    Ok((column.to_owned(), of))
}

/// Parses `INPUT.COLUMN=TYPE`.
fn input_column_type(text: &str) -> Result<(String, String, ColumnType), String> {
    let (input, rest) = text.split_once('.').ok_or("expected INPUT.COLUMN=TYPE")?;
    let (column, of) = column_type(rest)?;
    Ok((input.to_owned(), column, of))
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
    mut given: GivenArgs,
    interrupt: &Interrupt,
    invocation: &Invocation,
) -> Result<(Plan, Vec<Use>)> {
    given.apply_types(runtime)?;
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
                let bind = |args: &[String], given: ContainerInputs| (invocation.bind_container)(args, runtime, given);
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
    if !given.is_empty() {
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
