//! Steps that read 500 MB: bytes, compared with a copy of the same mapped bytes and with wasmtime-wasi's preopened directories; and
//! lines, compared with the same source compiled natively.

use std::fs::File;
use std::hint::black_box;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_sync};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::compute::rows;
use crate::measure::{Surroundings, Table, engine_error, execute, median};

const SIZE: usize = 500_000_000;
const PIECE: usize = 1 << 20;

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let inputs = surroundings.directory.path().join("in");
    std::fs::create_dir(&inputs)?;
    let input = inputs.join("input");
    std::fs::write(&input, (0..SIZE).map(|i| ((i * 31) >> 7) as u8).collect::<Vec<_>>())?;
    std::fs::write(inputs.join("params.json"), "{}")?;
    std::fs::create_dir(surroundings.directory.path().join("out"))?;

    let file = File::open(&input)?;
    // SAFETY: nobody writes to the file while this runs
    let map = unsafe { memmap2::Mmap::map(&file)? };
    let mut buffer = vec![0; PIECE];
    let copied = median(5, || {
        for piece in map.chunks(PIECE) {
            buffer[..piece.len()].copy_from_slice(piece);
            black_box(&mut buffer);
        }
        Ok(())
    })?;

    let runtime = surroundings.runtime("reading")?;
    let artifact = runtime.store.import(&input)?;
    let read = surroundings.step(&runtime.store, "read", Some(artifact), &[])?;
    let ours = median(5, || execute(&runtime, &read).map(drop))?;
    table.ratio(
        "a step reads 500 MB",
        ours,
        "memcpy from a map, 1 MiB at a time",
        copied,
        "<= 1.43",
    );

    let theirs = preopened(surroundings.directory.path(), &surroundings.module)?;
    table.ratio("a step reads 500 MB", ours, "wasmtime-wasi, preopened directory", theirs, "");
    lines(surroundings, table)
}

/// Measures reading the lines of a file in the page cache.
fn lines(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let text = surroundings.directory.path().join("lines.csv");
    std::fs::write(&text, rows(SIZE))?;
    let native = median(3, || {
        black_box(work::lines(BufReader::with_capacity(64 * 1024, File::open(&text)?))?);
        Ok(())
    })?;
    let runtime = surroundings.runtime("lines")?;
    let artifact = runtime.store.import(&text)?;
    let lines = surroundings.step(&runtime.store, "lines", Some(artifact), &[])?;
    let ours = median(3, || execute(&runtime, &lines).map(drop))?;
    table.ratio(
        "a step reads the lines of 500 MB",
        ours,
        "native, same source",
        native,
        "<= 1.5",
    );
    Ok(())
}

/// Measures the same module and step in wasmtime-wasi.
fn preopened(root: &Path, module: &[u8]) -> Result<std::time::Duration> {
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, module).map_err(engine_error)?;
    let mut linker: wasmtime::Linker<WasiP1Ctx> = wasmtime::Linker::new(&engine);
    add_to_linker_sync(&mut linker, |context| context).map_err(engine_error)?;
    let ready = linker.instantiate_pre(&module).map_err(engine_error)?;
    median(5, || {
        let mut context = WasiCtxBuilder::new();
        context
            .args(&["module", "read"])
            .inherit_stderr()
            .allow_blocking_current_thread(true);
        context.preopened_dir(root, "/", FsPerms::ReadWrite).map_err(engine_error)?;
        let mut store = wasmtime::Store::new(&engine, context.build_p1());
        let instance = ready.instantiate(&mut store).map_err(engine_error)?;
        let start = instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .map_err(engine_error)?;
        match start.call(&mut store, ()) {
            Ok(()) => Ok(()),
            Err(e) => {
                let exit = e
                    .downcast_ref::<wasmtime_wasi::I32Exit>()
                    .context("the step trapped in wasmtime-wasi")?;
                ensure!(exit.0 == 0, "the step failed in wasmtime-wasi");
                Ok(())
            }
        }
    })
}
