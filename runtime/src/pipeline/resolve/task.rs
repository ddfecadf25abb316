use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use super::input::Bound;
use super::{Module, Names, PipelineError, Ports, Resolver, TaskContext, fit};
use crate::digest::Digest;
use crate::pipeline::plan::{Task, Wire};
use crate::pipeline::reference::only_name;
use crate::pipeline::when::{self, Operand, When};
use crate::pipeline::yaml::Spanned;
use crate::pipeline::{Source, TaskOutput};
use crate::run::{Entry, Input, Run, bind, choose};
use crate::step::{Artifact, Interface, MediaType, OwnLimits, base, interfaces, value};

impl Resolver<'_> {
    /// Resolves a task, or the tasks of a nested pipeline. Returns its outputs.
    pub(super) fn task(&mut self, place: &TaskContext) -> Result<Ports, PipelineError> {
        let file = &place.task.value;
        match (&file.step, &file.program, &file.pipeline) {
            (Some(step), None, None) => self.step(place, step),
            (None, Some(program), None) => self.program(place, program),
            (None, None, Some(pipeline)) => self.inner(place, pipeline),
            _ => {
                let message = format!(
                    "task `{}` needs exactly one of `step: MODULE#STEP`, `program: MODULE` and `pipeline: FILE`",
                    place.name
                );
                Err(place.error(place.task, message))
            }
        }
    }

    fn inputs(&mut self, place: &TaskContext) -> Result<BTreeMap<String, Bound>, PipelineError> {
        let file = &place.task.value;
        let inputs = file.inputs.iter();
        let mut inputs: BTreeMap<_, _> = inputs
            .map(|(name, text)| Ok((name.clone(), self.input(place, text)?)))
            .collect::<Result<_, PipelineError>>()?;
        for (name, value) in &file.values {
            let bytes = value::encode(&place.fill(value, &value.value)?);
            let artifact = self.runtime.store.put_artifact(bytes, &MediaType::new(MediaType::VALUE));
            let artifact = artifact.map_err(|e| place.error(value, e.to_string()))?;
            if inputs.insert(name.clone(), Bound::pinned(artifact, None)).is_some() {
                return Err(place.error(value, format!("`{name}` is in both `values` and `inputs`")));
            }
        }
        Ok(inputs)
    }

    /// Returns the modules whose steps the task may call.
    fn modules(&mut self, place: &TaskContext) -> Result<BTreeMap<String, Digest>, PipelineError> {
        let modules = place.task.value.modules.iter();
        modules
            .map(|(name, path)| Ok((name.clone(), self.module(place, path, &path.value)?.digest)))
            .collect()
    }

    fn step(&mut self, place: &TaskContext, step: &Spanned<String>) -> Result<Ports, PipelineError> {
        let why = "applies only to a `program`; a step declares its own interface";
        place.refuse(&place.program_only(), why)?;
        let (path, name) = step.value.split_once('#').unwrap_or((&step.value, ""));
        let module = self.module(place, step, path)?;
        let interface = module.interface(name).map_err(|e| place.error(step, e))?;
        let inputs = self.inputs(place)?;
        let artifacts = inputs.iter().map(|(name, bound)| (name.clone(), bound.stand_in())).collect();
        let parameters = place.parameters()?;
        let run = bind(module.digest, interface, artifacts, &parameters, place.seed()?);
        let mut run = run.map_err(|e| place.bind_error(&e))?;
        run.modules.extend(self.modules(place)?);
        place.check_types(interface, &inputs)?;
        self.add(place, run, inputs)
    }

    /// Returns the names of the outputs of a task.
    pub(super) fn output_names(&mut self, place: &TaskContext) -> Result<Vec<String>, PipelineError> {
        let file = &place.task.value;
        if let Some(step) = &file.step {
            let (path, name) = step.value.split_once('#').unwrap_or((&step.value, ""));
            let module = self.module(place, step, path)?;
            let interface = module.interface(name).map_err(|e| place.error(step, e))?;
            return Ok(interface.outputs.iter().map(|port| port.name.clone()).collect());
        }
        match &file.pipeline {
            Some(file) => {
                let path = place.scope.pipeline.directory().join(&file.value);
                let pipeline = self.read(place, file, &path)?;
                Ok(pipeline.content.outputs.keys().cloned().collect())
            }
            None => Ok(file.outputs.keys().cloned().collect()),
        }
    }

    fn program(&mut self, place: &TaskContext, program: &Spanned<String>) -> Result<Ports, PipelineError> {
        let file = &place.task.value;
        if let Some(value) = file.parameters.values().next() {
            return Err(place.error(
                value,
                "`parameters` apply only to a `step`; use `args` and `env` for a `program`",
            ));
        }
        let inputs = self.inputs(place)?;
        place.check_names(&inputs)?;
        let module = self.module(place, program, &program.value)?;
        let fill = |text: &Spanned<String>| place.fill_text(text, &text.value);
        let args = file.args.iter().map(fill).collect::<Result<_, _>>()?;
        let env = file.env.iter().map(|(name, text)| Ok((name.clone(), fill(text)?)));
        let entry = Entry::Program {
            args,
            env: env.collect::<Result<_, _>>()?,
            stdin: file.stdin.as_ref().map(|name| name.value.clone()),
            stdout: file.stdout.as_ref().map(|name| name.value.clone()),
        };
        let stand_in = |(name, bound): (&String, &Bound)| {
            let at = file.at.get(name).map(|at| at.value.clone());
            (
                name.clone(),
                Input {
                    artifact: bound.stand_in(),
                    at,
                },
            )
        };
        let run = Run {
            module: module.digest,
            entry,
            inputs: inputs.iter().map(stand_in).collect(),
            outputs: file.outputs.clone(),
            modules: self.modules(place)?,
            seed: place.seed()?,
        };
        self.add(place, run, inputs)
    }

    /// Adds the task. Inputs from other tasks become wires.
    fn add(&mut self, place: &TaskContext, run: Run, inputs: BTreeMap<String, Bound>) -> Result<Ports, PipelineError> {
        let mut run = self.runtime.equip(run).map_err(|e| place.error(place.task, e.to_string()))?;
        let port = |(name, media_type): (&String, &MediaType)| {
            let output = TaskOutput {
                task: place.full_name.clone(),
                output: name.clone(),
            };
            (name.clone(), Bound::made(Source::Output(output), media_type.clone()))
        };
        let ports = run.outputs.iter().map(port).collect();
        let (mut wires, mut files) = (BTreeMap::new(), BTreeMap::new());
        for (name, bound) in inputs {
            files.extend(bound.file.clone().map(|file| (name.clone(), file)));
            if bound.is_made() {
                let at = run.inputs.remove(&name).and_then(|input| input.at);
                wires.insert(name, Wire { from: bound.source, at });
            }
        }
        self.tasks.push(Task {
            name: place.full_name.clone(),
            run,
            wires,
            files,
            for_each: None,
            when: place.when()?,
            retries: place.task.value.retries,
            limits: place.limits()?,
        });
        Ok(ports)
    }

    fn module(&mut self, place: &TaskContext, at: &Spanned<String>, path: &str) -> Result<Rc<Module>, PipelineError> {
        let file = place.scope.pipeline.directory().join(path);
        if let Some(module) = self.modules.get(&file) {
            return Ok(module.clone());
        }
        let failed = |message: String| place.error(at, message);
        let store = &self.runtime.store;
        let artifact = match path.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) if file.is_dir() => {
                let wasm = (self.build)(&file).map_err(failed)?;
                store.put(wasm).map_err(|e| failed(e.to_string()))?
            }
            Err(_) => {
                let hint = match file.exists() {
                    true => "",
                    false => "; `lockstep build DIR` builds a module from a crate of steps",
                };
                store.import(&file).map_err(|e| failed(format!("{e}{hint}")))?.digest
            }
        };
        let bytes = store.get(&artifact).map_err(|e| failed(e.to_string()))?;
        self.base_beside(&file, &bytes).map_err(failed)?;
        let module = Rc::new(Module {
            digest: artifact,
            interfaces: interfaces(&bytes).map_err(|e| failed(format!("{}: {e}", file.display())))?,
        });
        self.modules.insert(file, module.clone());
        Ok(module)
    }
}

