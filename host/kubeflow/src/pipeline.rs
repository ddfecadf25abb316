//! Export of a plan as a KFP pipeline: each task has a component and an executor.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::{Digest, canonical_json};
use lockstep_runtime::pipeline::{Operand, Plan, Source, Task, TaskOutput, Use};
use lockstep_runtime::run::{Entry, Runtime};
use lockstep_view::error::{Error, Result};
use lockstep_view::needs::{Needs, needs_of_run};
use serde_json::{Value, json};

use super::executor::{ContainerRun, check, definition, env, executor, value_of};
use super::ir::{
    ArtifactDefinition, ArtifactFrom, CachingOptions, Component, ComponentRef, Dag, DeploymentSpec, Executor, ParameterFrom,
    PipelineInfo, PipelineSpec, RetryPolicy, SCHEMA, Selectors, TaskInfo, TaskInputs, platforms,
};
use super::live::Live;
use super::{Containers, Labels, Written, ir, told};

/// Components and executors of a pipeline.
pub struct Parts {
    info: PipelineInfo,
    components: BTreeMap<String, Component>,
    executors: BTreeMap<String, Executor>,
}

impl Parts {
    /// Starts a pipeline without tasks.
    pub fn new(name: &str, description: &str) -> Self {
        Self {
            info: PipelineInfo {
                name: name.to_owned(),
                description: description.to_owned(),
            },
            components: BTreeMap::new(),
            executors: BTreeMap::new(),
        }
    }

    /// Adds the component and executor of the task `label`.
    pub fn add(&mut self, label: &str, component: Component, executor: Executor) {
        let carried_out_by = format!("exec-{label}");
        let component = Component {
            executor_label: Some(carried_out_by.clone()),
            ..component
        };
        self.components.insert(ComponentRef::to(label).name, component);
        self.executors.insert(carried_out_by, executor);
    }
}

/// Returns the YAML documents of a pipeline: its spec and the platform spec for Kubernetes.
pub fn documents(parts: Parts, root: Component, containers: &Containers) -> Result<String> {
    let platforms = platforms(parts.executors.keys(), &containers.secret);
    let spec = PipelineSpec {
        pipeline_info: parts.info,
        schema_version: SCHEMA.to_owned(),
        sdk_version: format!("lockstep-{}", env!("CARGO_PKG_VERSION")),
        components: parts.components,
        deployment_spec: DeploymentSpec {
            executors: parts.executors,
        },
        root,
        file: String::new(),
    };
    Ok(format!("{}---\n{}", yaml(&spec)?, yaml(&platforms)?))
}

/// Returns a YAML document.
pub fn yaml(value: &impl serde::Serialize) -> Result<String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(value, options);
    let text = text.map_err(|e| Error::host(format_args!("can't serialize the pipeline as YAML: {e}")))?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Exports a plan; `uses` lists the uses of the pipeline's parameters.
