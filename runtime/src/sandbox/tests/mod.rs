//! Tests that run modules in the sandbox.

mod compile;
mod determinism;
mod hostile;
mod limits;
mod measure;
mod native_cache;
mod programs;
mod wasi;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::step::Limits;

/// A storage in memory.
#[derive(Clone, Default)]
pub(super) struct MemoryStorage {
    pub(super) kept: Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    /// Maximum size of a file; larger ones fail.
    pub(super) room: Option<usize>,
}

struct MemorySink {
    storage: MemoryStorage,
    bytes: Vec<u8>,
}

impl Storage for MemoryStorage {
    fn create(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(MemorySink {
            storage: self.clone(),
            bytes: Vec::new(),
        }))
    }

    fn put(&self, bytes: Bytes) -> io::Result<Digest> {
        let mut sink = self.create()?;
        sink.write_at(0, &bytes)?;
        Ok(sink.finish(&mut || Ok(()))?.0)
    }
}

impl Sink for MemorySink {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (start, end) = (offset as usize, offset as usize + data.len());
        if self.storage.room.is_some_and(|room| end > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[start..end].copy_from_slice(data);
        Ok(())
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        // short reads, like those of disks
        let read = rest.len().min(buf.len()).min(1000);
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn share(&mut self, check: &mut Check<'_>) -> io::Result<(Digest, u64)> {
        check()?;
        let digest = Digest::of(&self.bytes);
        self.storage.kept.lock().unwrap().insert(digest, self.bytes.clone());
        Ok((digest, self.bytes.len() as u64))
    }

    fn finish(mut self: Box<Self>, check: &mut Check<'_>) -> io::Result<(Digest, u64)> {
        self.share(check)
    }
}

/// An empty world.
fn world<'a>(storage: &MemoryStorage, log: &'a mut dyn FnMut(Stream, &[u8])) -> World<'a> {
    World {
        args: vec!["module".to_owned()],
        env: BTreeMap::new(),
        stdin: Bytes::new(),
        files: BTreeMap::new(),
        seed: 0,
        outputs: BTreeSet::new(),
        stdout: None,
        caller: None,
        storage: Arc::new(storage.clone()),
        log,
    }
}

fn engine(target: Target, optimise: bool) -> Engine {
    Engine::new(&EngineOptions {
        target,
        optimise,
        ..EngineOptions::default()
    })
    .unwrap()
}

fn load(engine: &Engine, wat: &str) -> Module {
    let wasm = wat::parse_str(wat).unwrap();
    engine.load(&wasm, &Digest::of(&wasm)).unwrap()
}

/// A program with some imports of preview 1.
fn program(body: &str) -> String {
    const IMPORTS: &[(&str, &str)] = &[
        ("args_get", "i32 i32"),
        ("clock_time_get", "i32 i64 i32"),
        ("fd_close", "i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_filestat_get", "i32 i32"),
        ("fd_filestat_set_size", "i32 i64"),
        ("fd_pread", "i32 i32 i32 i64 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_renumber", "i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
        ("random_get", "i32 i32"),
    ];
    let imports = IMPORTS.iter().map(|(name, parameters)| {
        format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {parameters}) (result i32)))\n")
    });
    let exit = "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))";
    let imports: String = imports.collect();
    format!("(module\n{imports}{exit}\n{body})")
}

/// The functions of preview 1 that return an error number, with their parameters, as in wasi_snapshot_preview1.witx: `i` for i32, `l`
/// for i64.
const FUNCTIONS: &str = "args_get ii, args_sizes_get ii, environ_get ii, environ_sizes_get ii, clock_res_get ii, \
    clock_time_get ili, fd_advise illi, fd_allocate ill, fd_close i, fd_datasync i, fd_fdstat_get ii, \
    fd_fdstat_set_flags ii, fd_fdstat_set_rights ill, fd_filestat_get ii, fd_filestat_set_size il, \
    fd_filestat_set_times illi, fd_pread iiili, fd_prestat_get ii, fd_prestat_dir_name iii, fd_pwrite iiili, \
    fd_read iiii, fd_readdir iiili, fd_renumber ii, fd_seek ilii, fd_sync i, fd_tell ii, fd_write iiii, \
    path_create_directory iii, path_filestat_get iiiii, path_filestat_set_times iiiilli, path_link iiiiiii, \
    path_open iiiiillii, path_readlink iiiiii, path_remove_directory iii, path_rename iiiiii, path_symlink iiiii, \
    path_unlink_file iii, poll_oneoff iiii, proc_raise i, sched_yield , random_get ii, sock_accept iii, \
    sock_recv iiiiii, sock_send iiiii, sock_shutdown ii";

/// Returns the names and parameters of [`FUNCTIONS`].
fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    FUNCTIONS.split(", ").filter_map(|function| function.split_once(' '))
}

/// Returns the types of parameters.
fn types(parameters: &str) -> String {
    parameters.replace('i', " i32").replace('l', " i64")
}

/// A program with one page of memory and this `_start`.
fn start(body: &str) -> String {
    program(&format!("(memory (export \"memory\") 1) (func (export \"_start\") {body})"))
}

/// A program that writes a text to stdout or stderr, and then executes `then`.
fn says(fd: u32, text: &str, then: &str) -> String {
    let len = text.len();
    program(&format!(
        "(memory (export \"memory\") 1)
         (data (i32.const 1024) {text:?})
         (func (export \"_start\")
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const {len}))
            (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))
            {then})"
    ))
}

/// Runs a module in an empty world. Returns the result and the log.
fn run(module: &Module, limits: &Limits) -> (Finished, String) {
    let mut text = Vec::new();
    let mut log = |_, bytes: &[u8]| text.extend_from_slice(bytes);
    let finished = module
        .run(world(&MemoryStorage::default(), &mut log), limits, &Interrupt::default())
        .unwrap();
    (finished, String::from_utf8_lossy(&text).into_owned())
}
