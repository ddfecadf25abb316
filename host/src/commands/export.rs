use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_kernel::session::{InputFrom, Tasks};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Reuse, Runtime};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::base;
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
    let executed = notebooks::execute(&args.notebook, Reuse::Records, &interrupt, invocation, &mut |_, _, _| ())?;
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

/// Writes the modules and inputs; gives what they are called, seen from the pipeline's file.
fn write_files(runtime: &Runtime, tasks: &Tasks, directory: &Path) -> Result<Names> {
    for part in ["modules", "inputs", "cells"] {
        let path = directory.join(part);
        std::fs::create_dir_all(&path).map_err(|e| Error::file("make", &path, &e))?;
    }
    let mut names = Names::new();
    let mut taken = BTreeSet::new();
    for task in &tasks.tasks {
        let called = task.run.modules.iter().map(|(name, module)| (name.as_str(), module));
        for (name, module) in called.chain([(task.name.as_str(), &task.run.module)]) {
            if names.contains_key(module) {
                continue;
            }
            let name = name_of(&tasks.files, module, "modules", &format!("{name}.wasm"), &mut taken);
            let wasm = runtime.store.get(module)?;
            write(&directory.join(&name), &wasm)?;
            if let Some(base) = base(&wasm).map_err(Error::host)? {
                let path = directory.join("modules").join(format!("{}.wasm", base.hex()));
                if !path.exists() {
                    write(&path, &runtime.store.get(&base)?)?;
                }
            }
            names.insert(*module, name);
        }
        for (input, given) in &task.run.inputs {
            let name = match task.from.get(input) {
                Some(InputFrom::Outside(variable)) => variable,
                None => input,
                Some(_) => continue,
            };
            let digest = given.artifact.digest;
            if !names.contains_key(&digest) {
                let name = name_of(&tasks.files, &digest, "inputs", name, &mut taken);
                let path = directory.join(&name);
                if given.artifact.is_directory() && path.exists() {
                    std::fs::remove_dir_all(&path).map_err(|e| Error::file("replace", &path, &e))?;
                }
                export(&runtime.store, &given.artifact, &path)?;
                names.insert(digest, name);
            }
        }
    }
    Ok(names)
}

/// What something is called: as the notebook's file for it, else as `default`, with a number if that is taken.
fn name_of(
    files: &BTreeMap<Digest, String>,
    digest: &Digest,
    part: &str,
    default: &str,
    taken: &mut BTreeSet<String>,
) -> String {
    let file = files.get(digest).and_then(|path| Path::new(path).file_name()?.to_str());
    let file = file.unwrap_or(default);
    let numbered = (2..).map(|n| format!("{part}/{n}-{file}"));
    let mut names = std::iter::once(format!("{part}/{file}")).chain(numbered);
    names.find(|name| taken.insert(name.clone())).unwrap_or_default()
}
