//! The overhead of a run.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Reuse, Run};
use lockstep_runtime::sandbox::{Engine, EngineOptions, Interrupt, World};
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Durability;
use std::sync::Arc;

use crate::measure::{Surroundings, TRIVIAL, Table, engine_error, execute, median};

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let trivial = wat::parse_str(TRIVIAL)?;
    let bare = bare(&trivial)?;
    let process = median(300, || {
        Command::new("/bin/true").status()?;
        Ok(())
    })?;

    let runtime = surroundings.runtime("latency")?;
    let digest = Digest::of(&trivial);
    let module = Engine::new(&EngineOptions::default())?.load(&trivial, &digest)?;
    let sandbox = median(2000, || {
        let world = World {
            args: vec!["module".into()],
            env: BTreeMap::new(),
            stdin: Default::default(),
            files: BTreeMap::new(),
            seed: 0,
            outputs: Default::default(),
            stdout: None,
            caller: None,
            storage: Arc::new(runtime.store.clone()),
            log: &mut |_, _| (),
        };
        module.run(world, &Limits::default(), &Interrupt::default())?;
        Ok(())
    })?;
    table.ratio(
        "sandbox part of a trivial run",
        sandbox,
        "bare wasmtime instantiate and call",
        bare,
        "<= 2",
    );

    let trivial_run = |seed| -> Result<Run> {
        Ok(Run {
            module: runtime.store.put(trivial.clone())?,
            entry: Entry::Program {
                args: vec![],
                env: BTreeMap::new(),
                stdin: None,
                stdout: None,
            },
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            modules: BTreeMap::new(),
            seed,
        })
    };
    // every run has a different seed, so that each writes a new record
    let mut seed = 0;
    let whole = median(1000, || {
        seed += 1;
        execute(&runtime, &trivial_run(seed)?).map(drop)
    })?;
    table.ratio(
        "warm trivial run with record and store",
        whole,
        "fork+exec of /bin/true",
        process,
        "< 1 ms",
    );

    for (name, durability) in Durability::NAMES {
        let mut lasting = runtime.clone();
        lasting.store = lasting.store.lasting(durability)?;
        let whole = median(200, || {
            seed += 1;
            execute(&lasting, &trivial_run(seed)?).map(drop)
        })?;
        table.time(&format!("the same with durability {name}"), whole, "");
    }

    let nothing = surroundings.step(&runtime.store, "nothing", None, &[])?;
    let step = median(1000, || {
        seed += 1;
        execute(&runtime, &Run { seed, ..nothing.clone() }).map(drop)
    })?;
    table.ratio(
        "the same, a #[step] built with the SDK",
        step,
        "fork+exec of /bin/true",
        process,
        "",
    );

    let known = trivial_run(0)?;
    execute(&runtime, &known)?;
    let cached = median(2000, || {
        let ran = runtime.run(
            &known,
            Reuse::Records,
            &Limits::default(),
            &Interrupt::default(),
            &mut |_, _| (),
        )?;
        anyhow::ensure!(ran.cached, "not found in the cache");
        Ok(())
    })?;
    table.time("cached run", cached, "< 200 us");
    Ok(())
}

/// Measures wasmtime alone: a store, an instance, the call.
fn bare(module: &[u8]) -> Result<std::time::Duration> {
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, module).map_err(engine_error)?;
    let linker: wasmtime::Linker<()> = wasmtime::Linker::new(&engine);
    let ready = linker.instantiate_pre(&module).map_err(engine_error)?;
    median(2000, || {
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = ready.instantiate(&mut store).map_err(engine_error)?;
        let start = instance.get_func(&mut store, "_start").context("no _start")?;
        start.call(&mut store, &[], &mut []).map_err(engine_error)
    })
}
