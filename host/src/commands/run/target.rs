use std::collections::BTreeMap;
use std::path::Path;

use lockstep_kubeflow::ContainerInputs;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{BindError, Entry, Input, Names, Run, Runtime, bind as bind_step, choose, parse_parameters};
use lockstep_runtime::step::{Artifact, GuestPath, Interface, MediaType, Parameter, ParameterKind, interfaces, value};
use lockstep_view::artifacts::unique;
use lockstep_view::artifacts::{self, artifact};
use lockstep_view::error::{Error, Result};
use lockstep_view::module::not_a_module;
use serde_json::Value;

use super::{Output, RunArgs};

/// Resolves the command line and `given` to a run and the requested outputs.
pub(super) fn bind(mut args: RunArgs, runtime: &Runtime, mut given: ContainerInputs) -> Result<(Run, Vec<Output>)> {
    let what = args.what.clone();
    add_values(runtime, std::mem::take(&mut args.values), &mut given)?;
    let modules = modules(runtime, std::mem::take(&mut args.modules))?;
    let (mut run, outputs) = bind_entry(args, &what, runtime, given)?;
    run.modules.extend(modules);
    Ok((run, outputs))
}

fn bind_entry(args: RunArgs, what: &str, runtime: &Runtime, given: ContainerInputs) -> Result<(Run, Vec<Output>)> {
    let (module, step) = module(runtime, what)?;
    let wasm = runtime.store.get(&module.digest)?;
    let interfaces = interfaces(&wasm).map_err(|e| not_a_module(what, &wasm, e))?;
    match (&interfaces[..], step) {
        ([], None) => bind_program(args, runtime, &module, given),
        ([only], None) => bind_interface(args, runtime, &module, only, given),
        (_, Some(step)) => bind_interface(args, runtime, &module, choose(&interfaces, step)?, given),
        (several, None) => {
            let names = Names::of(several.iter().map(|interface| interface.step.as_str()));
            Err(Error::user(format_args!("{what} has several steps: {names}"))
                .hint(format_args!("choose one, as in `lockstep run {what}#{}`", several[0].step)))
        }
    }
}

/// Resolves `MODULE#STEP`.
fn module<'a>(runtime: &Runtime, what: &'a str) -> Result<(Artifact, Option<&'a str>)> {
    match what.rsplit_once('#') {
        Some((module, step)) if !Path::new(what).exists() => Ok((artifact(runtime, module)?, Some(step))),
        _ => Ok((artifact(runtime, what)?, None)),
    }
}

/// Resolves the modules whose steps may be called.
fn modules(runtime: &Runtime, named: Vec<(String, String)>) -> Result<BTreeMap<String, Digest>> {
    let named = unique("module", named)?.into_iter();
    named
        .map(|(name, source)| Ok((name, artifact(runtime, &source)?.digest)))
        .collect()
}

/// Adds inputs from `--value`. A parameter of the same name in `given` replaces the value, and is converted to its kind.
fn add_values(runtime: &Runtime, values: Vec<(String, String)>, given: &mut ContainerInputs) -> Result<()> {
    for (name, json) in unique("value", values)? {
        let malformed = |e| Error::user(format_args!("--value {name}={json} is not JSON: {e}"));
        let default: Value = serde_json::from_str(&json).map_err(malformed)?;
        let parameter = Parameter {
            name: name.clone(),
            doc: String::new(),
            kind: ParameterKind::of(&default),
            default: Some(default),
        };
        let told = given.parameters.remove(&name);
        let told = told.and_then(|told| lockstep_kubeflow::parameter(parameter.kind, told));
        let bytes = value::encode(&parameter.value(told.as_ref()).map_err(Error::user)?);
        let artifact = runtime.store.put_artifact(bytes, &MediaType::new(MediaType::VALUE))?;
        add_input(&mut given.inputs, name, artifact)?;
    }
    Ok(())
}

fn add_input<T>(inputs: &mut BTreeMap<String, T>, name: String, input: impl Into<T>) -> Result<()> {
    match inputs.contains_key(&name) {
        true => Err(Error::user(format_args!("input `{name}` is given twice"))),
        false => {
            inputs.insert(name, input.into());
            Ok(())
        }
    }
}

/// Parses `NAME` or `NAME:TYPE`.
fn typed(name: &str) -> (String, Option<MediaType>) {
    match name.split_once(':') {
        Some((name, media_type)) => (name.to_owned(), Some(MediaType::new(media_type))),
        None => (name.to_owned(), None),
    }
}

/// Returns the artifact with this media type.
fn said(artifact: Artifact, media_type: Option<MediaType>) -> Artifact {
    match media_type {
        Some(media_type) => Artifact { media_type, ..artifact },
        None => artifact,
    }
}