impl Resolver<'_> {
    /// Imports the base of a module, unless the store has it, from the file next to the module that is named by the base's digest.
    fn base_beside(&self, module: &Path, bytes: &[u8]) -> Result<(), String> {
        let store = &self.runtime.store;
        let Some(base) = base(bytes).map_err(|e| format!("{}: {e}", module.display()))? else {
            return Ok(());
        };
        if store.contains(&base).map_err(|e| e.to_string())? {
            return Ok(());
        }
        let beside = module.with_file_name(format!("{}.wasm", base.hex()));
        match beside.exists() {
            true => store.import(&beside).map(drop).map_err(|e| e.to_string()),
            false => Err(format!(
                "the module's base {base} is neither in the store nor next to the module ({})",
                beside.display()
            )),
        }
    }
}

impl Module {
    /// Returns the interface of a step; the name may be empty if there is only one.
    fn interface(&self, name: &str) -> Result<&Interface, String> {
        match (name, self.interfaces.as_slice()) {
            ("", [only]) => Ok(only),
            (name, all) => choose(all, name).map_err(|e| e.to_string()),
        }
    }
}

impl Bound {
    /// Returns the artifact, or a placeholder for one that a task has yet to produce.
    fn stand_in(&self) -> Artifact {
        match &self.source {
            Source::Pinned(artifact) => artifact.clone(),
            _ => Artifact {
                digest: Digest::of([]),
                media_type: MediaType::default(),
                size: 0,
            },
        }
    }
}

