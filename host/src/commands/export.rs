use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use clap::{Args, ValueEnum};
use lockstep_kernel::session::{InputFrom, Tasks};
use lockstep_kubeflow::{Containers, argo, component, is_pinned, pipeline};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Names, Reuse, Runtime, choose};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::{Artifact, Interface, base, interfaces};
use lockstep_view::artifacts::artifact;
use lockstep_view::error::{Error, Result};
use lockstep_view::export::{check_parent, export, write};
use lockstep_view::module::not_a_module;
use serde_json::json;

use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::notebooks;
use crate::pipelines::{GivenArgs, is_pipeline, planned};

/// Write a notebook as a pipeline, or a pipeline or a step for Kubeflow Pipelines or Argo Workflows
///
/// A notebook becomes a directory: the pipeline's file, the modules that its cells ran, the inputs, and the cells' sources. `lockstep run
/// DIR/pipeline.yaml` does what the notebook did, with the same digests, where there is neither Jupyter nor a compiler.
///
/// What is written for Kubeflow or Argo (`--to`) is one file. It names modules and inputs by digest; they are put into the shared store, where containers
/// find them.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep export analysis.ipynb -o analysis
  lockstep run analysis/pipeline.yaml -p depth=8
  lockstep export wine.yaml --to kfp -o wine-kfp.yaml --image ghcr.io/team/lockstep-step@sha256:...
  lockstep export steps.wasm#clean --to kfp -o clean.yaml  # for kfp.components.load_component_from_file
  lockstep export wine.yaml --to argo -o wine-argo.yaml --shared s3://team/store")]
pub struct ExportArgs {
    /// NOTEBOOK.ipynb; with --to also PIPELINE.yaml, PLAN.json or MODULE#STEP
    #[arg(value_name = "WHAT")]
    what: String,

    /// The directory, or with --to the file, to write to; files that are there are replaced
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,

    /// For whom it is written
    #[arg(long, value_name = "WHOM")]
    to: Option<To>,

    #[command(flatten)]
    given: GivenArgs,

    /// The image of containers [default: $LOCKSTEP_IMAGE, or lockstep-step and this version]
    #[arg(long, value_name = "REFERENCE", requires = "to", help_heading = "Kubeflow and Argo")]
    image: Option<String>,

    /// The secret with AWS_ACCESS_KEY_ID and the others by which containers reach the shared store
    #[arg(
        long,
        value_name = "NAME",
        default_value = "lockstep-store",
        help_heading = "Kubeflow and Argo"
    )]
    store_secret: String,
}

/// For whom something is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// Kubeflow Pipelines: a pipeline, or a component of one step
    Kfp,
    /// Argo Workflows: a WorkflowTemplate
    Argo,
}

pub fn run(args: ExportArgs, invocation: &Invocation) -> Result<()> {
    match args.to {
        Some(to) => for_others(args, to, invocation),
        None => as_pipeline(&args, invocation),
    }
}

/// Writes a file for Kubeflow or Argo.
fn for_others(args: ExportArgs, to: To, invocation: &Invocation) -> Result<()> {
    check_parent(&args.output)?;
    let runtime = invocation.runtime(EngineOptions::default())?;
    let containers = Containers {
        image: args
            .image
            .or_else(|| invocation.locations.image.clone())
            .unwrap_or_else(|| format!("lockstep-step:{}", env!("CARGO_PKG_VERSION"))),
        shared: invocation.locations.shared.clone(),
        secret: args.store_secret,
    };
    let mut written = if is_pipeline(&args.what) {
        let interrupt = interrupt_on_ctrl_c()?;
        let (plan, uses) = planned(&runtime, &args.what, args.given, &interrupt, invocation)?;
        match to {
            To::Kfp => pipeline::write(&runtime, &plan, &uses, &containers)?,
            To::Argo => argo::write(&runtime, &plan, &uses, &containers)?,
        }
    } else {
        refuse_what_steps_do_not_take(&args.given, to)?;
        let (module, interface) = step(&runtime, &args.what)?;
        component::write(&runtime, module, &interface, &containers)?
    };
    written.notes.extend(notes(&containers));
    write(&args.output, written.text.as_bytes())?;
    if !invocation.quiet {
        let style = AnsiColor::Yellow.on_default().bold();
        for note in &written.notes {
            anstream::eprintln!("{style}note{style:#}: {note}");
        }
    }
    invocation.answer(
        format_args!("{}\n", args.output.display()),
        || json!({ "written": args.output, "notes": written.notes }),
    )
}

