use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_saphyr::Spanned;

use super::file::TaskFile;
use super::{Pipeline, PipelineError, Plan, Task, Wire};
use crate::digest::Digest;
use crate::run::{Entry, Input, Names, Run, Runtime, bind, choose};
use crate::step::{Artifact, Interface, MediaType, interfaces, is_name};

/// A task as far as it is known before others are looked at.
struct Resolved {
    task: Task,
    /// What it makes, for those that read from it.
    outputs: BTreeSet<String>,
}

/// A module of the pipeline: its digest and what it declares.
struct Module {
    digest: Digest,
    interfaces: Vec<Interface>,
}

impl Pipeline {
    /// Pins every module and outside input, fills in parameters (`given` in place of the file's defaults, each JSON or a
    /// plain text) and checks that all fits together.
    pub fn resolve(&self, runtime: &Runtime, given: &BTreeMap<String, String>) -> Result<Plan, PipelineError> {
        let parameters = self.parameters_with(given)?;
        let mut modules = BTreeMap::new();
        let mut tasks = BTreeMap::new();
        for (name, task) in &self.content.tasks {
            if !is_name(name) || name.contains('.') {
                let message = format!("`{name}` can't name a task: use letters, digits, `_` and `-`");
                return Err(self.error(task, message));
            }
            let resolver = Resolver {
                pipeline: self,
                runtime,
                parameters: &parameters,
                name,
                task,
            };
            tasks.insert(name.as_str(), resolver.resolve(&mut modules)?);
        }
        self.check_wires(&tasks)?;
        Ok(Plan {
            name: self.content.name.clone(),
            tasks: self.in_order(tasks)?,
        })
    }

    fn parameters_with(&self, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, Value>, PipelineError> {
        let mut parameters = self.content.parameters.clone();
        for (name, text) in given {
            let Some(value) = parameters.get_mut(name) else {
                let known = Names::of(self.content.parameters.keys().map(String::as_str));
                return Err(PipelineError::whole(
                    &self.file,
                    format!("there is no parameter `{name}`; there are {known}"),
                ));
            };
            *value = match value {
                Value::String(_) => Value::from(text.as_str()),
                _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
            };
        }
        Ok(parameters)
    }

    fn check_wires(&self, tasks: &BTreeMap<&str, Resolved>) -> Result<(), PipelineError> {
        for (name, resolved) in tasks {
            for (input, wire) in &resolved.task.wires {
                let made = &tasks[wire.task.as_str()].outputs;
                if !made.contains(&wire.output) {
                    let known = Names::of(made.iter().map(String::as_str));
                    let message = format!("task `{}` has no output `{}`; it has {known}", wire.task, wire.output);
                    return Err(self.error(&self.content.tasks[*name].value.inputs[input], message));
                }
            }
        }
        Ok(())
    }

    /// Each task after those that it reads from; the order of the file's names where both would do.
    fn in_order(&self, mut tasks: BTreeMap<&str, Resolved>) -> Result<Vec<Task>, PipelineError> {
        let mut ordered: Vec<Task> = Vec::new();
        while !tasks.is_empty() {
            let ready = |resolved: &Resolved| {
                resolved
                    .task
                    .wires
                    .values()
                    .all(|wire| !tasks.contains_key(wire.task.as_str()))
            };
            let Some(name) = tasks.iter().find(|(_, resolved)| ready(resolved)).map(|(name, _)| *name) else {
                return Err(self.cycle(&tasks));
            };
            ordered.extend(tasks.remove(name).map(|resolved| resolved.task));
        }
        Ok(ordered)
    }

    /// Every task of `tasks` reads from another of them: follows the wires until one comes again.
    fn cycle(&self, tasks: &BTreeMap<&str, Resolved>) -> PipelineError {
        let mut path: Vec<&str> = tasks.keys().take(1).copied().collect();
        loop {
            let last = path[path.len() - 1];
            let wires = tasks[last].task.wires.iter();
            let back = wires
                .map(|(input, wire)| (input, wire.task.as_str()))
                .find(|(_, task)| tasks.contains_key(task));
            let Some((input, next)) = back else {
                return PipelineError::whole(&self.file, "the tasks form a cycle".into());
            };
            if let Some(start) = path.iter().position(|name| *name == next) {
                let names: Vec<_> = path[start..].iter().chain([&next]).map(|name| format!("`{name}`")).collect();
                let message = format!("the tasks form a cycle: {}", names.join(" reads from "));
                return self.error(&self.content.tasks[last].value.inputs[input], message);
            }
            path.push(next);
        }
    }
}

struct Resolver<'a> {
    pipeline: &'a Pipeline,
    runtime: &'a Runtime,
    parameters: &'a BTreeMap<String, Value>,
    name: &'a str,
    task: &'a Spanned<TaskFile>,
}

