use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_kernel::session::{InputFrom, Tasks};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Reuse, Runtime};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::{Artifact, base};
use serde_json::json;

use crate::error::{Error, Result};
use crate::export::{export, write};
use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::notebooks::{self, Names};

/// Write a notebook as a pipeline: its file, the modules that its cells ran, the inputs, and the cells' sources
///
/// `lockstep run DIR/pipeline.yaml` does what the notebook did, with the same digests, where there is neither Jupyter nor a compiler.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep export analysis.ipynb -o analysis
  lockstep run analysis/pipeline.yaml -p depth=8")]
pub struct ExportArgs {
    /// The notebook
    #[arg(value_name = "NOTEBOOK.ipynb")]
    notebook: PathBuf,

    /// The directory to write to; files that are there are replaced
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub fn run(args: ExportArgs, invocation: &Invocation) -> Result<()> {
    let interrupt = interrupt_on_ctrl_c()?;
    let executed = notebooks::execute(
        &args.notebook,
        Reuse::Records,
        EngineOptions::default(),
        &interrupt,
        invocation,
        &mut |_, _, _| (),
    )?;
    let tasks = executed.tasks()?;
    if tasks.tasks.is_empty() {
        let error = Error::user(format_args!("no cell of {} makes a variable", args.notebook.display()));
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
    write(
        &file,
        notebooks::yaml(&notebooks::name(&args.notebook), &tasks, &names)?.as_bytes(),
    )?;
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
    names: Names,
    taken: BTreeSet<String>,
}

/// Writes the modules and inputs; gives what they are called, seen from the pipeline's file.
fn write_files(runtime: &Runtime, tasks: &Tasks, directory: &Path) -> Result<Names> {
    for part in ["modules", "inputs", "cells"] {
        let path = directory.join(part);
        std::fs::create_dir_all(&path).map_err(|e| Error::file("make", &path, &e))?;
    }
    let mut written = Written {
        runtime,
        directory,
        files: &tasks.files,
        names: Names::new(),
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
