//! The blobs that a plan needs: its modules with their bases, its inputs with the files of directories and, optionally, the outputs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{BundleError, Expected};
use crate::digest::Digest;
use crate::pipeline::{Plan, Source, Task};
use crate::step::{self, Artifact, GuestPath, MediaType};

/// Maximum nesting depth of directories. Mounting them is recursive.
const DEPTH: usize = 64;
/// Maximum number of files in a directory. Files of a nested directory count each time it appears: otherwise a few lists could stand
/// for any number of files.
const FILES: u64 = 1 << 20;

/// The role of a blob in a bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BlobRole {
    /// A module that is run, or the base of one.
    Module,
    /// An input of a task.
    Input,
    /// An output or log of a task.
    Output,
}

impl BlobRole {
    /// Returns `module`, `input` or `output`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// A blob in a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its role.
    pub role: BlobRole,
    /// Its name in the plan, for display. If there are several, the first.
    pub name: String,
    /// The artifact. The size of a module is 0 if the bundle does not declare it; plans do not.
    pub artifact: Artifact,
}

/// Everything that a plan needs. The first use of a blob determines its name and media type.
#[derive(Default)]
pub(super) struct Reach {
    pub items: BTreeMap<Digest, Item>,
    /// The entries of directories, by digest.
    directories: BTreeMap<Digest, Vec<Artifact>>,
    open: Vec<Item>,
}

/// Returns everything that `plan` needs, and the outputs and logs that are `wanted`. `read` returns the bytes of modules and directories.
pub(super) fn reach(
    plan: &Plan,
    expected: &Expected,
    wanted: &dyn Fn(&Digest) -> bool,
    read: &mut dyn FnMut(&Item) -> Result<Bytes, BundleError>,
) -> Result<Reach, BundleError> {
    let mut reach = Reach::default();
    for task in plan.tasks() {
        reach.add_task(task);
    }
    for (name, source) in &plan.outputs {
        reach.add_source(name, source);
    }
    for item in made(expected)?.into_iter().filter(|item| wanted(&item.artifact.digest)) {
        reach.open.push(item);
    }
    reach.open.reverse();
    while let Some(item) = reach.open.pop() {
        reach.follow(item, read)?;
    }
    reach.check_directories()?;
    Ok(reach)
}

/// Returns the outputs and logs of the tasks.
fn made(expected: &Expected) -> Result<Vec<Item>, BundleError> {
    let records = expected.records()?;
    let mut items = Vec::new();
    for expectation in &expected.tasks {
        let Some(record) = expectation.record.and_then(|digest| records.get(&digest).copied()) else {
            continue;
        };
        let log = record.log.iter().map(|artifact| ("(log)", artifact));
        let outputs = record.outputs.iter().map(|(name, artifact)| (name.as_str(), artifact));
        items.extend(outputs.chain(log).map(|(name, artifact)| Item {
            role: BlobRole::Output,
            name: format!("{}.{name}", expectation.task),
            artifact: artifact.clone(),
        }));
    }
    Ok(items)
}

impl Reach {
    fn add_task(&mut self, task: &Task) {
        let called = task.run.modules.iter().map(|(name, digest)| (name.clone(), digest));
        for (name, digest) in std::iter::once((task.name.clone(), &task.run.module)).chain(called) {
            self.open.push(module(name, *digest));
        }
        for (name, input) in &task.run.inputs {
            let own = || format!("{}.{name}", task.name);
            self.open.push(Item {
                role: BlobRole::Input,
                name: task.files.get(name).cloned().unwrap_or_else(own),
                artifact: input.artifact.clone(),
            });
        }
        for (name, wire) in &task.wires {
            self.add_source(&format!("{}.{name}", task.name), &wire.from);
        }
    }

    fn add_source(&mut self, name: &str, source: &Source) {
        if let Source::Pinned(artifact) = source {
            self.open.push(Item {
                role: BlobRole::Input,
                name: name.to_owned(),
                artifact: artifact.clone(),
            });
        }
    }

    fn follow(&mut self, item: Item, read: &mut dyn FnMut(&Item) -> Result<Bytes, BundleError>) -> Result<(), BundleError> {
        let digest = item.artifact.digest;
        let is_list = item.artifact.is_directory() && !self.directories.contains_key(&digest);
        let known = self.items.get(&digest).map(|known| known.role);
        let is_new_module = item.role == BlobRole::Module && known != Some(BlobRole::Module);
        if known.is_none() {
            self.items.insert(digest, item.clone());
        }
        if is_new_module {
            let bytes = read(&item)?;
            let base = step::base(&bytes).map_err(|source| BundleError::Module { digest, source })?;
            self.open
                .extend(base.map(|base| module(format!("base of {}", item.name), base)));
        }
        if is_list {
            self.add_entries(&item, &read(&item)?)?;
        }
        Ok(())
    }

    fn add_entries(&mut self, directory: &Item, list: &[u8]) -> Result<(), BundleError> {
        let digest = directory.artifact.digest;
        let refused = |reason: String| BundleError::Directory { digest, reason };
        let entries: BTreeMap<String, Artifact> = serde_json::from_slice(list).map_err(|e| refused(e.to_string()))?;
        for path in entries.keys() {
            GuestPath::try_from(format!("/{path}")).map_err(|_| refused(format!("invalid path `{path}`")))?;
        }
        self.open.extend(entries.iter().rev().map(|(path, artifact)| Item {
            role: directory.role,
            name: format!("{}/{path}", directory.name),
            artifact: artifact.clone(),
        }));
        self.directories.insert(digest, entries.into_values().collect());
        Ok(())
    }

    fn check_directories(&self) -> Result<(), BundleError> {
        let mut counts = BTreeMap::new();
        for digest in self.directories.keys() {
            self.count(digest, DEPTH, &mut counts)?;
        }
        Ok(())
    }

    /// Returns the number of files in the directory.
    fn count(&self, digest: &Digest, depth: usize, counts: &mut BTreeMap<(Digest, usize), u64>) -> Result<u64, BundleError> {
        if let Some(count) = counts.get(&(*digest, depth)) {
            return Ok(*count);
        }
        let refused = |reason: String| BundleError::Directory { digest: *digest, reason };
        if depth == 0 {
            return Err(refused(format!("nested more than {DEPTH} levels deep")));
        }
        let mut count = 0u64;
        for entry in self.directories.get(digest).into_iter().flatten() {
            let files = match entry.is_directory() {
                true => self.count(&entry.digest, depth - 1, counts)?,
                false => 1,
            };
            count = count.saturating_add(files);
        }
        if count > FILES {
            return Err(refused(format!("more than {FILES} files")));
        }
        counts.insert((*digest, depth), count);
        Ok(count)
    }

    /// Returns the digests of all items.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        self.items.keys().copied().collect()
    }
}

fn module(name: String, digest: Digest) -> Item {
    let media_type = MediaType::new(MediaType::MODULE);
    Item {
        role: BlobRole::Module,
        name,
        artifact: Artifact {
            digest,
            media_type,
            size: 0,
        },
    }
}
