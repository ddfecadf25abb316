use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::sandbox::{Large, Node, WorldError};
use crate::step::GuestPath;

use super::PATH;
use super::errno::{Errno, Result};
use super::file::{File, Space};

/// A node of the tree. The guest's inode number is this plus one.
pub(crate) type NodeId = usize;

pub(super) const ROOT: NodeId = 0;

/// Maximum number of files and directories that the guest can create. Each costs the host some memory, even if it is empty.
pub(super) const MAX_WRITABLE: usize = 1 << 16;
/// Maximum nesting depth of directories, so that walking a tree needs little stack.
pub(super) const MAX_DEPTH: usize = 256;
/// Maximum number of symbolic links that are followed in a path, as in Linux.
const MAX_LINKS: usize = 40;
/// Maximum length of a name (like `NAME_MAX` of Linux) and of a path (`PATH_MAX`), in bytes.
pub(crate) const MAX_NAME: usize = 255;
pub(crate) const MAX_PATH: usize = 4096;

/// The memory of a node, and of an entry of a directory beside its name, in bytes.
const SIZE_OF_NODE: u64 = 512;
const SIZE_OF_ENTRY: u64 = 64;
/// Maximum memory of a mounted file. Larger ones are mapped, which also has a price.
const SIZE_OF_MAPPED: u64 = 128 << 10;

/// All nodes that the guest has accessed. Inputs below them are added when they are first looked up, so a large input directory costs
/// nothing for files that are never opened.
pub(super) struct Tree {
    nodes: Vec<Slot>,
    free: Vec<NodeId>,
    writable: usize,
    /// The memory of entries of writable directories, of targets of links and of answers, in bytes.
    names: u64,
    /// The work of following links.
    pub(super) work: u64,
}

struct Slot {
    kind: Kind,
    /// The number of names that it has in directories.
    links: u32,
    /// The times of the last access and of the last change, as the guest has set them, in nanoseconds since the Unix epoch.
    times: [u64; 2],
    /// Number of file descriptors that refer to it.
    open: usize,
}

pub(super) enum Kind {
    Input(Bytes),
    Large(Large),
    File(File),
    Directory(Directory),
    /// A symbolic link: the path that it points to, relative to its directory.
    Link(Box<str>),
    Null,
    Free,
}

pub(super) struct Directory {
    entries: BTreeMap<Box<str>, Entry>,
    parent: NodeId,
    writable: bool,
}

enum Entry {
    Known(NodeId),
    Input(Node),
}

/// The target of a path.
pub(super) enum Target {
    /// A name in a directory, which may not exist.
    Name {
        parent: NodeId,
        name: Box<str>,
        /// Whether the path ends in a slash.
        directory: bool,
    },
    /// A directory, reached by `.`, `..` or `/`.
    Directory(NodeId),
}

