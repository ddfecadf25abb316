//! Modules run in the sandbox.

mod programs;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::step::Limits;

/// Keeps what is finished in memory.
#[derive(Clone, Default)]
pub(super) struct MemoryStorage {
    pub(super) kept: Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    /// Fails once the sinks hold more than this.
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
        // Short reads, as disks may give.
        let read = rest.len().min(buf.len()).min(1000);
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<(Digest, u64)> {
        let digest = Digest::of(&self.bytes);
        let size = self.bytes.len() as u64;
        self.storage.kept.lock().unwrap().insert(digest, self.bytes);
        Ok((digest, size))
    }
}

/// A world without anything in it.
fn world<'a>(storage: &MemoryStorage, log: &'a mut dyn FnMut(Stream, &[u8])) -> World<'a> {
    World {
        args: vec!["module".to_owned()],
        env: BTreeMap::new(),
        stdin: Bytes::new(),
        files: BTreeMap::new(),
        seed: 0,
        outputs: BTreeSet::new(),
        stdout: None,
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

/// Runs a module in an empty world; gives what it came to and what it logged.
fn run(module: &Module, limits: &Limits) -> (Finished, String) {
    let mut text = Vec::new();
    let mut log = |_, bytes: &[u8]| text.extend_from_slice(bytes);
    let finished = module
        .run(world(&MemoryStorage::default(), &mut log), limits, &Interrupt::default())
        .unwrap();
    (finished, String::from_utf8_lossy(&text).into_owned())
}
