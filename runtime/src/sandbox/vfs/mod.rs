//! All that a guest can see of files: a tree in memory and a table of file descriptors. No WebAssembly here.
//!
//! `/` holds `/in` and wherever else inputs are bound (read-only), `/out` and `/tmp` (writable) and `/dev/null`. There is
//! no host path behind any of it. What could differ between two machines is constant: times are 0, a link count is 1, names
//! are listed in the order of their bytes, and inode numbers follow the order in which the guest first meets a file.
//! There are no symbolic links and no hard links.

mod errno;
mod file;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Made, Node, Storage, Stream, WorldError};
use crate::step::{GuestPath, Limit};

pub(crate) use errno::{Errno, Fault, Result, Stop};
use file::{File, Space};
use tree::{Kind, NodeId, ROOT, Target, Tree};

/// A guest has at most this many file descriptors.
const MAX_FDS: usize = 1024;
/// All directory listings that are being read hold at most this many names.
const MAX_LISTED: usize = 1 << 20;
/// How much of the end of stderr is kept to say what a failure was.
const TAIL: usize = 8 << 10;

pub(crate) type Fd = u32;

/// The one preopened directory, `/`.
pub(crate) const PREOPEN: Fd = 3;

/// Takes what a guest writes to stdout and stderr.
pub(crate) type LogWriter = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// The world of files of one run.
pub(crate) struct Vfs {
    tree: Tree,
    fds: Vec<Option<Open>>,
    listed: usize,
    space: Space,
    storage: Arc<dyn Storage>,
    log: Log,
}

struct Log {
    write: LogWriter,
    used: u64,
    limit: u64,
    tail: Vec<u8>,
}

struct Open {
    what: What,
    access: Access,
    offset: u64,
    listing: Option<Vec<Listed>>,
}

#[derive(Clone, Copy)]
enum What {
    Log(Stream),
    Node(NodeId),
}

/// What a file descriptor may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Each write goes to the end.
    pub(crate) append: bool,
}

/// How to open a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct OpenHow {
    pub(crate) access: Access,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
}

/// `filetype` of preview 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum FileType {
    /// Stdout and stderr, so that no guest takes them for a terminal.
    Unknown = 0,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stat {
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
    pub(crate) size: u64,
}

/// One name of a directory.
pub(crate) struct Listed {
    pub(crate) name: Box<str>,
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
}

/// Where a seek starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whence {
    Start,
    Current,
    End,
}

/// What to build a [`Vfs`] from.
pub(crate) struct Setup {
    pub(crate) files: BTreeMap<GuestPath, Node>,
    pub(crate) stdin: Bytes,
    /// The name under `/out` that stdout is kept as.
    pub(crate) stdout: Option<String>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) output_limit: u64,
    pub(crate) log_limit: u64,
    pub(crate) log: LogWriter,
}

impl Vfs {
    pub(crate) fn new(setup: Setup) -> std::result::Result<Self, WorldError> {
        let mut vfs = Self {
            tree: Tree::new(setup.files)?,
            fds: Vec::new(),
            listed: 0,
            space: Space::new(setup.output_limit),
            storage: setup.storage,
            log: Log {
                write: setup.log,
                used: 0,
                limit: setup.log_limit,
                tail: Vec::new(),
            },
        };
        let read = Access {
            read: true,
            ..Access::default()
        };
        let write = Access {
            write: true,
            append: true,
            ..Access::default()
        };
        let stdin = vfs.tree.orphan(Kind::Input(setup.stdin));
        vfs.tree.open(stdin);
        vfs.tree.open(ROOT);
        vfs.fds = [
            (What::Node(stdin), read),
            (What::Log(Stream::Stdout), write),
            (What::Log(Stream::Stderr), write),
            (What::Node(ROOT), read),
        ]
        .map(|(what, access)| Some(Open::new(what, access)))
        .into();
        if let Some(name) = setup.stdout {
            let out = OpenHow {
                access: write,
                create: true,
                ..OpenHow::default()
            };
            let invalid = |_| WorldError::Stdout { name: name.clone() };
            let fd = vfs.open(PREOPEN, &format!("/out/{name}"), out).map_err(invalid)?;
            vfs.renumber(fd, 1).map_err(invalid)?;
        }
        Ok(vfs)
    }

