//! Flattening of a pipeline with nested DAGs into the tasks of one plan.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::pipeline::yaml::Mark;
use lockstep_runtime::pipeline::{Plan, Source, Task as Planned, TaskOutput, numbered};
use lockstep_runtime::run::Names;
use lockstep_view::error::{Error, Result};

use super::scope::{Located, Made, Scope, Sources};
use super::{Bind, container};
use crate::ir::{ArtifactFrom, Component, Dag, ParameterIterator, ParameterSelectors, PipelineSpec, Task, TriggerPolicy};

/// Returns the plan of a pipeline, with its tasks in topological order.
pub fn plan(bind: &Bind, spec: &PipelineSpec, dag: &Dag, scope: &Scope) -> Result<Plan> {
    let mut flat = Flat {
        bind,
        spec,
        tasks: Vec::new(),
        skipped: BTreeSet::new(),
        empty: Vec::new(),
        open: Vec::new(),
    };
    let outputs = flat.dag(dag, scope)?;
    let mut plan = Plan::of_tasks(&spec.pipeline_info.name, flat.tasks, outputs)?;
    plan.empty = flat.empty;
    Ok(plan)
}

/// Checks that each task has a component, and each container runs lockstep.
pub fn check(spec: &PipelineSpec) -> Result<()> {
    let components = spec.components.values().chain([&spec.root]);
    for (label, task) in components
        .filter_map(|component| component.dag.as_ref())
        .flat_map(|dag| &dag.tasks)
    {
        let component = component(spec, task).and_then(|component| match component.dag {
            Some(_) => Ok(()),
            None => container::container(spec, &task.component_ref.name, component).map(drop),
        });
        component.map_err(|error| at(spec, label, task.mark(&["componentRef", "name"]), error))?;
    }
    Ok(())
}

/// Adds the task and the place in the file to an error.
fn at(spec: &PipelineSpec, task: &str, mark: Mark, error: Error) -> Error {
    let error = error.of(format_args!("task `{task}`"));
    error.of(format_args!("{}:{}:{}", spec.file, mark.line, mark.column))
}

fn component<'a>(spec: &'a PipelineSpec, task: &Task) -> Result<&'a Component> {
    let name = &task.component_ref.name;
    let component = spec.components.get(name);
    component.ok_or_else(|| {
        let known = Names::of(spec.components.keys().map(String::as_str));
        Error::config(format_args!("component `{name}` not found; the file has {known}"))
    })
}

/// A pipeline being flattened.
struct Flat<'a> {
    /// Parser of containers' arguments.
    bind: &'a Bind<'a>,
    spec: &'a PipelineSpec,
    tasks: Vec<Planned>,
    /// Tasks that will not run because a condition does not hold.
    skipped: BTreeSet<String>,
    /// Loops over nothing.
    empty: Vec<String>,
    /// Components being expanded, to detect recursion.
    open: Vec<String>,
}

impl<'a> Flat<'a> {
    /// Adds the tasks of a DAG. Returns the sources of its outputs.
    fn dag(&mut self, dag: &Dag, scope: &Scope) -> Result<Sources> {
        let mut made = Made::default();
        for label in in_order(dag)? {
            let outputs = self.task(label, &dag.tasks[label], scope, &made)?;
            made.insert(label, outputs);
        }
        let mut outputs = Sources::new();
        for (name, from) in &dag.outputs.artifacts {
            let all = from.artifact_selectors.iter();
            let source = self.first(all.map(|one| (&*one.producer_subtask, &*one.output_artifact_key)), &made);
            let source = source.map_err(|error| self.of_output(&scope.name_of(name), error))?;
            outputs.extend(source.map(|source| (name.clone(), source)));
        }
        for (name, from) in &dag.outputs.parameters {
            let selectors = match from {
                ParameterSelectors::ValueFromParameter(one) => std::slice::from_ref(one),
                ParameterSelectors::ValueFromOneof { parameter_selectors } => parameter_selectors,
            };
            let all = selectors
                .iter()
                .map(|one| (&*one.producer_subtask, &*one.output_parameter_key));
            let source = self.first(all, &made);
            let source = source.map_err(|error| self.of_output(&scope.name_of(name), error))?;
            outputs.extend(source.map(|source| (name.clone(), source)));
        }
        Ok(outputs)
    }

    /// Adds a task of a DAG. Returns the sources of its outputs.
    fn task(&mut self, label: &str, task: &Task, around: &Scope, made: &Made) -> Result<Sources> {
        let name = around.name_of(label);
        let spec = self.spec;
        let of_task = |(mark, error)| at(spec, &name, mark, error);
        refuse_what_comes_later(task).map_err(of_task)?;
        let component = component(spec, task).map_err(|error| of_task((task.mark(&["componentRef", "name"]), error)))?;
        let scope = around.of_task(label, task, component, made).map_err(of_task)?;
        let Some(iterator) = &task.parameter_iterator else {
            return self.add(task, component, scope);
        };
        self.each(task, component, &scope, iterator)
    }

    /// Adds a container, or the tasks of a DAG.
    fn add(&mut self, task: &Task, component: &Component, scope: Scope) -> Result<Sources> {
        let Some(dag) = &component.dag else {
            return self.container(task, component, scope);
        };
        let name = &task.component_ref.name;
        if self.open.contains(name) {
            let error = Error::config(format_args!("component `{name}` contains itself"));
            return Err(at(self.spec, &scope.name, task.mark(&["componentRef", "name"]), error));
        }
        self.open.push(name.clone());
        let outputs = self.dag(dag, &scope)?;
        self.open.pop();
        Ok(outputs)
    }