pub fn write(runtime: &Runtime, plan: &Plan, uses: &[Use], containers: &Containers) -> Result<Written> {
    let mut notes = omitted(plan);
    let tasks = run_tasks(plan, &mut notes)?;
    let live = Live::of(runtime, &tasks, uses, &mut notes)?;
    let mut labels = Labels::default();
    let labels: BTreeMap<&str, String> = tasks.iter().map(|task| (task.name.as_str(), labels.of(&task.name))).collect();
    let mut parts = Parts::new(&Labels::default().of(&plan.name), "");
    let mut dag = Dag::default();
    let mut keys = BTreeMap::new();
    for task in &tasks {
        let label = &labels[task.name.as_str()];
        let work = work(runtime, task, &live)?;
        let (args, component) = (work.args(), work.component());
        check(&task.name, &component, &args)?;
        let key = cache_key(task, live.is_for(task), &keys)?;
        dag.tasks
            .insert(label.clone(), dag_task(task, &work, &live, &labels, key.as_ref()));
        keys.insert(task.name.as_str(), key);
        parts.add(label, component, executor(args, &containers.image, env(containers)));
    }
    let mut needs = Needs::new();
    for task in &tasks {
        needs.extend(needs_of_run(&runtime.store, &task.run)?);
    }
    runtime.store.share(needs.into_keys())?;
    let mut root = Component::default();
    for (name, parameter) in &live.parameters {
        root.input_definitions.parameters.insert(name.clone(), definition(parameter));
    }
    for (name, source) in &plan.outputs {
        let made = match source {
            Source::Output(made) => tasks.iter().find(|task| task.name == made.task).map(|task| (made, task)),
            _ => None,
        };
        let Some((made, task)) = made else {
            notes.push(format!("output `{name}` is omitted: it is not a single output of one task"));
            continue;
        };
        let definition = ArtifactDefinition::of(&task.run.outputs[&made.output], "");
        root.output_definitions.artifacts.insert(name.clone(), definition);
        let selectors = Selectors::one(&labels[made.task.as_str()], &made.output);
        dag.outputs.artifacts.insert(name.clone(), selectors);
    }
    root.dag = Some(dag);
    Ok(Written {
        text: documents(parts, root, containers)?,
        notes,
    })
}

/// Returns notes on the tasks without instances.
pub fn omitted(plan: &Plan) -> Vec<String> {
    let note = |task| format!("task `{task}` is omitted: its `for_each` has no items");
    plan.empty.iter().map(note).collect()
}

/// Returns the tasks that would run. Fails for tasks that KFP can't represent.
fn run_tasks<'p>(plan: &'p Plan, notes: &mut Vec<String>) -> Result<Vec<&'p Task>> {
    let mut tasks = Vec::new();
    let mut skipped = BTreeSet::new();
    for task in plan.tasks() {
        let mut holds = true;
        for when in &task.when {
            if let Operand::Value(_) = when.left {
                holds &= when.holds(None).map_err(Error::config)?;
            }
        }
        if !holds || task.waits_for().any(|on| skipped.contains(on)) {
            notes.push(format!("task `{}` is omitted: a condition does not hold", task.name));
            skipped.insert(task.name.as_str());
            continue;
        }
        refuse_what_comes_later(task)?;
        tasks.push(task);
    }
    match tasks.is_empty() {
        true => Err(Error::config(format_args!(
            "nothing to export: no task of {} would run",
            plan.name
        ))),
        false => Ok(tasks),
    }
}

fn refuse_what_comes_later(task: &Task) -> Result<()> {
    let why = if let Some(each) = &task.for_each {
        format!("runs for each part of {}, which are known only at run time", each.over)
    } else if let Some(when) = task.when.iter().find(|when| when.task().is_some()) {
        format!("runs only when {when}, which is known only at run time")
    } else {
        return Ok(());
    };
    let error = Error::config(format_args!(
        "task `{}` {why}: not supported by Kubeflow Pipelines",
        task.name
    ));
    Err(error.hint("export with `--to argo`, or use a list in `for_each` and a parameter in `when`"))
}

/// Returns the work of a task's container.
fn work<'p>(runtime: &Runtime, task: &'p Task, live: &Live) -> Result<ContainerRun<'p>> {
    let mut work = ContainerRun {
        limits: task.limits,
        ..ContainerRun::new(&task.run, runtime)?
    };
    if let Entry::Step { parameters, .. } = &task.run.entry {
        let declared = work.interface.iter().flat_map(|interface| &interface.parameters);
        let can_not_be_told = declared.filter_map(|one| {
            let value = parameters.get(&one.name).filter(|value| !value.is_null())?;
            told(one.kind, value).is_none().then(|| (one.name.clone(), value.clone()))
        });
        work.fixed = can_not_be_told.collect();
    }
    for (input, _) in live.values_of(task) {
        if let Some(value) = value_of(runtime, &task.run.inputs[input])? {
            work.values.insert(input.to_owned(), value);
        }
    }
    for (input, wire) in &task.wires {
        work.artifacts.extend(outputs(input, &wire.from).map(|(name, _)| name));
        work.places.extend(wire.at.clone().map(|at| (input.clone(), at)));
    }
    Ok(work)
}

