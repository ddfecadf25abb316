//! Component and container of a run.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_cluster::pod::{CACHE, COMMAND, STORE};
use lockstep_runtime::run::{Entry, Input, Run, Runtime, choose};
use lockstep_runtime::step::{GuestPath, Interface, MediaType, OwnLimits, Parameter, ParameterKind, Port, interfaces, value};
use lockstep_view::error::{Error, Result};
use serde_json::Value;

use super::ir::{
    ArtifactDefinition, Component, Container, Definitions, Executor, ParameterDefinition, ParameterType, Variable,
};
use super::{Containers, told};

/// Placeholder in the arguments for the `ExecutorInput`.
pub const EXECUTOR_INPUT: &str = "{{$}}";
/// Limit of Linux for the length of an argument in bytes.
const LONGEST: usize = 128 << 10;

/// Returns the interface of a run's step; `None` for a plain program.
pub fn interface(runtime: &Runtime, run: &Run) -> Result<Option<Interface>> {
    let Entry::Step { name, .. } = &run.entry else {
        return Ok(None);
    };
    let all = interfaces(&runtime.store.get(&run.module)?)?;
    Ok(Some(choose(&all, name)?.clone()))
}

/// Work of a container.
pub struct ContainerRun<'a> {
    /// The run, without inputs from Kubeflow.
    pub run: &'a Run,
    /// Interface of its step.
    pub interface: Option<Interface>,
    /// Parameters with fixed values, not supplied by Kubeflow.
    pub fixed: BTreeMap<String, Value>,
    /// Inputs that are serde values, with their defaults. Kubeflow supplies them as parameters.
    pub values: BTreeMap<String, Value>,
    /// Artifacts supplied by Kubeflow.
    pub artifacts: BTreeSet<String>,
    /// Paths in the guest of artifacts that are not at `/in/<name>`.
    pub places: BTreeMap<String, GuestPath>,
    /// Explicit limits.
    pub limits: OwnLimits,
}

/// Appends an option and its value.
fn option(args: &mut Vec<String>, name: &str, value: impl Into<String>) {
    args.extend([name.to_owned(), value.into()]);
}

impl<'a> ContainerRun<'a> {
    /// Creates work whose parameters are all supplied by Kubeflow.
    pub fn new(run: &'a Run, runtime: &Runtime) -> Result<Self> {
        Ok(Self {
            run,
            interface: interface(runtime, run)?,
            fixed: BTreeMap::new(),
            values: BTreeMap::new(),
            artifacts: BTreeSet::new(),
            places: BTreeMap::new(),
            limits: OwnLimits::default(),
        })
    }

    /// Returns the arguments of the container, without values from Kubeflow.
    pub fn args(&self) -> Vec<String> {
        let run = self.run;
        let what = match &run.entry {
            Entry::Step { name, .. } => format!("{}#{name}", run.module),
            Entry::Program { .. } => run.module.to_string(),
        };
        let mut args = vec!["run".to_owned(), what];
        option(&mut args, "--executor-input", EXECUTOR_INPUT);
        for (name, input) in run.inputs.iter().filter(|(name, _)| !self.values.contains_key(*name)) {
            option(&mut args, "--input", source(name, input));
        }
        for (name, at) in &self.places {
            option(&mut args, "--input", format!("{name}=@{at}"));
        }
        for (name, value) in &self.values {
            option(&mut args, "--value", format!("{name}={value}"));
        }
        for (name, value) in &self.fixed {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            option(&mut args, "--param", format!("{name}={text}"));
        }
        for (name, module) in &run.modules {
            option(&mut args, "--module", format!("{name}={module}"));
        }
        if run.seed != 0 {
            option(&mut args, "--seed", run.seed.to_string());
        }
        add_limits(&mut args, &self.limits);
        add_program(&mut args, run);
        args
    }

    /// Returns the component: the parameters and artifacts from Kubeflow, and the outputs.
    pub fn component(&self) -> Component {
        let declared = self.interface.iter().flat_map(|interface| &interface.parameters);
        let given = declared.filter(|parameter| !self.fixed.contains_key(&parameter.name));
        let mut parameters: BTreeMap<_, _> = given.map(|one| (one.name.clone(), definition(one))).collect();
        let values = self.values.iter();
        parameters.extend(values.map(|(name, default)| (name.clone(), definition(&of_value(name, default)))));
        let artifact = |name: &String| {
            let port = self
                .interface
                .iter()
                .flat_map(|interface| &interface.inputs)
                .find(|port| port.name == *name);
            (name.clone(), artifact_of(port, &MediaType::default()))
        };
        let made = |(name, media_type): (&String, &MediaType)| {
            let port = self
                .interface
                .iter()
                .flat_map(|interface| &interface.outputs)
                .find(|port| port.name == *name);
            (name.clone(), artifact_of(port, media_type))
        };
        Component {
            input_definitions: Definitions {
                parameters,
                artifacts: self.artifacts.iter().map(artifact).collect(),
            },
            output_definitions: Definitions {
                artifacts: self.run.outputs.iter().map(made).collect(),
                ..Definitions::default()
            },
            ..Component::default()
        }
    }
}

