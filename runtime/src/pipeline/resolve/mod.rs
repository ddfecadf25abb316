//! Resolves a pipeline file to a plan: pins modules, parameters and external inputs, inlines nested pipelines, and checks that
//! everything fits together.

mod each;
mod fill;
mod fit;
mod input;
mod order;
mod task;
mod uses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use super::file::TaskFile;
use super::yaml::Spanned;
use super::{Pipeline, PipelineError, Plan, Source, Task, When};
use crate::digest::Digest;
use crate::run::{Names, Runtime};
use crate::step::{Artifact, Interface, MediaType, Parameter, is_name};

use fill::Items;
use input::Bound;

pub use uses::{ParameterRole, Use};

/// The parameters and inputs of a pipeline, supplied by the caller.
#[derive(Clone, Default, Debug)]
pub struct Arguments {
    /// Parameters, which override the file's defaults.
    pub parameters: BTreeMap<String, Value>,
    /// The pipeline's inputs.
    pub inputs: BTreeMap<String, Artifact>,
}

/// Builds the crate in a directory. Returns the module, or an error message.
pub type BuildCrate<'a> = &'a dyn Fn(&Path) -> Result<Vec<u8>, String>;

/// A module of the pipeline: its digest and its interfaces.
struct Module {
    digest: Digest,
    interfaces: Vec<Interface>,
}

/// The outputs of a task, by name.
type Ports = BTreeMap<String, Bound>;

/// The state of resolving all tasks.
struct Resolver<'a> {
    runtime: &'a Runtime,
    build: BuildCrate<'a>,
    modules: BTreeMap<PathBuf, Rc<Module>>,
    grants: BTreeMap<PathBuf, Artifact>,
    pipelines: BTreeMap<PathBuf, Rc<Pipeline>>,
    /// The files of the nested pipelines being resolved, outermost first.
    chain: Vec<PathBuf>,
    tasks: Vec<Task>,
    /// The tasks without instances.
    empty: Vec<String>,
}

/// A pipeline file being resolved.
struct Scope<'a> {
    pipeline: &'a Pipeline,
    /// The prefix of its task names: `prepare/`.
    prefix: String,
    parameters: BTreeMap<String, Value>,
    inputs: BTreeMap<String, Bound>,
    /// The conditions of the enclosing tasks.
    when: Vec<When>,
    /// The outputs of the tasks resolved so far.
    made: BTreeMap<&'a str, Ports>,
}

/// A task being resolved, or one instance of it.
struct TaskContext<'a> {
    scope: &'a Scope<'a>,
    name: &'a str,
    task: &'a Spanned<TaskFile>,
    /// Its name in the plan.
    full_name: String,
    items: Items,
}

impl Pipeline {
    /// Resolves the pipeline to a plan. A step that names a crate directory is an error.
    pub fn resolve(&self, runtime: &Runtime, given: &Arguments) -> Result<Plan, PipelineError> {
        let build = |dir: &Path| Err(format!("{} is a directory, not a module", dir.display()));
        self.resolve_building(runtime, given, &build)
    }

    /// Like [`resolve`](Self::resolve), but a step may name the directory of a crate, which `build` compiles.
    pub fn resolve_building(&self, runtime: &Runtime, given: &Arguments, build: BuildCrate) -> Result<Plan, PipelineError> {
        let mut resolver = Resolver {
            runtime,
            build,
            modules: BTreeMap::new(),
            grants: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            chain: vec![self.file.clone()],
            tasks: Vec::new(),
            empty: Vec::new(),
        };
        let pinned = |artifact: &Artifact| Bound::pinned(artifact.clone(), None);
        let inputs = given.inputs.iter().map(|(name, artifact)| (name.clone(), pinned(artifact)));
        let inputs = self
            .inputs_from(inputs.collect())
            .map_err(|e| PipelineError::whole(&self.file, e))?;
        let mut scope = Scope {
            pipeline: self,
            prefix: String::new(),
            parameters: self
                .parameters_with(&given.parameters)
                .map_err(|e| PipelineError::whole(&self.file, e))?,
            inputs,
            when: Vec::new(),
            made: BTreeMap::new(),
        };
        resolver.scope(&mut scope)?;
        let outputs = scope
            .outputs()?
            .into_iter()
            .map(|(name, bound)| (name, bound.source))
            .collect();
        let mut plan = Plan::new(self.content.name.clone(), resolver.tasks, outputs);
        plan.empty = resolver.empty;
        Ok(plan)
    }

