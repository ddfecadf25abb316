use super::errno::{Errno, Result};
use super::tree::{Kind, NodeId, Target};
use super::{ENTRY, Fd, FileType, Listed, MAX_LISTED, MAX_PATH, Stat, Vfs, What};

/// Operations on paths and directories.
impl Vfs {
    pub(crate) fn stat(&self, fd: Fd) -> Result<Stat> {
        Ok(match self.fd(fd)?.what {
            What::Node(id) => self.stat_node(id),
            What::Log(_) => Stat {
                inode: 0,
                file_type: FileType::Unknown,
                size: 0,
                links: 1,
                times: [0; 2],
            },
        })
    }

    pub(crate) fn stat_path(&mut self, fd: Fd, path: &str, follow: bool) -> Result<Stat> {
        let id = self.find(fd, path, follow)?;
        Ok(self.stat_node(id))
    }

    pub(super) fn stat_node(&self, id: NodeId) -> Stat {
        let (file_type, size) = match self.tree.kind(id) {
            Kind::Input(bytes) => (FileType::RegularFile, bytes.len() as u64),
            Kind::Large(large) => (FileType::RegularFile, large.0.len()),
            Kind::File(file) => (FileType::RegularFile, file.len()),
            Kind::Directory(_) => (FileType::Directory, 0),
            Kind::Link(target) => (FileType::SymbolicLink, target.len() as u64),
            Kind::Null => (FileType::CharacterDevice, 0),
            Kind::Free => (FileType::Unknown, 0),
        };
        Stat {
            inode: id as u64 + 1,
            file_type,
            size,
            links: self.tree.links(id),
            times: self.tree.times(id),
        }
    }

    /// Sets the times of an open file.
    pub(crate) fn set_times(&mut self, fd: Fd, times: [Option<u64>; 2]) -> Result<()> {
        let id = self.node(fd)?;
        self.set_node_times(id, times)
    }

    /// Sets the times of a path.
    pub(crate) fn set_path_times(&mut self, fd: Fd, path: &str, follow: bool, times: [Option<u64>; 2]) -> Result<()> {
        let id = self.find(fd, path, follow)?;
        self.set_node_times(id, times)
    }

    fn set_node_times(&mut self, id: NodeId, times: [Option<u64>; 2]) -> Result<()> {
        if !self.tree.is_writable(id) {
            return Err(Errno::ReadOnly.into());
        }
        self.tree.set_times(id, times);
        Ok(())
    }

    pub(crate) fn make_directory(&mut self, fd: Fd, path: &str) -> Result<()> {
        let target = self.resolve(fd, path)?;
        let (parent, name) = match target {
            Target::Name { parent, name, .. } if self.tree.child(parent, &name)?.is_none() => (parent, name),
            _ => return Err(Errno::Exists.into()),
        };
        self.tree.create(parent, &name, Kind::directory(parent, true)).map(drop)
    }

    pub(crate) fn remove_directory(&mut self, fd: Fd, path: &str) -> Result<()> {
        match self.resolve(fd, path)? {
            Target::Directory(_) => Err(Errno::Invalid.into()),
            Target::Name { parent, name, .. } => {
                let id = self.tree.child(parent, &name)?.ok_or(Errno::NoEntry)?;
                if !self.tree.is_empty(id)? {
                    return Err(Errno::NotEmpty.into());
                }
                self.tree.unlink(parent, &name, &mut self.space)
            }
        }
    }

    pub(crate) fn remove_file(&mut self, fd: Fd, path: &str) -> Result<()> {
        let target = self.resolve(fd, path)?;
        let id = self.tree.find(&target)?.ok_or(Errno::NoEntry)?;
        match (self.tree.kind(id), target) {
            (Kind::Directory(_), _) | (_, Target::Directory(_)) => Err(Errno::IsDirectory.into()),
            (_, Target::Name { parent, name, .. }) => self.tree.unlink(parent, &name, &mut self.space),
        }
    }

    pub(crate) fn rename(&mut self, from: (Fd, &str), to: (Fd, &str)) -> Result<()> {
        let from = self.resolve(from.0, from.1)?;
        let to = self.resolve(to.0, to.1)?;
        let (
            Target::Name {
                parent: a, name: old, ..
            },
            Target::Name {
                parent: b,
                name: new,
                directory,
            },
        ) = (&from, &to)
        else {
            return Err(Errno::Busy.into());
        };
        let moved = self.tree.find(&from)?.ok_or(Errno::NoEntry)?;
        let is_directory = matches!(self.tree.kind(moved), Kind::Directory(_));
        if is_directory {
            self.work += ENTRY * self.tree.written();
        }
        if *directory && !is_directory {
            return Err(Errno::NotDirectory.into());
        }
        self.tree.rename((*a, old), (*b, new), &mut self.space)
    }

    /// Gives a file another name.
    pub(crate) fn link(&mut self, from: (Fd, &str), to: (Fd, &str)) -> Result<()> {
        let from = self.resolve(from.0, from.1)?;
        let id = self.tree.find(&from)?.ok_or(Errno::NoEntry)?;
        let (parent, name) = self.unused(to.0, to.1)?;
        self.tree.hard_link(id, parent, &name)
    }

    /// Creates a symbolic link. Its target is relative to its directory.
    pub(crate) fn make_link(&mut self, to: &str, fd: Fd, path: &str) -> Result<()> {
        match to {
            "" => return Err(Errno::NoEntry.into()),
            _ if to.starts_with('/') => return Err(Errno::NotPermitted.into()),
            _ if to.len() > MAX_PATH => return Err(Errno::NameTooLong.into()),
            _ if to.contains('\0') => return Err(Errno::IllegalBytes.into()),
            _ => {}
        }
        let (parent, name) = self.unused(fd, path)?;
        self.tree.create(parent, &name, Kind::Link(to.into())).map(drop)
    }

    /// Returns the directory and the name of a path that does not exist and is not that of a directory.
    fn unused(&mut self, fd: Fd, path: &str) -> Result<(NodeId, Box<str>)> {
        match self.resolve(fd, path)? {
            Target::Directory(_) => Err(Errno::Exists.into()),
            Target::Name { parent, name, directory } => match self.tree.child(parent, &name)? {
                Some(_) => Err(Errno::Exists.into()),
                None if directory => Err(Errno::NoEntry.into()),
                None => Ok((parent, name)),
            },
        }
    }

    /// Returns the path that a symbolic link points to.
    pub(crate) fn read_link(&mut self, fd: Fd, path: &str) -> Result<&str> {
        let id = self.find(fd, path, false)?;
        self.tree.target(id).ok_or(Errno::Invalid.into())
    }

    /// Returns the names of a directory from `cookie`, as of the call with cookie 0. The cookie of the name after the `n`th is
    /// `cookie + n`.
    pub(crate) fn list(&mut self, fd: Fd, cookie: u64) -> Result<&[Listed]> {
        let id = self.base(fd)?;
        if cookie == 0 || self.fd(fd)?.listing.is_none() {
            let old = self.fd_mut(fd)?.listing.take();
            self.forget_listing(old);
            if self.listed + self.tree.len(id)? + 2 > MAX_LISTED {
                return Err(Errno::NoMemory.into());
            }
            let names = self.tree.list(id)?;
            let listing: Vec<_> = names.into_iter().map(|(name, id)| self.listed(name, id)).collect();
            self.work += ENTRY * listing.len() as u64;
            self.listed += listing.len();
            self.listed_bytes += listing.iter().map(Listed::size).sum::<u64>();
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
}
