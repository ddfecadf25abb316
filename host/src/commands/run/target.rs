use std::collections::BTreeMap;
use std::path::Path;

use lockstep_runtime::run::{BindError, Entry, Input, Names, Run, Runtime, bind as bind_step, choose, parse_parameters};
use lockstep_runtime::step::{Artifact, GuestPath, Interface, MediaType, interfaces};

use super::{Output, RunArgs};
use crate::artifacts::{self, artifact};
use crate::commands::inspect::not_a_module;
use crate::error::{Error, Result};
use crate::pipelines::unique;

/// The run that the command line asks for, and the outputs that it names.
pub(super) fn bind(args: RunArgs, runtime: &Runtime) -> Result<(Run, Vec<Output>)> {
    let what = args.what.clone();
    let (module, step) = module(runtime, &what)?;
    let wasm = runtime.store.get(&module.digest)?;
    let interfaces = interfaces(&wasm).map_err(|e| not_a_module(&what, &wasm, e))?;
    match (&interfaces[..], step) {
        ([], None) => bind_program(args, runtime, &module),
        ([only], None) => bind_interface(args, runtime, &module, only),
        (_, Some(step)) => bind_interface(args, runtime, &module, choose(&interfaces, step)?),
        (several, None) => {
            let names = Names::of(several.iter().map(|interface| interface.step.as_str()));
            Err(Error::user(format_args!("which step of {what} is meant? It has {names}"))
                .hint(format_args!("lockstep run {what}#{}", several[0].step)))
        }
    }
}

/// The module and the step of `MODULE#STEP`.
fn module<'a>(runtime: &Runtime, what: &'a str) -> Result<(Artifact, Option<&'a str>)> {
    match what.rsplit_once('#') {
        Some((module, step)) if !Path::new(what).exists() => Ok((artifact(runtime, module)?, Some(step))),
        _ => Ok((artifact(runtime, what)?, None)),
    }
}

fn bind_interface(args: RunArgs, runtime: &Runtime, module: &Artifact, interface: &Interface) -> Result<(Run, Vec<Output>)> {
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
                .hint(format_args!("`lockstep inspect {}` says what it takes", args.what)),
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
                Error::user(format_args!("step `{step}` itself says of what type its output `{name}` is"))
                    .hint(format_args!("write --output {name}=PATH")),
            );
        }
    }
    // names first: a wrong one should not wait for a large file to be taken in
    let typed = unique("parameter", args.given.parameters)?;
    let parameters = parse_parameters(interface, &typed)?;
    let sources = unique("input", args.given.inputs)?;
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
    let mut inputs = BTreeMap::new();
    for (name, source) in sources {
        let artifact = artifact(runtime, &source)?;
        inputs.insert(name, artifact);
    }
    Ok((
        bind_step(module.digest, interface, inputs, &parameters, args.seed)?,
        args.outputs,
    ))
}

fn bind_program(args: RunArgs, runtime: &Runtime, module: &Artifact) -> Result<(Run, Vec<Output>)> {
    if let Some((name, value)) = args.given.parameters.first() {
        return Err(
            Error::user(format_args!("{} is a plain program: it has no parameter `{name}`", args.what))
                .hint(format_args!("give it arguments after `--`, or --env {name}={value}")),
        );
    }
    let mut inputs = BTreeMap::new();
    for (name, source) in unique("input", args.given.inputs)? {
        inputs.insert(name, placed(runtime, &source)?);
    }
    if let Some(name) = args.stdin.as_ref().filter(|name| !inputs.contains_key(*name)) {
        return Err(
            Error::user(format_args!("stdin is to be the input `{name}`, which is not given"))
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

/// The input that `SOURCE[@/GUEST/PATH]` says.
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
