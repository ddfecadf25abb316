//! The guest's file system: a tree in memory and a table of file descriptors. Independent of WebAssembly.
//!
//! `/` contains `/in` and other paths of inputs (read-only), `/out` and `/tmp` (writable) and `/dev/null`. Nothing maps to a host path.
//! Everything that could differ between machines is fixed: times are 0 until the guest sets them, names are listed in byte order, and
//! inode numbers follow the order in which the guest first accesses files. A guest can make hard and symbolic links where it can write;
//! what it writes is stored without links (see [`Found`]).

mod answers;
mod bytes;
mod errno;
mod file;
mod found;
mod names;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::bytes::Bytes;

use super::{Node, Storage, Stream, WorldError};
use crate::step::{GuestPath, Limit};

pub(crate) use errno::{Errno, Fault, Result, Stop};
use file::{File, Space};
pub(crate) use found::Found;
use tree::NodeId;
use tree::{Kind, ROOT, Target, Tree};
pub(crate) use tree::{MAX_NAME, MAX_PATH};

/// Maximum number of open file descriptors.
const MAX_FDS: usize = 1024;
/// Maximum number of names in all open directory listings.
const MAX_LISTED: usize = 1 << 20;
/// Size of the descriptor of an open file, and of an entry of a listing beside its name, in bytes.
const SIZE_OF_OPEN: u64 = 128;
const SIZE_OF_LISTED: u64 = 64;
/// Maximum size of a piece of stdout or stderr that waits for its reader, in bytes.
const LOG_PIECE: usize = 64 << 10;
/// The work of an access to the storage, of a write to the log, of resolving a path, and of an entry of a listing: see
/// [`Vfs::take_work`].
const ACCESS: u64 = 2_000;
const LOG_WRITE: u64 = 500;
const PATH: u64 = 1_000;
const ENTRY: u64 = 200;
/// How many bytes of the end of stderr are kept for failure messages.
const TAIL: usize = 8 << 10;

pub(crate) type Fd = u32;

/// The only preopened directory, `/`.
pub(crate) const PREOPEN: Fd = 3;

/// Receives a guest's stdout and stderr.
pub(crate) type LogWriter = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// The file system of one run.
pub(crate) struct Vfs {
    tree: Tree,
    fds: Vec<Option<Open>>,
    /// Number of names in open listings.
    listed: usize,
    /// Size of open listings, in bytes.
    listed_bytes: u64,
    work: u64,
    space: Space,
    storage: Arc<dyn Storage>,
    log: Log,
    /// Stdin, if reading past its end ends the run.
    asks: Option<NodeId>,
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
    /// The rights that the guest gave up.
    without: Rights,
    offset: u64,
    listing: Option<Vec<Listed>>,
}

#[derive(Clone, Copy)]
enum What {
    Log(Stream),
    Node(NodeId),
}

/// The access mode of a file descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Whether each write goes to the end.
    pub(crate) append: bool,
    /// Other flags, without effect, which are kept for the guest.
    pub(crate) flags: u8,
}

/// The `rights` of preview 1 of a descriptor, and of descriptors that are opened through it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) base: u64,
    pub(crate) inheriting: u64,
}

/// Options for opening a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct OpenHow {
    pub(crate) access: Access,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    /// Whether to follow a symbolic link at the end of the path.
    pub(crate) follow: bool,
}

/// The `filetype` of preview 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum FileType {
    /// Used for stdout and stderr, so that guests don't treat them as a terminal.
    Unknown = 0,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SymbolicLink = 7,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stat {
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
    pub(crate) size: u64,
    /// The number of names.
    pub(crate) links: u64,
    /// The times of the last access and of the last change, in nanoseconds since the Unix epoch.
    pub(crate) times: [u64; 2],
}

/// An entry of a directory listing.
pub(crate) struct Listed {
    pub(crate) name: Box<str>,
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
}

impl Listed {
    fn size(&self) -> u64 {
        SIZE_OF_LISTED + self.name.len() as u64
    }
}

/// The origin of a seek.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whence {
    Start,
    Current,
    End,
}