    fn container(&mut self, task: &Task, component: &Component, scope: Scope) -> Result<Sources> {
        let (name, holds) = (scope.name.clone(), scope.holds()?);
        let planned = container::planned(self.bind, self.spec, task, component, scope);
        let planned = planned.map_err(|error| at(self.spec, &name, task.mark(&[]), error))?;
        if !holds || planned.waits_for().any(|on| self.skipped.contains(on)) {
            self.skipped.insert(name.clone());
        }
        let output = |output: &String| {
            let (task, output) = (name.clone(), output.clone());
            (output.clone(), Source::Output(TaskOutput { task, output }))
        };
        let outputs = planned.run.outputs.keys().map(output).collect();
        self.tasks.push(planned);
        Ok(outputs)
    }

    /// Adds a task for each item of a loop. Its outputs are directories with one entry per item.
    fn each(&mut self, task: &Task, component: &Component, scope: &Scope, iterator: &ParameterIterator) -> Result<Sources> {
        let items = scope.items(iterator);
        let items = items.map_err(|error| at(self.spec, &scope.name, task.mark(&["parameterIterator", "items"]), error))?;
        let count = items.len();
        if count == 0 {
            self.empty.push(scope.name.clone());
        }
        let mut made = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let part = numbered(index, count);
            let one = scope.of_item(&part, component, &iterator.item_input, item);
            made.push((part, self.add(task, component, one)?));
        }
        let outputs = component.output_definitions.artifacts.keys();
        Ok(outputs.map(|name| (name.clone(), self.gathered(name, &made))).collect())
    }

    /// Gathers an output of all tasks of a loop in one directory, without skipped tasks unless all are. Like Kubeflow's lists it is flat:
    /// entries of nested loops have names like `0-1`.
    fn gathered(&self, name: &str, made: &[(String, Sources)]) -> Source {
        let mut entries = BTreeMap::new();
        for (part, outputs) in made {
            match outputs.get(name) {
                Some(Source::Output(output)) => drop(entries.insert(part.clone(), output.clone())),
                Some(Source::Gathered(below)) => {
                    let below = below.iter();
                    entries.extend(below.map(|(entry, output)| (format!("{part}-{entry}"), output.clone())));
                }
                Some(Source::Part | Source::Pinned(_)) | None => (),
            }
        }
        if entries.values().any(|output| !self.skipped.contains(&output.task)) {
            entries.retain(|_, output| !self.skipped.contains(&output.task));
        }
        Source::Gathered(entries)
    }

    fn of_output(&self, name: &str, error: Error) -> Error {
        error.of(format_args!("output `{name}`")).of(&self.spec.file)
    }

    /// Returns the source of a DAG's output: of several outputs of tasks, the first that is not skipped.
    fn first<'s>(&self, all: impl Iterator<Item = (&'s str, &'s str)>, made: &Made) -> Result<Option<Source>> {
        let mut sources = Vec::new();
        for (task, output) in all {
            sources.push(made.output(task, output)?);
        }
        let mut all = sources.iter();
        let run = all.find(|source| !source.tasks().any(|task| self.skipped.contains(task)));
        Ok(run.or(sources.first()).map(|source| (*source).clone()))
    }
}

/// Refuses features that depend on results of other tasks.
fn refuse_what_comes_later(task: &Task) -> Located<()> {
    let policy = task.trigger_policy.as_ref();
    match policy.map_or("", |policy| &policy.strategy) {
        "" | "TRIGGER_STRATEGY_UNSPECIFIED" | "ALL_UPSTREAM_TASKS_SUCCEEDED" => (),
        TriggerPolicy::COMPLETED => {
            let error = Error::config("tasks that run after failures of other tasks are not supported")
                .hint("remove `dsl.ExitHandler` or `ignore_upstream_failure` from the pipeline");
            return Err((task.mark(&["triggerPolicy", "strategy"]), error));
        }
        other => {
            let error = Error::config(format_args!("unknown strategy `{other}`"));
            return Err((task.mark(&["triggerPolicy", "strategy"]), error));
        }
    }
    match task.artifact_iterator {
        None => Ok(()),
        Some(_) => Err((
            task.mark(&["artifactIterator"]),
            Error::config("loops over a list of artifacts are not supported")
                .hint("use `dsl.ParallelFor` with a list of values, and create the artifacts inside the loop"),
        )),
    }
}

/// Returns the tasks in topological order.
fn in_order(dag: &Dag) -> Result<Vec<&str>> {
    let mut order = Vec::new();
    let mut open: BTreeSet<&str> = dag.tasks.keys().map(String::as_str).collect();
    while !open.is_empty() {
        let ready = |label: &&str| producers(&dag.tasks[*label]).all(|producer| !open.contains(producer));
        let ready: Vec<&str> = open.iter().copied().filter(ready).collect();
        if ready.is_empty() {
            let known = Names::of(open);
            return Err(Error::config(format_args!("dependency cycle between tasks: {known}")));
        }
        open.retain(|label| !ready.contains(label));
        order.extend(ready);
    }
    Ok(order)
}

fn producers(task: &Task) -> impl Iterator<Item = &str> {
    task.inputs.artifacts.values().filter_map(|from| match from {
        ArtifactFrom::TaskOutputArtifact { producer_task, .. } => Some(producer_task.as_str()),
        ArtifactFrom::ComponentInputArtifact(_) => None,
    })
}