    /// Parses parameters from the command line, by the kinds of their defaults. Strings need no quotes.
    pub fn parse_parameters(&self, typed: &BTreeMap<String, String>) -> Result<BTreeMap<String, Value>, PipelineError> {
        let wrong = |message: String| PipelineError::whole(&self.file, message);
        let parse = |(name, text): (&String, &String)| {
            let value = self.parameter(name).map_err(wrong)?.parse(text);
            let value = value.map_err(|e| wrong(e.to_string()))?;
            let shown = (value.is_number() && self.shown.contains(name)).then(|| value.to_string());
            if shown.is_some_and(|shown| shown != *text) {
                return Err(wrong(format!(
                    "parameter `{name}` is a number: `{text}` becomes `{value}` in the text that uses it; write {value}, or make its default text"
                )));
            }
            Ok((name.clone(), value))
        };
        typed.iter().map(parse).collect()
    }

    fn parameters_with(&self, given: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, String> {
        let mut parameters = self.content.parameters.clone();
        for (name, value) in given {
            let value = self.parameter(name)?.value(Some(value)).map_err(|e| e.to_string())?;
            parameters.insert(name.clone(), value);
        }
        Ok(parameters)
    }

    fn parameter(&self, name: &str) -> Result<Parameter, String> {
        self.parameters().find(|parameter| parameter.name == name).ok_or_else(|| {
            let known = Names::of(self.content.parameters.keys().map(String::as_str));
            format!("the pipeline has no parameter `{name}`; it has {known}")
        })
    }

    /// Checks `given` against the declared inputs.
    fn inputs_from(&self, given: BTreeMap<String, Bound>) -> Result<BTreeMap<String, Bound>, String> {
        let declared = &self.content.inputs;
        if let Some(name) = given.keys().find(|name| !declared.contains_key(*name)) {
            let known = Names::of(declared.keys().map(String::as_str));
            return Err(format!("the pipeline has no input `{name}`; it has {known}"));
        }
        for (name, media_type) in declared {
            let Some(bound) = given.get(name) else {
                return Err(format!("missing input `{name}` ({media_type}) of the pipeline"));
            };
            if bound.is_made() && !fit::fits(&bound.media_type, media_type) {
                return Err(format!(
                    "input `{name}` of the pipeline is {media_type}, not {}",
                    bound.media_type
                ));
            }
        }
        Ok(given)
    }
}

impl<'a> Scope<'a> {
    fn task_names(&self) -> Names {
        Names::of(self.pipeline.content.tasks.keys().map(String::as_str))
    }

    /// Returns the pipeline's outputs.
    fn outputs(&self) -> Result<Ports, PipelineError> {
        let output = |(name, text): (&String, &Spanned<String>)| {
            let bound = self.port(text, &text.value)?.ok_or_else(|| {
                let message = format!(
                    "`{}` is not a task output (`task.output`); the tasks are {}",
                    text.value,
                    self.task_names()
                );
                self.pipeline.error(text, message)
            })?;
            Ok((name.clone(), bound))
        };
        self.pipeline.content.outputs.iter().map(output).collect()
    }