impl Tree {
    /// Creates `/` with `/in`, `/out`, `/tmp`, `/dev/null` and the inputs.
    pub(super) fn new(files: BTreeMap<GuestPath, Node>) -> std::result::Result<Self, WorldError> {
        let mut tree = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            writable: 0,
            names: 0,
            work: 0,
        };
        tree.insert(Kind::directory(ROOT, false));
        let dev = tree.add(ROOT, "dev", Kind::directory(ROOT, false));
        tree.add(dev, "null", Kind::Null);
        tree.add(ROOT, "in", Kind::directory(ROOT, false));
        tree.add(ROOT, "out", Kind::directory(ROOT, true));
        tree.add(ROOT, "tmp", Kind::directory(ROOT, true));
        for (path, node) in files {
            if let Some(own @ ("call" | "dev" | "out" | "tmp")) = path.parts().next() {
                let own = own.to_owned();
                return Err(WorldError::Reserved { path: path.clone(), own });
            }
            tree.mount(path, node)?;
        }
        Ok(tree)
    }

    /// Mounts a read-only node at an unused path.
    pub(super) fn mount(&mut self, path: GuestPath, node: Node) -> std::result::Result<(), WorldError> {
        let overlap = || WorldError::Overlap { path: path.clone() };
        let mut at = ROOT;
        let mut parts = path.parts().peekable();
        while let Some(part) = parts.next() {
            // an error means that a part of the path is a file
            let known = self.child(at, part).map_err(|_| overlap())?;
            at = match (known, parts.peek()) {
                (Some(_), None) => return Err(overlap()),
                (Some(known), Some(_)) => known,
                (None, Some(_)) => self.add(at, part, Kind::directory(at, false)),
                (None, None) => {
                    self.link(at, part, Entry::Input(node));
                    return Ok(());
                }
            };
        }
        Ok(())
    }

    /// Mounts a read-only node that the guest has caused.
    pub(super) fn mount_answer(&mut self, path: GuestPath, node: Node) -> std::result::Result<(), WorldError> {
        let size = SIZE_OF_ENTRY + path.as_str().len() as u64 + size(&node);
        self.mount(path, node)?;
        self.names += size;
        Ok(())
    }

    /// Returns the memory of everything that the guest created, apart from the content of its files, in bytes.
    pub(super) fn held(&self) -> u64 {
        self.names + SIZE_OF_NODE * self.written()
    }

    /// Returns the number of files and directories that the guest created.
    pub(super) fn written(&self) -> u64 {
        self.writable as u64
    }

    /// Returns the size of all paths of files that the guest created below a node with a path of `path` bytes.
    pub(super) fn path_bytes(&self, id: NodeId, path: u64) -> u64 {
        let Kind::Directory(directory) = self.kind(id) else {
            return path;
        };
        let entries = directory.entries.iter().map(|(name, entry)| match entry {
            Entry::Known(child) => self.path_bytes(*child, path + 1 + name.len() as u64),
            Entry::Input(_) => 0,
        });
        entries.sum()
    }

    fn insert(&mut self, kind: Kind) -> NodeId {
        self.writable += usize::from(kind.is_writable());
        let slot = Slot {
            kind,
            links: 1,
            times: [0; 2],
            open: 0,
        };
        match self.free.pop() {
            Some(id) => {
                self.nodes[id] = slot;
                id
            }
            None => {
                self.nodes.push(slot);
                self.nodes.len() - 1
            }
        }
    }

    /// Adds a node without a name. It is removed when it is closed.
    pub(super) fn orphan(&mut self, kind: Kind) -> NodeId {
        let id = self.insert(kind);
        self.nodes[id].links = 0;
        id
    }

    fn add(&mut self, parent: NodeId, name: &str, kind: Kind) -> NodeId {
        let id = self.insert(kind);
        self.link(parent, name, Entry::Known(id));
        id
    }

    fn link(&mut self, parent: NodeId, name: &str, entry: Entry) {
        if let Kind::Directory(directory) = &mut self.nodes[parent].kind
            && directory.entries.insert(name.into(), entry).is_none()
            && directory.writable
        {
            self.names += SIZE_OF_ENTRY + name.len() as u64;
        }
    }

    /// Removes a name from a writable directory.
    fn unname(&mut self, parent: NodeId, name: &str) -> Result<Option<Entry>> {
        let removed = self.directory_mut(parent)?.entries.remove(name);
        if removed.is_some() {
            self.names -= SIZE_OF_ENTRY + name.len() as u64;
        }
        Ok(removed)
    }

    pub(super) fn kind(&self, id: NodeId) -> &Kind {
        &self.nodes[id].kind
    }

    pub(super) fn kind_mut(&mut self, id: NodeId) -> &mut Kind {
        &mut self.nodes[id].kind
    }

    fn directory(&self, id: NodeId) -> Result<&Directory> {
        match self.kind(id) {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::NotDirectory.into()),
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> Result<&mut Directory> {
        match self.kind_mut(id) {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::NotDirectory.into()),
        }
    }

    /// Resolves `path` relative to the directory `from`. Follows symbolic links, and with `follow` also one that is the whole path.
    /// A path that leaves `base` is not permitted; `..` of `/` is `/`.
    pub(super) fn resolve(&mut self, base: NodeId, from: NodeId, path: &str, follow: bool) -> Result<Target> {
        if path.is_empty() {
            return Err(Errno::NoEntry.into());
        }
        if path.len() > MAX_PATH {
            return Err(Errno::NameTooLong.into());
        }
        if path.contains('\0') {
            return Err(Errno::IllegalBytes.into());
        }
        let mut at = if path.starts_with('/') { ROOT } else { from };
        let (mut path, mut done, mut links) = (Cow::Borrowed(path), 0, 0);
        loop {
            let rest = path[done..].trim_start_matches('/');
            let (part, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let is_last = after.trim_start_matches('/').is_empty();
            let next = match part {
                "" | "." => at,
                ".." if at == base && base != ROOT => return Err(Errno::NotPermitted.into()),
                ".." => self.directory(at)?.parent,
                name if is_last && name.len() > MAX_NAME => return Err(Errno::NameTooLong.into()),
                name => {
                    let found = self.child(at, name)?;
                    if (follow || !is_last)
                        && let Some(target) = found.and_then(|id| self.target(id))
                    {
                        let expanded = format!("{target}{after}");
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::Loop.into());
                        }
                        if expanded.len() > MAX_PATH {
                            return Err(Errno::NameTooLong.into());
                        }
                        self.work += PATH + 10 * expanded.len() as u64;
                        (path, done) = (expanded.into(), 0);
                        continue;
                    }
                    if is_last {
                        return Ok(Target::Name {
                            parent: at,
                            name: name.into(),
                            directory: !after.is_empty(),
                        });
                    }
                    found.ok_or(Errno::NoEntry)?
                }
            };
            self.directory(next)?;
            if is_last {
                return Ok(Target::Directory(next));
            }
            at = next;
            done = path.len() - after.len();
        }
    }

    /// Returns the path that a symbolic link points to.
    pub(super) fn target(&self, id: NodeId) -> Option<&str> {
        match self.kind(id) {
            Kind::Link(target) => Some(target),
            _ => None,
        }
    }

    /// Returns the names in a directory.
    pub(super) fn names(&self, id: NodeId) -> Result<Vec<Box<str>>> {
        Ok(self.directory(id)?.entries.keys().cloned().collect())
    }

    /// Returns the node with this name in a directory.
    pub(super) fn child(&mut self, parent: NodeId, name: &str) -> Result<Option<NodeId>> {
        let taken = match self.directory_mut(parent)?.entries.get_mut(name) {
            None => return Ok(None),
            Some(Entry::Known(id)) => return Ok(Some(*id)),
            Some(Entry::Input(node)) => std::mem::replace(node, Node::Directory(BTreeMap::new())),
        };
        let id = self.take_in(parent, taken);
        self.link(parent, name, Entry::Known(id));
        Ok(Some(id))
    }

    fn take_in(&mut self, parent: NodeId, node: Node) -> NodeId {
        self.insert(match node {
            Node::File(bytes) => Kind::Input(bytes),
            Node::Large(large) => Kind::Large(large),
            Node::Directory(entries) => Kind::Directory(Directory {
                entries: entries
                    .into_iter()
                    .map(|(name, node)| (name.into(), Entry::Input(node)))
                    .collect(),
                parent,
                writable: false,
            }),
        })
    }

    /// Returns the node of a target, if it exists.
    pub(super) fn find(&mut self, target: &Target) -> Result<Option<NodeId>> {
        match target {
            Target::Directory(id) => Ok(Some(*id)),
            Target::Name { parent, name, directory } => {
                let found = self.child(*parent, name)?;
                if let (Some(id), true) = (found, *directory) {
                    self.directory(id)?;
                }
                Ok(found)
            }
        }
    }

    /// Creates a file, directory or symbolic link. The name must be unused.
    pub(super) fn create(&mut self, parent: NodeId, name: &str, kind: Kind) -> Result<NodeId> {
        self.check_new(parent)?;
        if let Kind::Link(target) = &kind {
            self.names += target.len() as u64;
        }
        Ok(self.add(parent, name, kind))
    }

    /// Gives a file or symbolic link another name, which must be unused.
    pub(super) fn hard_link(&mut self, id: NodeId, parent: NodeId, name: &str) -> Result<()> {
        if let Kind::Directory(_) = self.kind(id) {
            return Err(Errno::NotPermitted.into());
        }
        self.check_new(parent)?;
        // inputs and devices are not part of the writable file system
        if !self.is_writable(id) {
            return Err(Errno::CrossDevice.into());
        }
        self.nodes[id].links += 1;
        self.writable += 1;
        self.link(parent, name, Entry::Known(id));
        Ok(())
    }

    /// Checks that a directory can have a new name.
    fn check_new(&self, parent: NodeId) -> Result<()> {
        if !self.directory(parent)?.writable {
            return Err(Errno::ReadOnly.into());
        }
        if self.nodes[parent].links == 0 {
            return Err(Errno::NoEntry.into());
        }
        if self.writable >= MAX_WRITABLE {
            return Err(Errno::NoSpace.into());
        }
        if self.depth(parent) >= MAX_DEPTH {
            return Err(Errno::NameTooLong.into());
        }
        Ok(())
    }

    /// Removes a name from its directory. The node remains while it is open.
    pub(super) fn unlink(&mut self, parent: NodeId, name: &str, space: &mut Space) -> Result<()> {
        if !self.directory(parent)?.writable {
            return Err(Errno::ReadOnly.into());
        }
        if let Some(Entry::Known(id)) = self.unname(parent, name)? {
            self.nodes[id].links -= 1;
            self.writable -= usize::from(self.nodes[id].links > 0);
            if let Kind::Directory(removed) = self.kind_mut(id) {
                // its parent may be removed before it
                removed.parent = ROOT;
            }
            self.collect(id, space);
        }
        Ok(())
    }

    /// Renames a node. Replaces a node with the new name, if POSIX allows it.
    pub(super) fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str), space: &mut Space) -> Result<()> {
        let moved = self.child(from.0, from.1)?.ok_or(Errno::NoEntry)?;
        let replaced = self.child(to.0, to.1)?;
        if !self.directory(from.0)?.writable || !self.directory(to.0)?.writable {
            return Err(Errno::ReadOnly.into());
        }
        if self.nodes[to.0].links == 0 {
            return Err(Errno::NoEntry.into());
        }
        if replaced == Some(moved) {
            return Ok(());
        }
        let is_directory = matches!(self.kind(moved), Kind::Directory(_));
        if is_directory {
            if self.ancestors(to.0).any(|id| id == moved) {
                return Err(Errno::Invalid.into());
            }
            if self.depth(to.0) + self.height(moved) > MAX_DEPTH {
                return Err(Errno::NameTooLong.into());
            }
        }
        if let Some(replaced) = replaced {
            if self.ancestors(from.0).any(|id| id == replaced) {
                return Err(Errno::NotEmpty.into());
            }
            match (is_directory, self.kind(replaced)) {
                (true, Kind::Directory(old)) if !old.entries.is_empty() => return Err(Errno::NotEmpty.into()),
                (true, Kind::Directory(_)) => {}
                (true, _) => return Err(Errno::NotDirectory.into()),
                (false, Kind::Directory(_)) => return Err(Errno::IsDirectory.into()),
                (false, _) => {}
            }
            self.unlink(to.0, to.1, space)?;
        }
        self.unname(from.0, from.1)?;
        self.link(to.0, to.1, Entry::Known(moved));
        if let Kind::Directory(directory) = self.kind_mut(moved) {
            directory.parent = to.0;
        }
        Ok(())
    }

    /// Returns the number of names of a node; 1 for a file that has none, and for a directory.
    pub(super) fn links(&self, id: NodeId) -> u64 {
        self.nodes[id].links.max(1).into()
    }

    pub(super) fn times(&self, id: NodeId) -> [u64; 2] {
        self.nodes[id].times
    }

    /// Sets the times that are given.
    pub(super) fn set_times(&mut self, id: NodeId, times: [Option<u64>; 2]) {
        for (time, new) in self.nodes[id].times.iter_mut().zip(times) {
            *time = new.unwrap_or(*time);
        }
    }

    pub(super) fn is_writable(&self, id: NodeId) -> bool {
        self.kind(id).is_writable()
    }

    pub(super) fn is_empty(&self, id: NodeId) -> Result<bool> {
        Ok(self.directory(id)?.entries.is_empty())
    }

    /// Returns a directory's names in byte order, with their nodes, after `.` and `..`.
    pub(super) fn list(&mut self, id: NodeId) -> Result<Vec<(Box<str>, NodeId)>> {
        let directory = self.directory(id)?;
        let names: Vec<Box<str>> = directory.entries.keys().cloned().collect();
        let mut listed = vec![(".".into(), id), ("..".into(), directory.parent)];
        for name in names {
            if let Some(child) = self.child(id, &name)? {
                listed.push((name, child));
            }
        }
        Ok(listed)
    }

    pub(super) fn len(&self, id: NodeId) -> Result<usize> {
        Ok(self.directory(id)?.entries.len())
    }

    pub(super) fn open(&mut self, id: NodeId) {
        self.nodes[id].open += 1;
    }

    pub(super) fn close(&mut self, id: NodeId, space: &mut Space) {
        self.nodes[id].open -= 1;
        self.collect(id, space);
    }

    /// Frees a node if it is unreachable.
    fn collect(&mut self, id: NodeId, space: &mut Space) {
        let slot = &mut self.nodes[id];
        if slot.links > 0 || slot.open > 0 {
            return;
        }
        let kind = std::mem::replace(&mut slot.kind, Kind::Free);
        self.writable -= usize::from(kind.is_writable());
        match kind {
            Kind::File(file) => file.discard(space),
            Kind::Link(target) => self.names -= target.len() as u64,
            _ => {}
        }
        self.free.push(id);
    }

    /// Removes a finished file or directory from the tree.
    pub(super) fn take(&mut self, id: NodeId) -> Kind {
        std::mem::replace(&mut self.nodes[id].kind, Kind::Free)
    }

    fn ancestors(&self, from: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(from), |id| match self.kind(*id) {
            Kind::Directory(directory) if *id != ROOT => Some(directory.parent),
            _ => None,
        })
    }

    fn depth(&self, id: NodeId) -> usize {
        self.ancestors(id).count()
    }

    /// Returns the number of levels of a node and its descendants.
    fn height(&self, id: NodeId) -> usize {
        let below = |directory: &Directory| {
            let known = directory.entries.values().filter_map(|entry| match entry {
                Entry::Known(id) => Some(self.height(*id)),
                Entry::Input(_) => None,
            });
            known.max().unwrap_or(0)
        };
        match self.kind(id) {
            Kind::Directory(directory) => 1 + below(directory),
            _ => 1,
        }
    }
}

/// Returns the memory of a node and everything below it, in bytes.
fn size(node: &Node) -> u64 {
    SIZE_OF_NODE
        + match node {
            Node::File(bytes) => SIZE_OF_MAPPED.min(bytes.len() as u64),
            Node::Large(_) => 0,
            Node::Directory(entries) => {
                let entry = |(name, node): (&String, &Node)| SIZE_OF_ENTRY + name.len() as u64 + size(node);
                entries.iter().map(entry).sum()
            }
        }
}

impl Kind {
    pub(super) fn directory(parent: NodeId, writable: bool) -> Self {
        Self::Directory(Directory {
            entries: BTreeMap::new(),
            parent,
            writable,
        })
    }

    fn is_writable(&self) -> bool {
        match self {
            Self::File(_) | Self::Link(_) => true,
            Self::Directory(directory) => directory.writable,
            _ => false,
        }
    }
}