/// Returns the definition of an artifact: from the step's declaration, or else from the media type.
fn artifact_of(port: Option<&Port>, media_type: &MediaType) -> ArtifactDefinition {
    match port {
        Some(port) => ArtifactDefinition::of(&port.media_type, &port.doc),
        None => ArtifactDefinition::of(media_type, ""),
    }
}

/// Returns `NAME=DIGEST`, with the media type of directories, and the path if there is one.
fn source(name: &str, input: &Input) -> String {
    let media_type = match input.artifact.is_directory() {
        true => format!(":{}", MediaType::DIRECTORY),
        false => String::new(),
    };
    let at = input.at.as_ref().map_or_else(String::new, |at| format!("@{at}"));
    format!("{name}{media_type}={}{at}", input.artifact.digest)
}

fn add_limits(args: &mut Vec<String>, limits: &OwnLimits) {
    let limits = [
        ("--memory", limits.memory, ""),
        ("--fuel", limits.fuel, ""),
        ("--output-limit", limits.output, ""),
        ("--log-limit", limits.log, ""),
        ("--time", limits.time_ms, "ms"),
    ];
    for (name, limit, unit) in limits {
        if let Some(limit) = limit {
            option(args, name, format!("{limit}{unit}"));
        }
    }
}

fn add_program(args: &mut Vec<String>, run: &Run) {
    let Entry::Program {
        args: own,
        env,
        stdin,
        stdout,
    } = &run.entry
    else {
        return;
    };
    for (name, value) in env {
        option(args, "--env", format!("{name}={value}"));
    }
    if let Some(name) = stdin {
        option(args, "--stdin", name);
    }
    for (name, media_type) in &run.outputs {
        let kept = if stdout.as_ref() == Some(name) {
            "--stdout"
        } else {
            "--output"
        };
        option(args, kept, format!("{name}:{media_type}"));
    }
    if !own.is_empty() {
        args.push("--".to_owned());
        args.extend_from_slice(own);
    }
}

/// Returns an executor with a container.
pub fn executor(args: Vec<String>, image: &str, env: Vec<Variable>) -> Executor {
    Executor {
        container: Some(Container {
            image: image.to_owned(),
            command: vec![COMMAND.to_owned()],
            args,
            env,
        }),
        ..Executor::default()
    }
}

/// Returns the environment variables of containers.
pub fn env(containers: &Containers) -> Vec<Variable> {
    let variable = |name: &str, value: &str| Variable {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let stores = [variable("LOCKSTEP_STORE", STORE), variable("LOCKSTEP_CACHE", CACHE)];
    let shared = containers.shared.iter().map(|shared| variable("LOCKSTEP_SHARED", shared));
    stores.into_iter().chain(shared).collect()
}

/// Returns the definition of a parameter.
pub fn definition(parameter: &Parameter) -> ParameterDefinition {
    let default = parameter.default.as_ref();
    ParameterDefinition {
        parameter_type: ParameterType::of(parameter.kind),
        default_value: default.and_then(|value| told(parameter.kind, value)),
        is_optional: default.is_some(),
        description: parameter.doc.clone(),
        literals: Vec::new(),
    }
}

/// Returns the parameter for an input that is a serde value.
pub fn of_value(name: &str, default: &Value) -> Parameter {
    Parameter {
        name: name.to_owned(),
        doc: String::new(),
        kind: ParameterKind::of(default),
        default: Some(default.clone()),
    }
}

/// Returns the serde value of an input, if it is one.
pub fn value_of(runtime: &Runtime, input: &Input) -> Result<Option<Value>> {
    Ok(value::decode(&runtime.store.get(&input.artifact.digest)?))
}

/// Checks for conflicts with Kubeflow: inputs with the same name, too long arguments, and placeholders in arguments.
pub fn check(task: &str, component: &Component, args: &[String]) -> Result<()> {
    let inputs = &component.input_definitions;
    if let Some(name) = inputs.parameters.keys().find(|name| inputs.artifacts.contains_key(*name)) {
        return Err(Error::config(format_args!(
            "`{task}` has a parameter and an input with the name `{name}`, which Kubeflow does not distinguish"
        ))
        .hint("rename one of them in the step"));
    }
    if let Some(arg) = args.iter().find(|arg| arg.len() >= LONGEST) {
        let start: String = arg.chars().take(40).collect();
        return Err(Error::config(format_args!("argument `{start}...` of `{task}` is too long")).hint("use an input instead"));
    }
    let placeholder = |arg: &&String| arg.contains("{{$") && *arg != EXECUTOR_INPUT;
    match args.iter().find(placeholder) {
        Some(arg) => Err(Error::config(format_args!(
            "argument `{arg}` of `{task}` contains `{{{{$`, which Kubeflow would substitute"
        ))),
        None => Ok(()),
    }
}