fn bind_interface(
    args: RunArgs,
    runtime: &Runtime,
    module: &Artifact,
    interface: &Interface,
    given: ContainerInputs,
) -> Result<(Run, Vec<Output>)> {
    let step = &interface.step;
    let for_programs = [
        ("--env", !args.env.is_empty()),
        ("--stdin", args.stdin.is_some()),
        ("--stdout", args.stdout.is_some()),
        ("arguments after `--`", !args.args.is_empty()),
    ];
    if let Some((what, _)) = for_programs.into_iter().find(|(_, given)| *given) {
        return Err(
            Error::user(format_args!("step `{step}` takes no {what}: that is for plain programs"))
                .hint(format_args!("`lockstep inspect {}` shows what it takes", args.what)),
        );
    }
    for Output { name, media_type, .. } in &args.outputs {
        let known = Names::of(interface.outputs.iter().map(|port| port.name.as_str()));
        if interface.outputs.iter().all(|port| port.name != *name) {
            return Err(BindError::UnknownOutput {
                step: step.clone(),
                name: name.clone(),
                known,
            }
            .into());
        }
        if media_type.is_some() {
            return Err(
                Error::user(format_args!("step `{step}` declares the type of its output `{name}`"))
                    .hint(format_args!("write --output {name}=PATH")),
            );
        }
    }
    // check names before reading large files
    let typed_parameters = unique("parameter", args.given.parameters)?;
    let mut parameters = parse_parameters(interface, &typed_parameters)?;
    for (name, told) in given.parameters {
        let kind = interface.parameters.iter().find(|parameter| parameter.name == name);
        let kind = kind.map_or(ParameterKind::Any, |parameter| parameter.kind);
        parameters.extend(lockstep_kubeflow::parameter(kind, told).map(|value| (name, value)));
    }
    let sources = unique("input", args.given.inputs)?.into_iter();
    let sources: BTreeMap<_, _> = sources
        .map(|(name, source)| {
            let (name, media_type) = typed(&name);
            (name, (media_type, source))
        })
        .collect();
    if let Some(name) = sources
        .keys()
        .find(|name| interface.inputs.iter().all(|port| port.name != **name))
    {
        let known = Names::of(interface.inputs.iter().map(|port| port.name.as_str()));
        return Err(BindError::UnknownInput {
            step: step.clone(),
            name: name.clone(),
            known,
        }
        .into());
    }
    let mut inputs = given.inputs;
    for (name, (media_type, source)) in sources {
        add_input(&mut inputs, name, said(artifact(runtime, &source)?, media_type))?;
    }
    Ok((
        bind_step(module.digest, interface, inputs, &parameters, args.seed)?,
        args.outputs,
    ))
}

fn bind_program(args: RunArgs, runtime: &Runtime, module: &Artifact, given: ContainerInputs) -> Result<(Run, Vec<Output>)> {
    if let Some(name) = given.parameters.keys().next() {
        return Err(Error::user(format_args!(
            "{} is a plain program: it has no parameter `{name}`",
            args.what
        )));
    }
    if let Some((name, value)) = args.given.parameters.first() {
        return Err(
            Error::user(format_args!("{} is a plain program: it has no parameter `{name}`", args.what))
                .hint(format_args!("give it arguments after `--`, or --env {name}={value}")),
        );
    }
    let given_inputs = given.inputs.into_iter();
    let mut inputs: BTreeMap<String, Input> = given_inputs.map(|(name, artifact)| (name, artifact.into())).collect();
    for (name, source) in unique("input", args.given.inputs)? {
        let (name, media_type) = typed(&name);
        // `NAME=@/GUEST/PATH` sets the path of an input from `given`
        if let (Some(at), Some(input)) = (source.strip_prefix('@'), inputs.get_mut(&name)) {
            input.at = Some(GuestPath::try_from(at.to_owned()).map_err(Error::user)?);
            continue;
        }
        let mut input = placed(runtime, &source)?;
        input.artifact = said(input.artifact, media_type);
        add_input(&mut inputs, name, input)?;
    }
    if let Some(name) = args.stdin.as_ref().filter(|name| !inputs.contains_key(*name)) {
        return Err(
            Error::user(format_args!("stdin names input `{name}`, which was not supplied"))
                .hint(format_args!("add --input {name}=PATH")),
        );
    }
    let stdout = args.stdout.as_ref().map(|output| output.name.clone());
    let outputs: Vec<Output> = args.outputs.into_iter().chain(args.stdout).collect();
    let mut types = BTreeMap::new();
    for Output { name, media_type, .. } in &outputs {
        let media_type = match media_type {
            Some(media_type) => MediaType::new(media_type),
            None => MediaType::of_path(Path::new(name)),
        };
        if types.insert(name.clone(), media_type).is_some() {
            return Err(Error::user(format_args!("output `{name}` is given twice")));
        }
    }
    let env = unique("environment variable", args.env)?;
    let entry = Entry::Program {
        args: args.args,
        env,
        stdin: args.stdin,
        stdout,
    };
    Ok((
        Run {
            module: module.digest,
            entry,
            inputs,
            outputs: types,
            modules: BTreeMap::new(),
            seed: args.seed,
        },
        outputs,
    ))
}

/// Resolves `SOURCE[@/GUEST/PATH]` to an input.
fn placed(runtime: &Runtime, source: &str) -> Result<Input> {
    match source.rsplit_once("@/") {
        Some((source_alone, at)) if !Path::new(source).exists() => {
            let at = GuestPath::try_from(format!("/{at}")).map_err(Error::user)?;
            Ok(Input {
                artifact: artifacts::artifact(runtime, source_alone)?,
                at: Some(at),
            })
        }
        _ => Ok(artifacts::artifact(runtime, source)?.into()),
    }
}