/// The parameters of a new [`Vfs`].
pub(crate) struct Setup {
    pub(crate) files: BTreeMap<GuestPath, Node>,
    pub(crate) stdin: Bytes,
    /// Whether reading past the end of stdin ends the run.
    pub(crate) asks: bool,
    /// The name under `/out` that stdout is stored as.
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
            listed_bytes: 0,
            work: 0,
            space: Space::new(setup.output_limit),
            storage: setup.storage,
            log: Log {
                write: setup.log,
                used: 0,
                limit: setup.log_limit,
                tail: Vec::new(),
            },
            asks: None,
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
        vfs.asks = setup.asks.then_some(stdin);
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

    /// Returns whether reading past the end of the descriptor ends the run.
    pub(crate) fn asks(&self, fd: Fd) -> bool {
        self.asks.is_some() && self.node(fd).ok() == self.asks
    }

    fn node(&self, fd: Fd) -> Result<NodeId> {
        match self.fd(fd)?.what {
            What::Node(id) => Ok(id),
            What::Log(_) => Err(Errno::NotSeekable.into()),
        }
    }

    /// Returns the directory that a path is relative to.
    fn base(&self, fd: Fd) -> Result<NodeId> {
        match self.fd(fd)?.what {
            What::Node(id) if matches!(self.tree.kind(id), Kind::Directory(_)) => Ok(id),
            _ => Err(Errno::NotDirectory.into()),
        }
    }

    /// Resolves a path, but not a symbolic link at its end.
    fn resolve(&mut self, fd: Fd, path: &str) -> Result<Target> {
        self.resolve_link(fd, path, false)
    }

    /// Resolves a path; with `follow` or a slash at the end, also a symbolic link at its end.
    fn resolve_link(&mut self, fd: Fd, path: &str, follow: bool) -> Result<Target> {
        let base = self.base(fd)?;
        self.work += PATH + 10 * path.len() as u64 + self.fds.len() as u64;
        self.tree.resolve(base, base, path, follow)
    }

    /// Returns the node that a path refers to.
    fn find(&mut self, fd: Fd, path: &str, follow: bool) -> Result<NodeId> {
        let target = self.resolve_link(fd, path, follow || path.ends_with('/'))?;
        self.tree.find(&target)?.ok_or(Errno::NoEntry.into())
    }

    pub(crate) fn open(&mut self, fd: Fd, path: &str, how: OpenHow) -> Result<Fd> {
        if how.create && how.directory {
            return Err(Errno::Invalid.into());
        }
        let free = self.fds.iter().position(Option::is_none).unwrap_or(self.fds.len());
        if free >= MAX_FDS {
            return Err(Errno::TooManyOpen.into());
        }
        let without = self.fd(fd)?.without.inheriting;
        let follow = how.follow || path.ends_with('/');
        let target = self.resolve_link(fd, path, follow && !(how.create && how.exclusive))?;
        let id = match (self.tree.find(&target)?, target) {
            (Some(_), _) if how.create && how.exclusive => return Err(Errno::Exists.into()),
            (Some(id), _) => {
                self.check_open(id, how)?;
                id
            }
            (None, _) if !how.create => return Err(Errno::NoEntry.into()),
            (None, Target::Name { directory: true, .. } | Target::Directory(_)) => return Err(Errno::IsDirectory.into()),
            (None, Target::Name { parent, name, .. }) => self.tree.create(parent, &name, Kind::File(File::new()))?,
        };
        self.tree.open(id);
        let mut open = Open::new(What::Node(id), how.access);
        open.without = Rights {
            base: without,
            inheriting: without,
        };
        let open = Some(open);
        match self.fds.get_mut(free) {
            Some(slot) => *slot = open,
            None => self.fds.push(open),
        }
        Ok(free as Fd)
    }