    /// Returns the output that `text` names, if it has the form `task.output` with a task of this file.
    fn port(&self, at: &Spanned<String>, text: &str) -> Result<Option<Bound>, PipelineError> {
        let Some((task, output)) = text.split_once('.') else {
            return Ok(None);
        };
        if !self.pipeline.content.tasks.contains_key(task) {
            return Ok(None);
        }
        let ports = self.made.get(task);
        let port = ports.and_then(|ports| ports.get(output));
        port.cloned().map(Some).ok_or_else(|| {
            let known = Names::of(ports.into_iter().flat_map(|ports| ports.keys().map(String::as_str)));
            self.pipeline
                .error(at, format!("task `{task}` has no output `{output}`; it has {known}"))
        })
    }
}

impl Resolver<'_> {
    /// Resolves every task of a file, in dependency order.
    fn scope<'a>(&mut self, scope: &mut Scope<'a>) -> Result<(), PipelineError> {
        let pipeline = scope.pipeline;
        for name in pipeline.content.inputs.keys().chain(pipeline.content.tasks.keys()) {
            if !is_name(name) || name.contains('.') {
                let message = format!("invalid name `{name}`: use letters, digits, `_` and `-`");
                let at = pipeline.content.tasks.get(name);
                return Err(at.map_or_else(
                    || PipelineError::whole(&pipeline.file, message.clone()),
                    |at| pipeline.error(at, &message),
                ));
            }
        }
        for name in pipeline.in_order()? {
            let (name, task) = match pipeline.content.tasks.get_key_value(name) {
                Some((name, task)) => (name.as_str(), task),
                None => continue,
            };
            let place = TaskContext {
                scope,
                name,
                task,
                full_name: format!("{}{name}", scope.prefix),
                items: Items::default(),
            };
            let ports = match &task.value.for_each {
                None => self.task(&place)?,
                Some(each) => self.each(&place, each)?,
            };
            scope.made.insert(name, ports);
        }
        Ok(())
    }

    /// Resolves a nested pipeline.
    fn inner(&mut self, place: &TaskContext, file: &Spanned<String>) -> Result<Ports, PipelineError> {
        place.refuse_beside_pipeline()?;
        let path = place.scope.pipeline.directory().join(&file.value);
        let pipeline = self.read(place, file, &path)?;
        let parameters = place.parameters()?;
        let mut inputs = BTreeMap::new();
        for (name, source) in &place.task.value.inputs {
            inputs.insert(name.clone(), self.input(place, source)?);
        }
        let fault = |message: String| place.error(place.task, format!("{}: {message}", file.value));
        let mut inner = Scope {
            pipeline: &pipeline,
            prefix: format!("{}/", place.full_name),
            parameters: pipeline.parameters_with(&parameters).map_err(fault)?,
            inputs: pipeline.inputs_from(inputs).map_err(fault)?,
            when: place.when()?,
            made: BTreeMap::new(),
        };
        self.chain.push(pipeline.file.clone());
        self.scope(&mut inner)?;
        self.chain.pop();
        inner.outputs()
    }

    fn read(
        &mut self,
        place: &TaskContext,
        at: &Spanned<String>,
        path: &std::path::Path,
    ) -> Result<Rc<Pipeline>, PipelineError> {
        let same = |other: &PathBuf| {
            other == path
                || other
                    .canonicalize()
                    .ok()
                    .is_some_and(|other| path.canonicalize().ok() == Some(other))
        };
        if self.chain.iter().any(same) {
            let chain = self.chain.iter().map(PathBuf::as_path).chain([path]);
            let chain: Vec<_> = chain.map(|file| file.display().to_string()).collect();
            return Err(place.error(at, format!("a pipeline can't include itself: {}", chain.join(" -> "))));
        }
        if let Some(known) = self.pipelines.get(path) {
            return Ok(known.clone());
        }
        if !path.exists() {
            return Err(place.error(at, format!("pipeline file {} not found", path.display())));
        }
        let pipeline = Rc::new(Pipeline::read(path)?);
        self.pipelines.insert(path.to_owned(), pipeline.clone());
        Ok(pipeline)
    }
}

impl TaskContext<'_> {
    fn error<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> PipelineError {
        self.scope.pipeline.error(at, message)
    }

    /// Returns the conditions of this task and of the enclosing tasks.
    fn when(&self) -> Result<Vec<When>, PipelineError> {
        let mut all = self.scope.when.clone();
        if let Some(text) = &self.task.value.when {
            all.push(self.condition(text)?);
        }
        Ok(all)
    }

    fn refuse_beside_pipeline(&self) -> Result<(), PipelineError> {
        let file = &self.task.value;
        let given = [
            ("seed", file.seed.is_some()),
            ("retries", file.retries > 0),
            ("timeout", file.timeout.is_some()),
            ("limits", file.limits.is_some()),
        ];
        self.refuse(
            &given,
            "applies only to a `step` or a `program`; set it on the tasks of that pipeline",
        )?;
        self.refuse(&self.program_only(), "applies only to a `program`")
    }

    fn program_only(&self) -> [(&'static str, bool); 6] {
        let file = &self.task.value;
        [
            ("args", !file.args.is_empty()),
            ("env", !file.env.is_empty()),
            ("stdin", file.stdin.is_some()),
            ("stdout", file.stdout.is_some()),
            ("at", !file.at.is_empty()),
            ("outputs", !file.outputs.is_empty()),
        ]
    }

    fn refuse(&self, given: &[(&str, bool)], why: &str) -> Result<(), PipelineError> {
        match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(self.error(self.task, format!("`{key}` {why}"))),
            None => Ok(()),
        }
    }
}

impl Bound {
    fn made(source: Source, media_type: MediaType) -> Self {
        Self {
            source,
            media_type,
            file: None,
        }
    }
}
