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

/// Export a notebook as a pipeline, or a pipeline or step for Kubeflow Pipelines or Argo Workflows
///
/// A notebook becomes a directory with the pipeline file, the modules of its cells, the inputs, and the sources of the cells. `lockstep run
/// DIR/pipeline.yaml` gives the same digests as the notebook, without Jupyter or a compiler.
///
/// With --to, writes one file for Kubeflow or Argo. It names modules and inputs by digest, and uploads them to the shared store for the
/// containers.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep export analysis.ipynb -o analysis
  lockstep run analysis/pipeline.yaml -p depth=8
  lockstep export wine.yaml --to kfp -o wine-kfp.yaml --image ghcr.io/team/lockstep-step@sha256:...
  lockstep export steps.wasm#clean --to kfp -o clean.yaml  # for kfp.components.load_component_from_file
  lockstep export wine.yaml --to argo -o wine-argo.yaml --shared s3://team/store")]
pub struct ExportArgs {
    /// NOTEBOOK.ipynb; with --to, also PIPELINE.yaml, PLAN.json or MODULE#STEP
    #[arg(value_name = "WHAT")]
    what: String,

    /// Output directory, or output file with --to; existing files are replaced
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,

    /// Target system
    #[arg(long, value_name = "SYSTEM")]
    to: Option<To>,

    #[command(flatten)]
    given: GivenArgs,

    /// Image of the containers [default: $LOCKSTEP_IMAGE, or lockstep-step:VERSION]
    #[arg(long, value_name = "REFERENCE", requires = "to", help_heading = "Kubeflow and Argo")]
    image: Option<String>,

    /// Secret with AWS_ACCESS_KEY_ID and other AWS_* variables, for access to the shared store
    #[arg(
        long,
        value_name = "NAME",
        default_value = "lockstep-store",
        help_heading = "Kubeflow and Argo"
    )]
    store_secret: String,
}

/// The target system of an export.
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

/// Returns notes on what the containers may lack.
fn notes(containers: &Containers) -> Vec<String> {
    let mut notes = Vec::new();
    if !is_pinned(&containers.image) {
        notes.push(format!(
            "image {} is not pinned to a digest; use --image REFERENCE@sha256:...",
            containers.image
        ));
    }
    if containers.shared.is_none() {
        notes.push(
            "no shared store is set, and containers read modules and inputs from it; use --shared s3://BUCKET/PREFIX"
                .to_owned(),
        );
    }
    notes
}

fn refuse_what_steps_do_not_take(given: &GivenArgs, to: To) -> Result<()> {
    if to == To::Argo {
        return Err(
            Error::user("--to argo does not support a single step").hint("use --to kfp, or write a pipeline with one task")
        );
    }
    if given.is_empty() {
        return Ok(());
    }
    Err(Error::user(
        "a component is exported without parameters and inputs: pipelines that use it set them",
    ))
}

/// Returns the module and the interface that `MODULE#STEP` names.
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
                Error::user(format_args!("{name} is a plain program: it declares no inputs and outputs"))
                    .hint("write a pipeline with one task, which declares them"),
            );
        }
        ([first, ..], None) => {
            let names = Names::of(all.iter().map(|interface| interface.step.as_str()));
            return Err(Error::user(format_args!("{name} has several steps: {names}"))
                .hint(format_args!("choose one, as in `lockstep export {name}#{}`", first.step)));
        }
    };
    Ok((module, interface.clone()))
}

/// Writes a notebook as a directory with a pipeline.
fn as_pipeline(args: &ExportArgs, invocation: &Invocation) -> Result<()> {
    let notebook = Path::new(&args.what);
    if notebook.extension().is_none_or(|extension| extension != "ipynb") {
        return Err(Error::user(format_args!("{} is not a notebook", args.what))
            .hint("give --to kfp or --to argo to export a pipeline or a step"));
    }
    if !args.given.is_empty() {
        return Err(Error::user("exporting a notebook takes no parameters or inputs")
            .hint("set them when you run the pipeline: lockstep run DIR/pipeline.yaml -p NAME=VALUE"));
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
        let error = Error::user(format_args!("no cell of {} defines a variable", notebook.display()));
        return Err(error.hint("a cell becomes a task if it defines a variable, as in `let rows = ...;`"));
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

/// Writes the modules and inputs of a pipeline.
struct Written<'a> {
    runtime: &'a Runtime,
    directory: &'a Path,
    /// The paths in the notebook, by digest.
    files: &'a BTreeMap<Digest, String>,
    /// The paths of the files, relative to the pipeline file.
    names: notebooks::Names,
    taken: BTreeSet<String>,
}

/// Writes the modules and inputs. Returns their paths relative to the pipeline file.
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
    /// Writes a module, and its base module beside it.
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

    /// Chooses the name of a file in `part`: its name in the notebook or `default`, with a number if that is taken. Returns its path.
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
