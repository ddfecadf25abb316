//! Conversion of a run's inputs to the guest's world, and of its outputs to artifacts.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Entry, Run, RunError, Runtime};
use crate::digest::{Digest, canonical_json};
use crate::sandbox::{Check, Large, Made, Node, Sink, Source, Storage, Stream, World};
use crate::step::{Artifact, GuestPath, MediaType};
use crate::store::{Content, LargeFile, Store, StoreError};

/// Maximum nesting depth of directories in an artifact, as in the guest's file system. Nodes are nested as deep on the stack.
const MAX_DEPTH: usize = 256;

impl Runtime {
    /// Returns the world of a run, with its inputs.
    pub(super) fn world<'a>(&self, run: &Run, log: &'a mut dyn FnMut(Stream, &[u8])) -> Result<World<'a>, RunError> {
        let mut files = BTreeMap::new();
        for (name, input) in &run.inputs {
            let at = input.at.clone().map_or_else(|| GuestPath::input(name), Ok)?;
            if files.insert(at.clone(), self.node(&input.artifact)?).is_some() {
                return Err(RunError::Overlap(at));
            }
        }
        let (mut args, mut env, mut stdin, mut stdout) = (vec!["module".to_owned()], BTreeMap::new(), Bytes::new(), None);
        match &run.entry {
            Entry::Step { name, parameters } => {
                args.push(name.clone());
                let json = canonical_json(parameters).map_err(RunError::Encode)?;
                files.insert(GuestPath::input("params.json")?, Node::File(json.into()));
            }
            Entry::Program {
                args: more,
                env: given,
                stdin: from,
                stdout: to,
            } => {
                args.extend(more.iter().cloned());
                env = given.clone();
                stdout = to.clone();
                if let Some(name) = from {
                    let input = run.inputs.get(name).ok_or_else(|| RunError::Stdin(name.clone()))?;
                    stdin = self.store.get(&input.artifact.digest)?;
                }
            }
        }
        let outputs = run.outputs.keys().cloned().collect();
        let storage = Arc::new(self.store.clone());
        Ok(World {
            args,
            env,
            stdin,
            files,
            seed: run.seed,
            outputs,
            stdout,
            caller: None,
            storage,
            log,
        })
    }

    /// Returns an artifact as a node of the guest's file system.
    pub(super) fn node(&self, artifact: &Artifact) -> Result<Node, RunError> {
        if !artifact.is_directory() {
            return Ok(match self.store.open_file(&artifact.digest)? {
                Content::Bytes(bytes) => Node::File(bytes),
                Content::Large(file) => Node::Large(Large(Arc::new(file))),
            });
        }
        let mut root = BTreeMap::new();
        for (path, file) in self.store.list_directory(artifact)? {
            if path.split('/').count() > MAX_DEPTH {
                let reason = format!("a file is in more than {MAX_DEPTH} nested directories");
                return Err(StoreError::Manifest {
                    digest: artifact.digest,
                    reason,
                }
                .into());
            }
            let path = GuestPath::try_from(format!("/{path}"))?;
            insert(&mut root, &path, self.node(&file)?)?;
        }
        Ok(Node::Directory(root))
    }

    /// Converts an output of a guest to an artifact.
    pub(super) fn artifact(&self, made: &Made, media_type: MediaType) -> Result<Artifact, RunError> {
        match made {
            Made::File { digest, size } => Ok(Artifact {
                digest: *digest,
                media_type,
                size: *size,
            }),
            Made::Directory(entries) => {
                let mut files = BTreeMap::new();
                flatten("", entries, &mut files);
                Ok(self.store.put_directory(&files)?)
            }
        }
    }
}

fn insert(root: &mut BTreeMap<String, Node>, path: &GuestPath, node: Node) -> Result<(), RunError> {
    let mut parts: Vec<&str> = path.parts().collect();
    let name = parts.pop().unwrap_or_default();
    let mut directory = root;
    for part in parts {
        match directory
            .entry(part.to_owned())
            .or_insert_with(|| Node::Directory(BTreeMap::new()))
        {
            Node::Directory(entries) => directory = entries,
            Node::File(_) | Node::Large(_) => return Err(RunError::Overlap(path.clone())),
        }
    }
    match directory.insert(name.to_owned(), node) {
        None => Ok(()),
        Some(_) => Err(RunError::Overlap(path.clone())),
    }
}

fn flatten(prefix: &str, entries: &BTreeMap<String, Made>, files: &mut BTreeMap<String, Artifact>) {
    for (name, made) in entries {
        let path = format!("{prefix}{name}");
        match made {
            Made::Directory(entries) => flatten(&format!("{path}/"), entries, files),
            Made::File { digest, size } => {
                let media_type = MediaType::of_path(path.as_ref());
                files.insert(
                    path,
                    Artifact {
                        digest: *digest,
                        media_type,
                        size: *size,
                    },
                );
            }
        }
    }
}

impl Storage for Store {
    fn create(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(self.staged_writer()?))
    }

    fn put(&self, bytes: Bytes) -> io::Result<Digest> {
        Store::put(self, bytes).map_err(io::Error::other)
    }
}

impl Source for LargeFile {
    fn len(&self) -> u64 {
        LargeFile::len(self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        LargeFile::read_at(self, offset, buf)
    }
}

impl Sink for crate::store::Writer {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset, data)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_at(offset, buffer)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn share(&mut self, check: &mut Check<'_>) -> io::Result<(Digest, u64)> {
        self.share(check).map_err(io::Error::other)
    }

    fn finish(self: Box<Self>, check: &mut Check<'_>) -> io::Result<(Digest, u64)> {
        (*self).finish_unless(check).map_err(io::Error::other)
    }
}