    fn check_open(&mut self, id: NodeId, how: OpenHow) -> Result<()> {
        match self.tree.kind_mut(id) {
            Kind::Link(_) => Err(Errno::Loop.into()),
            Kind::Directory(_) if how.directory && !how.access.write => Ok(()),
            Kind::Directory(_) if how.directory => Err(Errno::IsDirectory.into()),
            _ if how.directory => Err(Errno::NotDirectory.into()),
            Kind::Directory(_) if how.access.write || how.truncate => Err(Errno::IsDirectory.into()),
            Kind::Input(_) | Kind::Large(_) if how.access.write || how.truncate => Err(Errno::ReadOnly.into()),
            Kind::File(file) if how.truncate => file.set_len(0, &mut self.space, &*self.storage),
            _ => Ok(()),
        }
    }

    pub(crate) fn close(&mut self, fd: Fd) -> Result<()> {
        self.fd(fd)?;
        if let Some(open) = self.fds[fd as usize].take() {
            self.forget_listing(open.listing);
            if let What::Node(id) = open.what {
                self.tree.close(id, &mut self.space);
            }
        }
        Ok(())
    }

    /// Moves a file descriptor to the number of another one, which is closed. The number of a standard stream may be free: only so can a guest
    /// exchange a stream, because the call is the only one that chooses a number.
    pub(crate) fn renumber(&mut self, from: Fd, to: Fd) -> Result<()> {
        self.fd(from)?;
        let is_open = self.fd(to).is_ok();
        if !is_open && to > 2 {
            return Err(Errno::BadFd.into());
        }
        if from != to {
            if is_open {
                self.close(to)?;
            }
            self.fds.swap(from as usize, to as usize);
        }
        Ok(())
    }

    pub(crate) fn access(&self, fd: Fd) -> Result<Access> {
        Ok(self.fd(fd)?.access)
    }

    pub(crate) fn set_flags(&mut self, fd: Fd, append: bool, flags: u8) -> Result<()> {
        let access = &mut self.fd_mut(fd)?.access;
        (access.append, access.flags) = (append, flags);
        Ok(())
    }

    /// Returns the rights that the guest gave up.
    pub(crate) fn without(&self, fd: Fd) -> Result<Rights> {
        Ok(self.fd(fd)?.without)
    }

    /// Gives up rights.
    pub(crate) fn give_up(&mut self, fd: Fd, without: Rights) -> Result<()> {
        self.fd_mut(fd)?.without = without;
        Ok(())
    }

    fn forget_listing(&mut self, listing: Option<Vec<Listed>>) {
        let listing = listing.unwrap_or_default();
        self.listed -= listing.len();
        self.listed_bytes -= listing.iter().map(Listed::size).sum::<u64>();
    }

    /// Returns the memory that the host needs for what the guest has created, apart from the content of its files, in bytes. Estimated,
    /// but the same on every machine.
    pub(crate) fn held(&self) -> u64 {
        self.tree.held() + self.listed_bytes + SIZE_OF_OPEN * self.fds.len() as u64
    }

    /// Returns the work since the last call, in about nanoseconds. Estimated, but the same on every machine.
    pub(crate) fn take_work(&mut self) -> u64 {
        let of_parts = std::mem::take(&mut self.space.work).saturating_add(std::mem::take(&mut self.tree.work));
        std::mem::take(&mut self.work).saturating_add(of_parts)
    }

    /// Adds work that was done on behalf of the guest.
    pub(crate) fn add_work(&mut self, work: u64) {
        self.work = self.work.saturating_add(work);
    }

    /// Returns the peak total size of writable files, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.space.peak
    }

    /// Returns the number of bytes written to stdout and stderr.
    pub(crate) fn logged(&self) -> u64 {
        self.log.used
    }

    /// Returns the end of stderr.
    pub(crate) fn stderr_tail(&self) -> &[u8] {
        &self.log.tail
    }
}

impl Open {
    fn new(what: What, access: Access) -> Self {
        Self {
            what,
            access,
            without: Rights::default(),
            offset: 0,
            listing: None,
        }
    }
}

impl Log {
    fn write(&mut self, stream: Stream, data: &[u8]) -> Result<()> {
        let left = usize::try_from(self.limit - self.used).unwrap_or(usize::MAX);
        let kept = &data[..data.len().min(left)];
        for piece in kept.chunks(LOG_PIECE) {
            (self.write)(stream, piece);
            self.used += piece.len() as u64;
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
