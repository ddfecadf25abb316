//! What a plan needs: its modules with their bases, its inputs with the files of directories, and, as far as they are wanted, the outputs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{BundleError, Expected};
use crate::digest::Digest;
use crate::pipeline::{Plan, Source, Task};
use crate::step::{self, Artifact, GuestPath, MediaType};

/// Directories within directories nest at most so deep: what mounts them goes down with them.
const DEPTH: usize = 64;
/// A directory has at most so many files, those of directories within it counted each time: a few lists could else stand for any number.
const FILES: u64 = 1 << 20;

/// What something in a bundle is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// It is run, or another module is based on it.
    Module,
    /// It is read.
    Input,
    /// It is what a task made or wrote.
    Output,
}

impl Role {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Something in a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What it is for.
    pub role: Role,
    /// What the plan calls it, for people; of several names the first.
    pub name: String,
    /// The artifact. The plan says nothing of a module's size; where the bundle does not either, it is 0.
    pub artifact: Artifact,
}

/// All that a plan needs, in order: what comes first gives a blob its name and media type.
#[derive(Default)]
pub(super) struct Reach {
    pub items: BTreeMap<Digest, Item>,
    /// The entries of directories.
    directories: BTreeMap<Digest, Vec<Artifact>>,
    open: Vec<Item>,
}

/// What `plan` needs. `read` gives the bytes of modules and directories; of what the tasks made that is taken which is `wanted`.
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

/// What the tasks made and wrote.
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
            role: Role::Output,
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
                role: Role::Input,
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
                role: Role::Input,
                name: name.to_owned(),
                artifact: artifact.clone(),
            });
        }
    }

    fn follow(&mut self, item: Item, read: &mut dyn FnMut(&Item) -> Result<Bytes, BundleError>) -> Result<(), BundleError> {
        let digest = item.artifact.digest;
        let is_list = item.artifact.is_directory() && !self.directories.contains_key(&digest);
        let known = self.items.get(&digest).map(|known| known.role);
        let is_new_module = item.role == Role::Module && known != Some(Role::Module);
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
            GuestPath::try_from(format!("/{path}")).map_err(|_| refused(format!("`{path}` is no path inside it")))?;
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

    /// How many files the directory has.
    fn count(&self, digest: &Digest, depth: usize, counts: &mut BTreeMap<(Digest, usize), u64>) -> Result<u64, BundleError> {
        if let Some(count) = counts.get(&(*digest, depth)) {
            return Ok(*count);
        }
        let refused = |reason: String| BundleError::Directory { digest: *digest, reason };
        if depth == 0 {
            return Err(refused(format!("directories nest more than {DEPTH} deep")));
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
            return Err(refused(format!("it has more than {FILES} files")));
        }
        counts.insert((*digest, depth), count);
        Ok(count)
    }

    /// The digests of all of it.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        self.items.keys().copied().collect()
    }
}

fn module(name: String, digest: Digest) -> Item {
    let media_type = MediaType::new(MediaType::MODULE);
    Item {
        role: Role::Module,
        name,
        artifact: Artifact {
            digest,
            media_type,
            size: 0,
        },
    }
}