/// Returns the outputs of other tasks in an input, by name of the artifact. Each entry of a gathered directory is one: `models/0`.
fn outputs<'s>(input: &'s str, source: &'s Source) -> impl Iterator<Item = (String, &'s TaskOutput)> {
    let all: Vec<(String, &TaskOutput)> = match source {
        Source::Output(output) => vec![(input.to_owned(), output)],
        Source::Gathered(entries) => {
            let entries = entries.iter();
            entries.map(|(entry, output)| (format!("{input}/{entry}"), output)).collect()
        }
        Source::Part | Source::Pinned(_) => Vec::new(),
    };
    all.into_iter()
}

fn dag_task(task: &Task, work: &ContainerRun, live: &Live, labels: &BTreeMap<&str, String>, key: Option<&Digest>) -> ir::Task {
    let mut inputs = TaskInputs::default();
    if let (Entry::Step { parameters, .. }, Some(interface)) = (&task.run.entry, &work.interface) {
        for one in interface.parameters.iter().filter(|one| !work.fixed.contains_key(&one.name)) {
            let value = parameters.get(&one.name).filter(|value| !value.is_null());
            let from = match live.parameter_of(task, &one.name) {
                Some(name) => Some(ParameterFrom::ComponentInputParameter(name.to_owned())),
                None => value
                    .and_then(|value| told(one.kind, value))
                    .map(|constant| ParameterFrom::RuntimeValue { constant }),
            };
            inputs.parameters.extend(from.map(|from| (one.name.clone(), from)));
        }
    }
    for (input, name) in live.values_of(task) {
        let from = ParameterFrom::ComponentInputParameter(name.to_owned());
        inputs.parameters.insert(input.to_owned(), from);
    }
    let mut waits_for = BTreeSet::new();
    for (input, wire) in &task.wires {
        for (name, output) in outputs(input, &wire.from) {
            let producer = labels[output.task.as_str()].clone();
            waits_for.insert(producer.clone());
            let from = ArtifactFrom::TaskOutputArtifact {
                producer_task: producer,
                output_artifact_key: output.output.clone(),
            };
            inputs.artifacts.insert(name, from);
        }
    }
    ir::Task {
        task_info: TaskInfo { name: task.name.clone() },
        component_ref: ComponentRef::to(&labels[task.name.as_str()]),
        inputs,
        dependent_tasks: waits_for.into_iter().collect(),
        caching_options: CachingOptions {
            enable_cache: key.is_some(),
            cache_key: key.map_or_else(String::new, Digest::hex),
        },
        retry_policy: (task.retries > 0).then_some(RetryPolicy {
            max_retry_count: task.retries,
        }),
        ..ir::Task::default()
    }
}

/// Returns the cache key of a task: its run key, combined with the cache keys of the tasks that produce its inputs. `None` if it depends on
/// a parameter of the pipeline: KFP's own key does not distinguish artifacts of the same name, so only the store caches.
fn cache_key(task: &Task, is_live: bool, keys: &BTreeMap<&str, Option<Digest>>) -> Result<Option<Digest>> {
    if is_live {
        return Ok(None);
    }
    let own = task.run.key()?.0;
    if task.wires.is_empty() {
        return Ok(Some(own));
    }
    let mut made: BTreeMap<String, Value> = BTreeMap::new();
    for (input, wire) in &task.wires {
        for (name, output) in outputs(input, &wire.from) {
            let Some(Some(key)) = keys.get(output.task.as_str()) else {
                return Ok(None);
            };
            made.insert(name, json!({ "key": key, "output": output.output, "at": wire.at }));
        }
    }
    let all = canonical_json(&json!({ "run": own, "made": made })).map_err(Error::host)?;
    Ok(Some(Digest::of(all)))
}
