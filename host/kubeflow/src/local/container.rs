//! Conversion of a lockstep container to a task of a plan.

use std::collections::BTreeMap;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Source, Task as Planned, Wire};
use lockstep_runtime::run::Names;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_view::error::{Error, Result};

use super::Bind;
use super::scope::Scope;
use crate::ir::{Component, Container, PipelineSpec, Task};
use crate::{ContainerInputs, executor};

/// Returns the task of the plan for a container with the inputs in `scope`.
pub fn planned(bind: &Bind, spec: &PipelineSpec, task: &Task, component: &Component, scope: Scope) -> Result<Planned> {
    let container = container(spec, &task.component_ref.name, component)?;
    let (given, mut wires) = given(&scope)?;
    let (mut run, limits) = bind(&container.args, given)?;
    for (name, wire) in &mut wires {
        wire.at = run.inputs.remove(name).and_then(|input| input.at);
    }
    Ok(Planned {
        name: scope.name,
        run,
        wires,
        files: BTreeMap::new(),
        for_each: None,
        when: scope.when,
        retries: task.retry_policy.as_ref().map_or(0, |policy| policy.max_retry_count),
        limits,
    })
}

/// Returns the container of a component. Fails if it does not run lockstep.
pub fn container<'a>(spec: &'a PipelineSpec, name: &str, component: &Component) -> Result<&'a Container> {
    let Some(label) = &component.executor_label else {
        return Err(Error::config(format_args!(
            "component `{name}` has no `dag` and no `executorLabel`"
        )));
    };
    let Some(executor) = spec.deployment_spec.executors.get(label) else {
        let known = Names::of(spec.deployment_spec.executors.keys().map(String::as_str));
        return Err(Error::config(format_args!(
            "executor `{label}` not found; the file has {known}"
        )));
    };
    let Some(container) = &executor.container else {
        return Err(match executor.importer {
            Some(_) => Error::config("`dsl.importer` is not supported")
                .hint("make the artifact an input of the pipeline, and set it with `-i NAME=PATH`"),
            None => Error::config(format_args!("executor `{label}` has no container"))
                .hint("only tasks with lockstep containers can run locally"),
        });
    };
    let is_ours = container
        .command
        .last()
        .is_some_and(|last| last == lockstep_cluster::pod::COMMAND)
        && container.args.first().is_some_and(|first| first == "run")
        && container.args.iter().any(|arg| arg == executor::EXECUTOR_INPUT);
    match is_ours {
        true => Ok(container),
        false => Err(Error::config(format_args!(
            "image {} does not run lockstep, and only steps of lockstep run locally",
            container.image
        ))
        .hint("`lockstep export STEP --to kfp` creates components that also run locally")),
    }
}

/// Returns the inputs of a container, and the wires for artifacts of other tasks, which have placeholders in the inputs. An artifact named
/// `directory/entry` is an entry of a gathered directory.
fn given(scope: &Scope) -> Result<(ContainerInputs, BTreeMap<String, Wire>)> {
    let mut given = ContainerInputs {
        parameters: scope.parameters.clone(),
        inputs: BTreeMap::new(),
    };
    let mut wires: BTreeMap<String, Wire> = BTreeMap::new();
    for (name, source) in &scope.artifacts {
        if let Source::Pinned(artifact) = source {
            given.inputs.insert(name.clone(), artifact.clone());
            continue;
        }
        let (name, entry) = match name.split_once('/') {
            None => (name.as_str(), None),
            Some((name, entry)) => (name, Some(entry.to_owned())),
        };
        let wire = wires.entry(name.to_owned()).or_insert_with(|| Wire {
            from: Source::Gathered(BTreeMap::new()),
            at: None,
        });
        match (&mut wire.from, entry, source) {
            (Source::Gathered(entries), Some(entry), Source::Output(output)) => drop(entries.insert(entry, output.clone())),
            (Source::Gathered(entries), Some(entry), Source::Gathered(below)) => {
                let below = below.iter();
                entries.extend(below.map(|(name, output)| (format!("{entry}/{name}"), output.clone())));
            }
            (whole, _, source) => *whole = source.clone(),
        }
        given.inputs.insert(name.to_owned(), stand_in());
    }
    Ok((given, wires))
}

/// Returns a placeholder for an artifact of another task.
fn stand_in() -> Artifact {
    Artifact {
        digest: Digest::of([]),
        media_type: MediaType::default(),
        size: 0,
    }
}
