//! External inputs of runs and plans, which another machine needs to execute them.

use std::collections::BTreeMap;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Plan, Source};
use lockstep_runtime::run::Run;
use lockstep_runtime::step::{Artifact, MediaType, base};
use lockstep_runtime::store::Store;

use crate::error::{Error, Result};

/// Required artifacts: media types by digest.
pub type Needs = BTreeMap<Digest, MediaType>;

/// Returns everything that a run reads.
pub fn needs_of_run(store: &Store, run: &Run) -> Result<Needs> {
    let mut needs = Needs::new();
    add_run(store, run, &mut needs)?;
    Ok(needs)
}

/// Returns everything that a plan reads from outside.
pub fn needs_of_plan(store: &Store, plan: &Plan) -> Result<Needs> {
    let mut needs = Needs::new();
    for task in plan.tasks() {
        add_run(store, &task.run, &mut needs)?;
        task.wires
            .values()
            .try_for_each(|wire| add_source(store, &wire.from, &mut needs))?;
    }
    plan.outputs
        .values()
        .try_for_each(|source| add_source(store, source, &mut needs))?;
    Ok(needs)
}

fn add_source(store: &Store, source: &Source, needs: &mut Needs) -> Result<()> {
    match source {
        Source::Pinned(artifact) => add(store, artifact, needs),
        _ => Ok(()),
    }
}

fn add_run(store: &Store, run: &Run, needs: &mut Needs) -> Result<()> {
    for module in std::iter::once(&run.module).chain(run.modules.values()) {
        add_module(store, module, needs)?;
    }
    run.inputs.values().try_for_each(|input| add(store, &input.artifact, needs))
}

/// Adds a module and its base. Skips the base if the module is not in this store.
fn add_module(store: &Store, module: &Digest, needs: &mut Needs) -> Result<()> {
    if needs.insert(*module, MediaType::new(MediaType::MODULE)).is_some() || !store.contains(module)? {
        return Ok(());
    }
    let on = base(&store.get(module)?).map_err(|e| Error::config(format_args!("module {}: {e}", module.short())))?;
    on.map_or(Ok(()), |on| add_module(store, &on, needs))
}

fn add(store: &Store, artifact: &Artifact, needs: &mut Needs) -> Result<()> {
    needs.insert(artifact.digest, artifact.media_type.clone());
    if artifact.is_directory() && store.contains(&artifact.digest)? {
        for file in store.list_directory(artifact)?.values() {
            needs.insert(file.digest, file.media_type.clone());
        }
    }
    Ok(())
}
