//! Export of a step as a component for pipelines of the SDK: `kfp.components.load_component_from_file`.
//!
//! The SDK (2.17) does not support components with environment variables, and drops the platform spec. So the stores are arguments, and the
//! author of the pipeline sets the secret.

use std::collections::BTreeMap;

use lockstep_cluster::pod::{CACHE, STORE};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Run, Runtime};
use lockstep_runtime::step::Interface;
use lockstep_view::error::Result;
use lockstep_view::needs::needs_of_run;

use super::executor::{ContainerRun, check, executor};
use super::ir::{ArtifactFrom, Component, Dag, DagOutputs, ParameterFrom, Selectors, Task, TaskInfo, TaskInputs};
use super::pipeline::{Parts, documents};
use super::{Containers, Labels, Written, ir};

/// Exports a step as a pipeline with a single task that has the pipeline's parameters and artifacts.
pub fn write(runtime: &Runtime, module: Digest, interface: &Interface, containers: &Containers) -> Result<Written> {
    let run = Run {
        module,
        entry: Entry::Step {
            name: interface.step.clone(),
            parameters: BTreeMap::new(),
        },
        inputs: BTreeMap::new(),
        outputs: interface
            .outputs
            .iter()
            .map(|port| (port.name.clone(), port.media_type.clone()))
            .collect(),
        modules: BTreeMap::new(),
        seed: 0,
    };
    let work = ContainerRun {
        artifacts: interface.inputs.iter().map(|port| port.name.clone()).collect(),
        ..ContainerRun::new(&run, runtime)?
    };
    let (mut args, component) = (work.args(), work.component());
    let stores = [
        ("--store", Some(STORE)),
        ("--cache", Some(CACHE)),
        ("--shared", containers.shared.as_deref()),
    ];
    for (option, place) in stores {
        args.extend(place.iter().flat_map(|place| [option.to_owned(), (*place).to_owned()]));
    }
    check(&interface.step, &component, &args)?;
    runtime.store.share(needs_of_run(&runtime.store, &run)?.into_keys())?;
    let label = Labels::default().of(&interface.step);
    let root = root(&label, &component);
    let mut parts = Parts::new(&label, interface.doc.lines().next().unwrap_or_default());
    parts.add(&label, component, executor(args, &containers.image, Vec::new()));
    let secret = &containers.secret;
    Ok(Written {
        text: documents(parts, root, containers)?,
        notes: vec![format!(
            "in pipelines of the SDK, set the secret {secret} of each task with kfp.kubernetes.use_secret_as_env"
        )],
    })
}

fn root(label: &str, component: &Component) -> Component {
    let parameters = component.input_definitions.parameters.keys();
    let artifacts = component.input_definitions.artifacts.keys();
    let task = Task {
        task_info: TaskInfo { name: label.to_owned() },
        component_ref: ir::ComponentRef::to(label),
        inputs: TaskInputs {
            parameters: parameters
                .map(|name| (name.clone(), ParameterFrom::ComponentInputParameter(name.clone())))
                .collect(),
            artifacts: artifacts
                .map(|name| (name.clone(), ArtifactFrom::ComponentInputArtifact(name.clone())))
                .collect(),
        },
        ..Task::default()
    };
    let made = component.output_definitions.artifacts.keys();
    Component {
        dag: Some(Dag {
            tasks: BTreeMap::from([(label.to_owned(), task)]),
            outputs: DagOutputs {
                artifacts: made.map(|name| (name.clone(), Selectors::one(label, name))).collect(),
                ..DagOutputs::default()
            },
        }),
        input_definitions: component.input_definitions.clone(),
        output_definitions: component.output_definitions.clone(),
        ..Component::default()
    }
}