impl Resolver<'_> {
    fn resolve(&self, modules: &mut BTreeMap<String, Module>) -> Result<Resolved, PipelineError> {
        let mut wires = BTreeMap::new();
        let mut inputs = BTreeMap::new();
        for (name, source) in &self.task.value.inputs {
            let artifact = match self.wire(source) {
                Some(wire) => {
                    wires.insert(name.clone(), wire);
                    // stands in until the other task has made it
                    Artifact {
                        digest: Digest::of([]),
                        media_type: MediaType::default(),
                        size: 0,
                    }
                }
                None => self.grant(source)?,
            };
            inputs.insert(name.clone(), artifact);
        }
        let run = match (&self.task.value.step, &self.task.value.program) {
            (Some(step), None) => self.step(step, inputs, modules)?,
            (None, Some(program)) => self.program(program, inputs, modules)?,
            _ => {
                let message = format!("task `{}` needs either `step: MODULE#STEP` or `program: MODULE`", self.name);
                return Err(self.error(self.task, message));
            }
        };
        let outputs = run.outputs.keys().cloned().collect();
        Ok(Resolved {
            task: Task {
                name: self.name.to_owned(),
                run,
                wires,
            },
            outputs,
        })
    }

    fn step(
        &self,
        step: &Spanned<String>,
        inputs: BTreeMap<String, Artifact>,
        modules: &mut BTreeMap<String, Module>,
    ) -> Result<Run, PipelineError> {
        let file = &self.task.value;
        let program_only = [
            ("args", !file.args.is_empty()),
            ("env", !file.env.is_empty()),
            ("stdin", file.stdin.is_some()),
            ("stdout", file.stdout.is_some()),
            ("at", !file.at.is_empty()),
            ("outputs", !file.outputs.is_empty()),
        ];
        if let Some((key, _)) = program_only.iter().find(|(_, given)| *given) {
            let message = format!("`{key}` is for a `program`; a step declares its own interface");
            return Err(self.error(self.task, message));
        }
        let (path, name) = step.value.split_once('#').unwrap_or((&step.value, ""));
        let module = self.module(step, path, modules)?;
        let interface = match (name, module.interfaces.as_slice()) {
            ("", [only]) => only,
            (name, all) => choose(all, name).map_err(|e| self.error(step, e.to_string()))?,
        };
        let mut values = BTreeMap::new();
        for (name, value) in &file.parameters {
            values.insert(name.clone(), self.fill(value, &value.value)?);
        }
        bind(module.digest, interface, inputs, &values, self.seed()?).map_err(|e| {
            use crate::run::BindError::{Parameter, UnknownInput, UnknownParameter};
            let message = e.to_string();
            let at = match &e {
                UnknownInput { name, .. } => file.inputs.get(name).map(|at| self.error(at, &message)),
                UnknownParameter { name, .. } => file.parameters.get(name).map(|at| self.error(at, &message)),
                Parameter { source, .. } => file.parameters.get(source.name()).map(|at| self.error(at, &message)),
                _ => None,
            };
            at.unwrap_or_else(|| self.error(self.task, message))
        })
    }

    fn program(
        &self,
        program: &Spanned<String>,
        inputs: BTreeMap<String, Artifact>,
        modules: &mut BTreeMap<String, Module>,
    ) -> Result<Run, PipelineError> {
        let file = &self.task.value;
        if let Some(value) = file.parameters.values().next() {
            return Err(self.error(value, "`parameters` are for a `step`; give a `program` its `args` and `env`"));
        }
        for (what, name, known) in [
            ("input", &file.stdin, Names::of(inputs.keys().map(String::as_str))),
            ("output", &file.stdout, Names::of(file.outputs.keys().map(String::as_str))),
        ] {
            if let Some(name) = name
                && !known.contains(&name.value)
            {
                return Err(self.error(name, format!("there is no {what} `{}`; there are {known}", name.value)));
            }
        }
        if let Some((name, at)) = file.at.iter().find(|(name, _)| !inputs.contains_key(*name)) {
            return Err(self.error(at, format!("there is no input `{name}` to put at {}", at.value)));
        }
        let module = self.module(program, &program.value, modules)?;
        let fill = |text: &Spanned<String>| self.fill_text(text, &text.value);
        let args = file.args.iter().map(fill).collect::<Result<_, _>>()?;
        let env = file
            .env
            .iter()
            .map(|(name, text)| Ok((name.clone(), fill(text)?)))
            .collect::<Result<_, _>>()?;
        let place = |name: &String| file.at.get(name).map(|at| at.value.clone());
        let stdin = file.stdin.as_ref().map(|name| name.value.clone());
        let stdout = file.stdout.as_ref().map(|name| name.value.clone());
        Ok(Run {
            module: module.digest,
            entry: Entry::Program {
                args,
                env,
                stdin,
                stdout,
            },
            inputs: inputs
                .into_iter()
                .map(|(name, artifact)| {
                    (
                        name.clone(),
                        Input {
                            artifact,
                            at: place(&name),
                        },
                    )
                })
                .collect(),
            outputs: file.outputs.clone(),
            modules: BTreeMap::new(),
            seed: self.seed()?,
        })
    }

    fn module<'m>(
        &self,
        at: &Spanned<String>,
        path: &str,
        modules: &'m mut BTreeMap<String, Module>,
    ) -> Result<&'m Module, PipelineError> {
        if !modules.contains_key(path) {
            let failed = |message: String| self.error(at, message);
            let file = self.pipeline.directory().join(path);
            let artifact = self.runtime.store.import(&file).map_err(|e| {
                let hint = if file.exists() {
                    ""
                } else {
                    "; `lockstep build DIR` makes a module from a crate of steps"
                };
                failed(format!("{e}{hint}"))
            })?;
            let bytes = self.runtime.store.get(&artifact.digest).map_err(|e| failed(e.to_string()))?;
            let interfaces = interfaces(&bytes).map_err(|e| failed(format!("{}: {e}", file.display())))?;
            modules.insert(
                path.to_owned(),
                Module {
                    digest: artifact.digest,
                    interfaces,
                },
            );
        }
        Ok(&modules[path])
    }

    /// The wire that `source` names, if it has the form `task.output`.
    fn wire(&self, source: &Spanned<String>) -> Option<Wire> {
        let (task, output) = source.value.split_once('.')?;
        let is_task = self.pipeline.content.tasks.contains_key(task);
        is_task.then(|| Wire {
            task: task.to_owned(),
            output: output.to_owned(),
        })
    }

    fn grant(&self, source: &Spanned<String>) -> Result<Artifact, PipelineError> {
        let store = &self.runtime.store;
        let text = self.fill_text(source, &source.value)?;
        if let Ok(digest) = text.parse::<Digest>() {
            let known = store.artifact(&digest).map_err(|e| self.error(source, e.to_string()))?;
            return known.ok_or_else(|| self.error(source, format!("there is no artifact {digest} in the store")));
        }
        let path = self.pipeline.directory().join(&text);
        if !path.exists() {
            let tasks = Names::of(self.pipeline.content.tasks.keys().map(String::as_str));
            let message = format!(
                "`{text}` is neither an output of a task (`task.output`; the tasks are {tasks}) nor a file ({} does not exist)",
                path.display()
            );
            return Err(self.error(source, message));
        }
        store.import(&path).map_err(|e| self.error(source, e.to_string()))
    }

    fn seed(&self) -> Result<u64, PipelineError> {
        let Some(seed) = &self.task.value.seed else {
            return Ok(self.pipeline.content.seed);
        };
        let value = self.fill(seed, &seed.value)?;
        value
            .as_u64()
            .ok_or_else(|| self.error(seed, format!("a seed is a whole number from 0, not {value}")))
    }

    /// `value` with every `{{ name }}` in it replaced by the parameter. A text that is nothing but one `{{ name }}` becomes
    /// the parameter itself, of whatever kind.
    fn fill<T>(&self, at: &Spanned<T>, value: &Value) -> Result<Value, PipelineError> {
        match value {
            Value::String(text) => {
                let inner = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
                match inner.filter(|name| !name.contains("{{")) {
                    Some(name) => self.parameter(at, name.trim()).cloned(),
                    None => Ok(Value::from(self.fill_text(at, text)?)),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.fill(at, item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, item)| Ok((key.clone(), self.fill(at, item)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
            other => Ok(other.clone()),
        }
    }

    fn fill_text<T>(&self, at: &Spanned<T>, text: &str) -> Result<String, PipelineError> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err(self.error(at, "`{{` is not closed by `}}`"));
            };
            filled.push_str(before);
            match self.parameter(at, name.trim())? {
                Value::String(text) => filled.push_str(text),
                other => filled.push_str(&other.to_string()),
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn parameter<T>(&self, at: &Spanned<T>, name: &str) -> Result<&Value, PipelineError> {
        self.parameters.get(name).ok_or_else(|| {
            let known = Names::of(self.parameters.keys().map(String::as_str));
            self.error(at, format!("the pipeline has no parameter `{name}`; it has {known}"))
        })
    }

    fn error<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> PipelineError {
        self.pipeline.error(at, message)
    }
}
