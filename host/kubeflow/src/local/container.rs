//! A container of ours as a task of a plan.

use std::collections::BTreeMap;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Source, Task as Planned, Wire};
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_view::error::{Error, Result};

use super::Bind;
use super::scope::Scope;
use crate::ir::{Component, Container, PipelineSpec, Task};
use crate::{Given, executor};

/// The task of the plan that does what the container does, which is given `scope`.
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

/// The container of a component; an error unless it is one of ours.
fn container<'a>(spec: &'a PipelineSpec, name: &str, component: &Component) -> Result<&'a Container> {
    let label = component.executor_label.as_ref();
    let executor = label.and_then(|label| spec.deployment_spec.executors.get(label));
    let Some(container) = executor.and_then(|executor| executor.container.as_ref()) else {
        return Err(
            Error::config(format_args!("component `{name}` is carried out by Kubeflow itself"))
                .hint("what is run here are tasks with containers of lockstep"),
        );
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
            "image {} is run with a command that is not lockstep's",
            container.image
        ))
        .hint("`lockstep export STEP --to kfp` writes components that run here too")),
    }
}

/// What a container is given: artifacts that others make stand there in name only, and are wires. One that is called `directory/entry` is an entry of a
/// directory that is put together.
fn given(scope: &Scope) -> Result<(Given, BTreeMap<String, Wire>)> {
    let mut given = Given {
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

/// What stands for an artifact that another task makes.
fn stand_in() -> Artifact {
    Artifact {
        digest: Digest::of([]),
        media_type: MediaType::default(),
        size: 0,
    }
}
