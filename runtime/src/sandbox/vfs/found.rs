use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Vfs;
use super::errno::{Errno, Result};
use super::file::PIECE;
use super::tree::{Kind, MAX_DEPTH, MAX_WRITABLE, NodeId, ROOT};
use crate::sandbox::{Check, Large, Made, Storage};

/// A file or directory as it is stored: what a link points to takes the place of the link.
pub(crate) enum Found {
    File(NodeId),
    Directory(BTreeMap<Box<str>, Found>),
}

/// A walk through files and directories.
#[derive(Default)]
struct Walk {
    /// The path from where the walk began.
    path: String,
    /// The directories around.
    around: Vec<NodeId>,
    /// The number of links around.
    links: usize,
    /// The number of files and directories that were reached through links, and the size of their paths, in bytes.
    linked: usize,
    linked_bytes: u64,
}

/// The path of a link that points to nothing, or to a directory around it, or to too many files.
type BadLink = String;

impl Vfs {
    /// Returns the outputs in `/out`, and the size of all paths of files in them, in bytes. Fails with the first name that is missing.
    pub(crate) fn outputs(&mut self, names: &BTreeSet<String>) -> std::result::Result<(BTreeMap<String, Found>, u64), String> {
        let (mut found, mut path_bytes) = (BTreeMap::new(), 0);
        for name in names {
            let target = self.tree.resolve(ROOT, ROOT, &format!("/out/{name}"), true);
            let id = target.and_then(|target| self.tree.find(&target)).ok().flatten();
            let id = id.ok_or_else(|| name.clone())?;
            let (output, bytes) = self.walk(id).map_err(|link| format!("{name}{link}"))?;
            path_bytes += bytes;
            found.insert(name.clone(), output);
        }
        Ok((found, path_bytes))
    }

    /// Returns what is at a node and below it, and the size of all paths of files that the guest created or linked, in bytes.
    pub(super) fn walk(&mut self, id: NodeId) -> std::result::Result<(Found, u64), BadLink> {
        let mut walk = Walk::default();
        let path_bytes = self.tree.path_bytes(id, 0);
        match self.visit(id, &mut walk) {
            Ok(found) => Ok((found, path_bytes + walk.linked_bytes)),
            Err(_) => Err(walk.path),
        }
    }

    fn visit(&mut self, id: NodeId, walk: &mut Walk) -> Result<Found> {
        if walk.links > 0 {
            walk.linked += 1;
            walk.linked_bytes += walk.path.len() as u64;
            if walk.linked > MAX_WRITABLE {
                return Err(Errno::NoSpace.into());
            }
        }
        match self.tree.kind(id) {
            Kind::Input(_) | Kind::Large(_) | Kind::File(_) => return Ok(Found::File(id)),
            Kind::Null | Kind::Free | Kind::Link(_) => return Err(Errno::Invalid.into()),
            Kind::Directory(_) if walk.around.len() > 2 * MAX_DEPTH || walk.around.contains(&id) => {
                return Err(Errno::Loop.into());
            }
            Kind::Directory(_) => {}
        }
        let mut found = BTreeMap::new();
        let before = walk.path.len();
        walk.around.push(id);
        for name in self.tree.names(id)? {
            walk.path = format!("{}/{name}", &walk.path[..before]);
            let child = self.tree.child(id, &name)?.ok_or(Errno::NoEntry)?;
            let entry = match self.tree.target(child).is_some() {
                false => self.visit(child, walk)?,
                true => {
                    let target = self.tree.resolve(ROOT, id, &name, true)?;
                    let target = self.tree.find(&target)?.ok_or(Errno::NoEntry)?;
                    walk.links += 1;
                    let entry = self.visit(target, walk)?;
                    walk.links -= 1;
                    entry
                }
            };
            found.insert(name, entry);
        }
        walk.around.pop();
        walk.path.truncate(before);
        Ok(Found::Directory(found))
    }

    /// Moves outputs to the storage.
    pub(crate) fn finish(
        mut self,
        found: BTreeMap<String, Found>,
        check: &mut Check<'_>,
    ) -> io::Result<BTreeMap<String, Made>> {
        let mut stored = BTreeMap::new();
        let found = found.into_iter();
        found
            .map(|(name, output)| Ok((name, self.store(output, &mut stored, check)?)))
            .collect()
    }

    /// Stores a file or directory; a file with several names, once.
    fn store(&mut self, found: Found, stored: &mut BTreeMap<NodeId, Made>, check: &mut Check<'_>) -> io::Result<Made> {
        check()?;
        let id = match found {
            Found::File(id) => id,
            Found::Directory(entries) => {
                let entries = entries.into_iter();
                let made = entries.map(|(name, entry)| Ok((name.into(), self.store(entry, stored, check)?)));
                return Ok(Made::Directory(made.collect::<io::Result<_>>()?));
            }
        };
        if let Some(made) = stored.get(&id) {
            return Ok(made.clone());
        }
        let made = match self.tree.take(id) {
            Kind::File(file) => file.finish(&*self.storage, check)?,
            Kind::Input(bytes) => {
                let size = bytes.len() as u64;
                let digest = self.storage.put(bytes)?;
                Made::File { digest, size }
            }
            Kind::Large(large) => copy(&large, &*self.storage, check)?,
            Kind::Directory(_) | Kind::Link(_) | Kind::Null | Kind::Free => return Err(io::ErrorKind::InvalidData.into()),
        };
        stored.insert(id, made.clone());
        Ok(made)
    }
}

/// Puts a copy of a large input into the storage.
fn copy(large: &Large, storage: &dyn Storage, check: &mut Check<'_>) -> io::Result<Made> {
    let mut copy = storage.create()?;
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    loop {
        match large.0.read_at(at, &mut buffer)? {
            0 => break,
            read => {
                copy.write_at(at, &buffer[..read])?;
                at += read as u64;
            }
        }
        check()?;
    }
    let (digest, size) = copy.finish(check)?;
    Ok(Made::File { digest, size })
}