    fn fd(&self, fd: Fd) -> Result<&Open> {
        self.fds.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BadFd.into())
    }

    fn fd_mut(&mut self, fd: Fd) -> Result<&mut Open> {
        self.fds
            .get_mut(fd as usize)
            .and_then(Option::as_mut)
            .ok_or(Errno::BadFd.into())
    }

    fn node(&self, fd: Fd) -> Result<NodeId> {
        match self.fd(fd)?.what {
            What::Node(id) => Ok(id),
            What::Log(_) => Err(Errno::NotSeekable.into()),
        }
    }

    /// The directory that a path is seen from.
    fn base(&self, fd: Fd) -> Result<NodeId> {
        match self.fd(fd)?.what {
            What::Node(id) if matches!(self.tree.kind(id), Kind::Directory(_)) => Ok(id),
            _ => Err(Errno::NotDirectory.into()),
        }
    }

    fn resolve<'p>(&mut self, fd: Fd, path: &'p str) -> Result<Target<'p>> {
        let base = self.base(fd)?;
        self.tree.resolve(base, path)
    }

    // File descriptors

    pub(crate) fn open(&mut self, fd: Fd, path: &str, how: OpenHow) -> Result<Fd> {
        if how.create && how.directory {
            return Err(Errno::Invalid.into());
        }
        let free = self.fds.iter().position(Option::is_none).unwrap_or(self.fds.len());
        if free >= MAX_FDS {
            return Err(Errno::TooManyOpen.into());
        }
        let target = self.resolve(fd, path)?;
        let id = match (self.tree.find(&target)?, target) {
            (Some(_), _) if how.create && how.exclusive => return Err(Errno::Exists.into()),
            (Some(id), _) => {
                self.check_open(id, how)?;
                id
            }
            (None, _) if !how.create => return Err(Errno::NoEntry.into()),
            (None, Target::Name { directory: true, .. } | Target::Directory(_)) => return Err(Errno::IsDirectory.into()),
            (None, Target::Name { parent, name, .. }) => self.tree.create(parent, name, Kind::File(File::new()))?,
        };
        self.tree.open(id);
        let open = Some(Open::new(What::Node(id), how.access));
        match self.fds.get_mut(free) {
            Some(slot) => *slot = open,
            None => self.fds.push(open),
        }
        Ok(free as Fd)
    }

    fn check_open(&mut self, id: NodeId, how: OpenHow) -> Result<()> {
        match self.tree.kind_mut(id) {
            Kind::Directory(_) if how.directory => Ok(()),
            _ if how.directory => Err(Errno::NotDirectory.into()),
            Kind::Directory(_) if how.access.write || how.truncate => Err(Errno::IsDirectory.into()),
            Kind::Input(_) if how.access.write || how.truncate => Err(Errno::ReadOnly.into()),
            Kind::File(file) if how.truncate => file.set_len(0, &mut self.space, &*self.storage),
            _ => Ok(()),
        }
    }

    pub(crate) fn close(&mut self, fd: Fd) -> Result<()> {
        self.fd(fd)?;
        if let Some(open) = self.fds[fd as usize].take() {
            self.listed -= open.listing.map_or(0, |listing| listing.len());
            if let What::Node(id) = open.what {
                self.tree.close(id, &mut self.space);
            }
        }
        Ok(())
    }

    /// Moves a file descriptor to another number, whether that is open or free.
    pub(crate) fn renumber(&mut self, from: Fd, to: Fd) -> Result<()> {
        self.fd(from)?;
        let place = to as usize;
        if place >= MAX_FDS {
            return Err(Errno::BadFd.into());
        }
        if from == to {
            return Ok(());
        }
        if place >= self.fds.len() {
            self.fds.resize_with(place + 1, || None);
        }
        if self.fds[place].is_some() {
            self.close(to)?;
        }
        self.fds[place] = self.fds[from as usize].take();
        Ok(())
    }

    pub(crate) fn access(&self, fd: Fd) -> Result<Access> {
        Ok(self.fd(fd)?.access)
    }

    pub(crate) fn set_append(&mut self, fd: Fd, append: bool) -> Result<()> {
        self.fd_mut(fd)?.access.append = append;
        Ok(())
    }

    /// Takes rights away. They never come back.
    pub(crate) fn restrict(&mut self, fd: Fd, read: bool, write: bool) -> Result<()> {
        let access = &mut self.fd_mut(fd)?.access;
        access.read &= read;
        access.write &= write;
        Ok(())
    }

    // Bytes

    /// Reads at the file's offset and moves it. Fewer bytes than asked for mean that the file ends.
    pub(crate) fn read(&mut self, fd: Fd, buf: &mut [u8]) -> Result<usize> {
        let offset = self.fd(fd)?.offset;
        if let What::Log(_) = self.fd(fd)?.what {
            return Err(Errno::BadFd.into());
        }
        let read = self.read_at(fd, offset, buf)?;
        self.fd_mut(fd)?.offset += read as u64;
        Ok(read)
    }

    pub(crate) fn read_at(&mut self, fd: Fd, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let id = self.node(fd)?;
        if !self.fd(fd)?.access.read {
            return Err(Errno::BadFd.into());
        }
        match self.tree.kind_mut(id) {
            Kind::Input(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let read = buf.len().min(bytes.len() - start);
                buf[..read].copy_from_slice(&bytes[start..start + read]);
                Ok(read)
            }
            Kind::File(file) => Ok(file.read_at(offset, buf)?),
            Kind::Null => Ok(0),
            Kind::Directory(_) => Err(Errno::IsDirectory.into()),
            Kind::Free => Err(Errno::BadFd.into()),
        }
    }

    /// Writes all of `data` at the file's offset, or at its end, and moves the offset behind it.
    pub(crate) fn write(&mut self, fd: Fd, data: &[u8]) -> Result<()> {
        let open = self.fd(fd)?;
        if !open.access.write {
            return Err(Errno::BadFd.into());
        }
        let id = match open.what {
            What::Log(stream) => return self.log.write(stream, data),
            What::Node(id) => id,
        };
        let offset = match self.tree.kind(id) {
            Kind::File(file) if open.access.append => file.len(),
            _ => open.offset,
        };
        self.write_at(fd, offset, data)?;
        self.fd_mut(fd)?.offset = offset + data.len() as u64;
        Ok(())
    }

    pub(crate) fn write_at(&mut self, fd: Fd, offset: u64, data: &[u8]) -> Result<()> {
        let file = match self.writable(fd)? {
            Some(file) => file,
            None => return Ok(()),
        };
        file.0.write_at(offset, data, file.1, file.2)
    }

    pub(crate) fn set_len(&mut self, fd: Fd, len: u64) -> Result<()> {
        match self.writable(fd)? {
            Some((file, space, storage)) => file.set_len(len, space, storage),
            None => Err(Errno::Invalid.into()),
        }
    }

    /// Makes sure that the file is at least that long.
    pub(crate) fn allocate(&mut self, fd: Fd, len: u64) -> Result<()> {
        match self.writable(fd)? {
            Some((file, space, storage)) if file.len() < len => file.set_len(len, space, storage),
            Some(_) => Ok(()),
            None => Err(Errno::NotSupported.into()),
        }
    }

    /// The file to write to; `None` for `/dev/null`.
    fn writable(&mut self, fd: Fd) -> Result<Option<(&mut File, &mut Space, &dyn Storage)>> {
        let id = self.node(fd)?;
        if !self.fd(fd)?.access.write {
            return Err(Errno::BadFd.into());
        }
        match self.tree.kind_mut(id) {
            Kind::File(file) => Ok(Some((file, &mut self.space, &*self.storage))),
            Kind::Null => Ok(None),
            Kind::Directory(_) => Err(Errno::IsDirectory.into()),
            Kind::Input(_) | Kind::Free => Err(Errno::BadFd.into()),
        }
    }

    pub(crate) fn seek(&mut self, fd: Fd, whence: Whence, delta: i64) -> Result<u64> {
        let id = self.node(fd)?;
        if let Kind::Directory(_) = self.tree.kind(id) {
            return Err(Errno::BadFd.into());
        }
        let start = match whence {
            Whence::Start => 0,
            Whence::Current => self.fd(fd)?.offset,
            Whence::End => self.stat_node(id).size,
        };
        let offset = start.checked_add_signed(delta).filter(|offset| *offset <= i64::MAX as u64);
        let offset = offset.ok_or(Errno::Invalid)?;
        self.fd_mut(fd)?.offset = offset;
        Ok(offset)
    }

    /// Whether the file descriptor has bytes of its own, so that advice and syncing make sense.
    pub(crate) fn check_node(&self, fd: Fd) -> Result<()> {
        self.node(fd).map(drop)
    }

    /// Whether a file descriptor is open.
    pub(crate) fn check_fd(&self, fd: Fd) -> Result<()> {
        self.fd(fd).map(drop)
    }

    /// How many bytes can be read from a file descriptor's offset on.
    pub(crate) fn left(&self, fd: Fd) -> Result<u64> {
        let open = self.fd(fd)?;
        Ok(self.stat(fd)?.size.saturating_sub(open.offset))
    }

    // Names

    pub(crate) fn stat(&self, fd: Fd) -> Result<Stat> {
        Ok(match self.fd(fd)?.what {
            What::Node(id) => self.stat_node(id),
            What::Log(_) => Stat {
                inode: 0,
                file_type: FileType::Unknown,
                size: 0,
            },
        })
    }

    pub(crate) fn stat_path(&mut self, fd: Fd, path: &str) -> Result<Stat> {
        let target = self.resolve(fd, path)?;
        let id = self.tree.find(&target)?.ok_or(Errno::NoEntry)?;
        Ok(self.stat_node(id))
    }

    fn stat_node(&self, id: NodeId) -> Stat {
        let (file_type, size) = match self.tree.kind(id) {
            Kind::Input(bytes) => (FileType::RegularFile, bytes.len() as u64),
            Kind::File(file) => (FileType::RegularFile, file.len()),
            Kind::Directory(_) => (FileType::Directory, 0),
            Kind::Null => (FileType::CharacterDevice, 0),
            Kind::Free => (FileType::Unknown, 0),
        };
        Stat {
            inode: id as u64 + 1,
            file_type,
            size,
        }
    }

    /// Times are constant, so setting them changes nothing; but only what is writable lets itself be touched.
    pub(crate) fn touch(&mut self, fd: Fd, path: Option<&str>) -> Result<()> {
        let id = match path {
            None => self.node(fd)?,
            Some(path) => {
                let target = self.resolve(fd, path)?;
                self.tree.find(&target)?.ok_or(Errno::NoEntry)?
            }
        };
        match self.tree.is_writable(id) {
            true => Ok(()),
            false => Err(Errno::ReadOnly.into()),
        }
    }

    pub(crate) fn make_directory(&mut self, fd: Fd, path: &str) -> Result<()> {
        let target = self.resolve(fd, path)?;
        let (parent, name) = match target {
            Target::Name { parent, name, .. } if self.tree.child(parent, name)?.is_none() => (parent, name),
            _ => return Err(Errno::Exists.into()),
        };
        self.tree.create(parent, name, Kind::directory(parent, true)).map(drop)
    }

    pub(crate) fn remove_directory(&mut self, fd: Fd, path: &str) -> Result<()> {
        match self.resolve(fd, path)? {
            Target::Directory(_) => Err(Errno::Invalid.into()),
            Target::Name { parent, name, .. } => {
                let id = self.tree.child(parent, name)?.ok_or(Errno::NoEntry)?;
                if !self.tree.is_empty(id)? {
                    return Err(Errno::NotEmpty.into());
                }
                self.tree.unlink(parent, name, &mut self.space)
            }
        }
    }

    pub(crate) fn remove_file(&mut self, fd: Fd, path: &str) -> Result<()> {
        let target = self.resolve(fd, path)?;
        let id = self.tree.find(&target)?.ok_or(Errno::NoEntry)?;
        match (self.tree.kind(id), target) {
            (Kind::Directory(_), _) | (_, Target::Directory(_)) => Err(Errno::IsDirectory.into()),
            (_, Target::Name { parent, name, .. }) => self.tree.unlink(parent, name, &mut self.space),
        }
    }

    pub(crate) fn rename(&mut self, from: (Fd, &str), to: (Fd, &str)) -> Result<()> {
        let from = self.resolve(from.0, from.1)?;
        let to = self.resolve(to.0, to.1)?;
        let moved = self.tree.find(&from)?.ok_or(Errno::NoEntry)?;
        let is_directory = matches!(self.tree.kind(moved), Kind::Directory(_));
        match (from, to) {
            (_, Target::Name { directory: true, .. }) if !is_directory => Err(Errno::NotDirectory.into()),
            (
                Target::Name {
                    parent: a, name: old, ..
                },
                Target::Name {
                    parent: b, name: new, ..
                },
            ) => self.tree.rename((a, old), (b, new), &mut self.space),
            _ => Err(Errno::Busy.into()),
        }
    }

    /// Fails as there are no links: `Invalid` for what is there, as `readlink` of a file that is no link.
    pub(crate) fn read_link(&mut self, fd: Fd, path: &str) -> Result<()> {
        self.stat_path(fd, path)?;
        Err(Errno::Invalid.into())
    }

    /// The names of a directory from `cookie` on, as they were when reading it began with cookie 0. The cookie of the name
    /// after the `n`th is `cookie + n`.
    pub(crate) fn list(&mut self, fd: Fd, cookie: u64) -> Result<&[Listed]> {
        let id = self.base(fd)?;
        if cookie == 0 || self.fd(fd)?.listing.is_none() {
            let old = self.fd_mut(fd)?.listing.take();
            self.listed -= old.map_or(0, |listing| listing.len());
            if self.listed + self.tree.len(id)? + 2 > MAX_LISTED {
                return Err(Errno::NoMemory.into());
            }
            let names = self.tree.list(id)?;
            let listing: Vec<_> = names.into_iter().map(|(name, id)| self.listed(name, id)).collect();
            self.listed += listing.len();
            self.fd_mut(fd)?.listing = Some(listing);
        }
        let listing = self.fd(fd)?.listing.as_deref().unwrap_or_default();
        let start = usize::try_from(cookie).unwrap_or(usize::MAX).min(listing.len());
        Ok(&listing[start..])
    }

    fn listed(&self, name: Box<str>, id: NodeId) -> Listed {
        let Stat { inode, file_type, .. } = self.stat_node(id);
        Listed { name, inode, file_type }
    }

    // The end

    /// The most room that writable files took at a time, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.space.peak
    }

    /// How many bytes went to stdout and stderr.
    pub(crate) fn logged(&self) -> u64 {
        self.log.used
    }

    /// The end of what was written to stderr.
    pub(crate) fn stderr_tail(&self) -> &[u8] {
        &self.log.tail
    }

    /// The first of these names that is not in `/out`.
    pub(crate) fn missing<'n>(&mut self, names: &'n BTreeSet<String>) -> Option<&'n String> {
        names
            .iter()
            .find(|name| self.stat_path(PREOPEN, &format!("/out/{name}")).is_err())
    }

    /// Lands these names of `/out` in the store; those that are not there are left out.
    pub(crate) fn finish(mut self, names: &BTreeSet<String>) -> io::Result<BTreeMap<String, Made>> {
        let mut made = BTreeMap::new();
        for name in names {
            let target = self
                .resolve(PREOPEN, &format!("/out/{name}"))
                .map(|target| self.tree.find(&target));
            if let Ok(Ok(Some(id))) = target
                && let Some(output) = self.finish_node(id)?
            {
                made.insert(name.clone(), output);
            }
        }
        Ok(made)
    }

    fn finish_node(&mut self, id: NodeId) -> io::Result<Option<Made>> {
        match self.tree.take(id) {
            Kind::File(file) => file.finish(&*self.storage).map(Some),
            Kind::Directory(directory) => {
                let mut made = BTreeMap::new();
                for (name, id) in directory.into_entries() {
                    if let Some(output) = self.finish_node(id)? {
                        made.insert(name.into(), output);
                    }
                }
                Ok(Some(Made::Directory(made)))
            }
            Kind::Input(_) | Kind::Null | Kind::Free => Ok(None),
        }
    }
}

impl Open {
    fn new(what: What, access: Access) -> Self {
        Self {
            what,
            access,
            offset: 0,
            listing: None,
        }
    }
}

impl Log {
    fn write(&mut self, stream: Stream, data: &[u8]) -> Result<()> {
        let left = usize::try_from(self.limit - self.used).unwrap_or(usize::MAX);
        let kept = &data[..data.len().min(left)];
        if !kept.is_empty() {
            (self.write)(stream, kept);
            self.used += kept.len() as u64;
        }
        if stream == Stream::Stderr {
            self.tail.extend_from_slice(&kept[kept.len().saturating_sub(TAIL)..]);
            if self.tail.len() > 2 * TAIL {
                self.tail.drain(..self.tail.len() - TAIL);
            }
        }
        match kept.len() < data.len() {
            true => Err(Stop::Limit(Limit::Log).into()),
            false => Ok(()),
        }
    }
}