/// What containers may lack.
fn notes(containers: &Containers) -> Vec<String> {
    let mut notes = Vec::new();
    if !is_pinned(&containers.image) {
        notes.push(format!(
            "image {} may become another: --image REFERENCE@sha256:... pins it",
            containers.image
        ));
    }
    if containers.shared.is_none() {
        notes.push(
            "containers find modules and inputs in a shared store, and none is named: --shared s3://BUCKET/PREFIX does"
                .to_owned(),
        );
    }
    notes
}

fn refuse_what_steps_do_not_take(given: &GivenArgs, to: To) -> Result<()> {
    if to == To::Argo {
        return Err(Error::user("a single step is written for Kubeflow Pipelines only").hint("write a pipeline of one task"));
    }
    if given.parameters.is_empty() && given.inputs.is_empty() && given.parameters_file.is_none() {
        return Ok(());
    }
    Err(Error::user(
        "a component takes no parameters and inputs now: whoever uses it gives them",
    ))
}

/// The module and the interface that `MODULE#STEP` names.
fn step(runtime: &Runtime, what: &str) -> Result<(Digest, Interface)> {
    let (name, step) = what.rsplit_once('#').map_or((what, None), |(name, step)| (name, Some(step)));
    let module = artifact(runtime, name)?.digest;
    let wasm = runtime.store.get(&module)?;
    let all = interfaces(&wasm).map_err(|e| not_a_module(name, &wasm, e))?;
    let interface = match (&all[..], step) {
        (all, Some(step)) => choose(all, step)?,
        ([only], None) => only,
        ([], None) => {
            return Err(
                Error::user(format_args!("{name} is a plain program: it does not say what it takes"))
                    .hint("write a pipeline of one task, which says it"),
            );
        }
        ([first, ..], None) => {
            let names = Names::of(all.iter().map(|interface| interface.step.as_str()));
            return Err(Error::user(format_args!("which step of {name} is meant? It has {names}"))
                .hint(format_args!("lockstep export {name}#{}", first.step)));
        }
    };
    Ok((module, interface.clone()))
}

/// Writes a notebook as a directory with a pipeline.
fn as_pipeline(args: &ExportArgs, invocation: &Invocation) -> Result<()> {
    let notebook = Path::new(&args.what);
    if notebook.extension().is_none_or(|extension| extension != "ipynb") {
        return Err(Error::user(format_args!("{} is no notebook", args.what))
            .hint("--to kfp or --to argo says for whom a pipeline or a step is to be written"));
    }
    if !args.given.parameters.is_empty() || !args.given.inputs.is_empty() || args.given.parameters_file.is_some() {
        return Err(
            Error::user("parameters and inputs are not for a notebook that is written as a pipeline")
                .hint("they are given when that is run: lockstep run DIR/pipeline.yaml -p NAME=VALUE"),
        );
    }
    let interrupt = interrupt_on_ctrl_c()?;
    let executed = notebooks::execute(
        notebook,
        Reuse::Records,
        EngineOptions::default(),
        &interrupt,
        invocation,
        &mut |_, _, _| (),
    )?;
    let tasks = executed.tasks()?;
    if tasks.tasks.is_empty() {
        let error = Error::user(format_args!("no cell of {} makes a variable", notebook.display()));
        return Err(error.hint("a cell is a task when it makes what others use: `let rows = ...;`"));
    }
    let runtime = invocation.runtime(EngineOptions::default())?;
    let names = write_files(&runtime, &tasks, &args.output)?;
    for task in &tasks.tasks {
        write(
            &args.output.join("cells").join(format!("{}.rs", task.name)),
            task.text.as_bytes(),
        )?;
    }
    let file = args.output.join("pipeline.yaml");
    write(&file, notebooks::yaml(&notebooks::name(notebook), &tasks, &names)?.as_bytes())?;
    let names: Vec<&str> = tasks.tasks.iter().map(|task| task.name.as_str()).collect();
    invocation.answer(
        format_args!("{}\n", file.display()),
        || json!({ "pipeline": file, "tasks": names, "parameters": tasks.parameters }),
    )
}