impl TaskContext<'_> {
    fn seed(&self) -> Result<u64, PipelineError> {
        let Some(seed) = &self.task.value.seed else {
            return Ok(self.scope.pipeline.content.seed);
        };
        let value = self.fill(seed, &seed.value)?;
        let wrong = || self.error(seed, format!("a seed is a non-negative integer, not {value}"));
        value.as_u64().ok_or_else(wrong)
    }

    fn limits(&self) -> Result<OwnLimits, PipelineError> {
        let mut limits = OwnLimits::default();
        if let Some(at) = &self.task.value.limits {
            limits = at.value.read().map_err(|message| self.error(at, message))?;
        }
        if let Some(at) = &self.task.value.timeout {
            let wrong = |_| self.error(at, format!("`{}` is not a duration: write 500ms, 30s or 10m", at.value));
            let time = humantime::parse_duration(&at.value).map_err(wrong)?;
            limits.time_ms = Some(time.as_millis() as u64);
        }
        Ok(limits)
    }

    fn bind_error(&self, error: &crate::run::BindError) -> PipelineError {
        use crate::run::BindError::{Parameter, UnknownInput, UnknownParameter};
        let file = &self.task.value;
        let message = error.to_string();
        let at = match error {
            UnknownInput { name, .. } => file.inputs.get(name).map(|at| self.error(at, &message)),
            UnknownParameter { name, .. } => file.parameters.get(name).map(|at| self.error(at, &message)),
            Parameter { source, .. } => file.parameters.get(source.name()).map(|at| self.error(at, &message)),
            _ => None,
        };
        at.unwrap_or_else(|| self.error(self.task, message))
    }

    /// Checks that the media types of other tasks' outputs fit the step's inputs.
    fn check_types(&self, interface: &Interface, inputs: &BTreeMap<String, Bound>) -> Result<(), PipelineError> {
        for port in &interface.inputs {
            let Some(bound) = inputs.get(&port.name).filter(|bound| bound.is_made()) else {
                continue;
            };
            if fit::fits(&bound.media_type, &port.media_type) {
                continue;
            }
            let message = format!(
                "input `{}` of step `{}` is {}, but `{}` is {}",
                port.name, interface.step, port.media_type, self.task.value.inputs[&port.name].value, bound.media_type
            );
            let hint = match &bound.source {
                Source::Gathered(_) | Source::Output(_) if bound.media_type.as_str() == MediaType::DIRECTORY => {
                    ", with one entry per instance; declare the input as `Parts<T>`, or iterate over it with `for_each`"
                }
                _ => "",
            };
            return Err(self.error(&self.task.value.inputs[&port.name], format!("{message}{hint}")));
        }
        Ok(())
    }

    /// Checks that the inputs and outputs that a program refers to exist.
    fn check_names(&self, inputs: &BTreeMap<String, Bound>) -> Result<(), PipelineError> {
        let file = &self.task.value;
        for (what, name, known) in [
            ("input", &file.stdin, Names::of(inputs.keys().map(String::as_str))),
            ("output", &file.stdout, Names::of(file.outputs.keys().map(String::as_str))),
        ] {
            if let Some(name) = name
                && !known.contains(&name.value)
            {
                return Err(self.error(name, format!("the task has no {what} `{}`; it has {known}", name.value)));
            }
        }
        match file.at.iter().find(|(name, _)| !inputs.contains_key(*name)) {
            Some((name, at)) => Err(self.error(
                at,
                format!("can't place input `{name}` at {}: the task has no such input", at.value),
            )),
            None => Ok(()),
        }
    }

    /// Parses a condition.
    pub(super) fn condition(&self, text: &Spanned<String>) -> Result<When, PipelineError> {
        let (left, is, right) = when::split(&text.value).map_err(|e| self.error(text, e.to_string()))?;
        let left = self.operand(text, left)?;
        let right = match only_name(right) {
            Some(_) => self.fill(text, &Value::from(right))?,
            None => when::literal(right),
        };
        let when = When { left, is, right };
        if let Operand::Value(_) = &when.left {
            when.holds(None).map_err(|e| self.error(text, e.to_string()))?;
        }
        Ok(when)
    }

    fn operand(&self, text: &Spanned<String>, left: &str) -> Result<Operand, PipelineError> {
        if only_name(left).is_some() {
            return Ok(Operand::Value(self.fill(text, &Value::from(left))?));
        }
        let mut parts = left.split('.');
        let head: Vec<&str> = parts.by_ref().take(2).collect();
        let Some(port) = self.scope.port(text, &head.join("."))? else {
            let quoted = left.starts_with(['"', '\'']);
            if !quoted && head.len() == 2 && left.parse::<f64>().is_err() {
                let message = format!("the pipeline has no task `{}`; it has {}", head[0], self.scope.task_names());
                return Err(self.error(text, message));
            }
            return Ok(Operand::Value(when::literal(left)));
        };
        let Source::Output(of) = port.source else {
            return Err(self.error(text, format!("`when` can't read {left}: several instances produce it")));
        };
        if !when::is_readable(&port.media_type) {
            let message = format!(
                "{of} is {}: `when` reads only JSON, metrics, text and values",
                port.media_type
            );
            return Err(self.error(text, message));
        }
        let path = parts.map(str::to_owned).collect();
        Ok(Operand::Output { of, path })
    }
}
