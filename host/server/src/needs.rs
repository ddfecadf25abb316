//! Checks a submission before it is queued: its modules and inputs must be in the user's store, and its limits within the quotas.

use std::sync::Arc;

use axum::http::StatusCode;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Plan, Source};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::step::{Artifact, OwnLimits, base, interfaces};
use lockstep_view::error::Error;
use lockstep_view::module::not_a_module;

use super::Server;
use super::answer::{Answer, Refusal};
use super::fair::Owner;
use super::namespace::{ModuleFacts, Namespace};

/// Checks that all artifacts of a directory exist.
pub fn check_directory(runtime: &Runtime, artifact: &Artifact) -> Answer<()> {
    if !artifact.is_directory() {
        return Ok(());
    }
    let files = runtime
        .store
        .list_directory(artifact)
        .map_err(|error| Refusal::bad(error.to_string()))?;
    files
        .iter()
        .try_for_each(|(path, file)| present(runtime, &format!("file `{path}`"), &file.digest))
}

/// Checks that the caller's own store has an artifact, even if another user's store has it.
pub fn present(runtime: &Runtime, what: &str, digest: &Digest) -> Answer<()> {
    if runtime.store.contains(digest)? {
        return Ok(());
    }
    let error = Error::user(format_args!("{what} is missing: {digest}"));
    let mut refusal = Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        error.hint(format_args!("upload it with PUT /api/v1/artifacts/{}", digest.hex())),
    );
    refusal.missing = Some(*digest);
    Err(refusal)
}

impl Namespace {
    /// Returns facts about a module. Fails unless this caller's store has the module and its base: the engine also knows modules of others.
    pub fn module(&self, runtime: &Runtime, what: &str, module: &Digest) -> Answer<Arc<ModuleFacts>> {
        present(runtime, what, module)?;
        let facts = match self.modules.get(module) {
            Some(facts) => facts,
            None => {
                let wasm = runtime.store.get(module)?;
                let interfaces = interfaces(&wasm).map_err(|error| not_a_module(&module.short(), &wasm, error))?;
                let base = base(&wasm).map_err(|error| Error::config(format_args!("module {}: {error}", module.short())))?;
                let facts = Arc::new(ModuleFacts { interfaces, base });
                self.modules.insert(*module, facts.clone());
                facts
            }
        };
        if let Some(base) = &facts.base {
            present(runtime, &format!("the base of {what}"), base)?;
        }
        Ok(facts)
    }
}

/// Checks that the caller's store has the modules and inputs of a plan.
pub fn check(namespace: &Namespace, runtime: &Runtime, plan: &Plan) -> Answer<()> {
    let has = |what: &str, task: &str, digest: &Digest| present(runtime, &format!("{what} of task `{task}`"), digest);
    let artifact = |what: &str, task: &str, artifact: &Artifact| {
        has(what, task, &artifact.digest)?;
        check_directory(runtime, artifact)
    };
    for task in plan.tasks() {
        let module = |digest| namespace.module(runtime, &format!("a module of task `{}`", task.name), digest);
        module(&task.run.module)?;
        task.run.modules.values().try_for_each(|digest| module(digest).map(drop))?;
        for input in task.run.inputs.values() {
            artifact("an input", &task.name, &input.artifact)?;
        }
        for wire in task.wires.values() {
            if let Source::Pinned(pinned) = &wire.from {
                artifact("an input", &task.name, pinned)?;
            }
        }
    }
    for (name, source) in &plan.outputs {
        if let Source::Pinned(pinned) = source {
            artifact("an output", name, pinned)?;
        }
    }
    Ok(())
}

/// Fails if a task asks for more memory than its user may have.
pub fn check_memory(server: &Server, owner: &Owner, plan: &Plan, limits: &OwnLimits) -> Answer<()> {
    let own = plan.tasks().iter().map(|task| &task.limits);
    own.chain([limits])
        .try_for_each(|limits| server.gate.check_memory(owner, limits))
}