/// The files beside the pipeline's own.
struct Written<'a> {
    runtime: &'a Runtime,
    directory: &'a Path,
    /// What the notebook calls what it took in.
    files: &'a BTreeMap<Digest, String>,
    /// What they are called here, seen from the pipeline's file.
    names: notebooks::Names,
    taken: BTreeSet<String>,
}

/// Writes the modules and inputs; gives what they are called, seen from the pipeline's file.
fn write_files(runtime: &Runtime, tasks: &Tasks, directory: &Path) -> Result<notebooks::Names> {
    for part in ["modules", "inputs", "cells"] {
        let path = directory.join(part);
        std::fs::create_dir_all(&path).map_err(|e| Error::file("make", &path, &e))?;
    }
    let mut written = Written {
        runtime,
        directory,
        files: &tasks.files,
        names: notebooks::Names::new(),
        taken: BTreeSet::new(),
    };
    for task in &tasks.tasks {
        for (name, module) in &task.run.modules {
            written.module(module, name)?;
        }
        written.module(&task.run.module, &task.name)?;
        for (input, given) in &task.run.inputs {
            match task.from.get(input) {
                Some(InputFrom::Outside(variable)) => written.input(&given.artifact, variable)?,
                None => written.input(&given.artifact, input)?,
                Some(InputFrom::Output { .. } | InputFrom::Parameter(_)) => {}
            }
        }
    }
    Ok(written.names)
}

impl Written<'_> {
    /// A module, and beside it what it is based on.
    fn module(&mut self, module: &Digest, name: &str) -> Result<()> {
        if self.names.contains_key(module) {
            return Ok(());
        }
        let wasm = self.runtime.store.get(module)?;
        let path = self.name(module, "modules", &format!("{name}.wasm"));
        write(&path, &wasm)?;
        let Some(base) = base(&wasm).map_err(Error::host)? else {
            return Ok(());
        };
        let path = path.with_file_name(format!("{}.wasm", base.hex()));
        match path.exists() {
            true => Ok(()),
            false => write(&path, &self.runtime.store.get(&base)?),
        }
    }

    fn input(&mut self, artifact: &Artifact, name: &str) -> Result<()> {
        if self.names.contains_key(&artifact.digest) {
            return Ok(());
        }
        let path = self.name(&artifact.digest, "inputs", name);
        if artifact.is_directory() && path.exists() {
            std::fs::remove_dir_all(&path).map_err(|e| Error::file("replace", &path, &e))?;
        }
        export(&self.runtime.store, artifact, &path)
    }

    /// Names a file of `part`: as the notebook does, else as `default`, with a number if that is taken. Gives its path.
    fn name(&mut self, digest: &Digest, part: &str, default: &str) -> PathBuf {
        let file = self.files.get(digest).and_then(|path| Path::new(path).file_name()?.to_str());
        let file = file.unwrap_or(default);
        let numbered = (2..).map(|n| format!("{part}/{n}-{file}"));
        let mut names = std::iter::once(format!("{part}/{file}")).chain(numbered);
        let name = names.find(|name| self.taken.insert(name.clone())).unwrap_or_default();
        let path = self.directory.join(&name);
        self.names.insert(*digest, name);
        path
    }
}
