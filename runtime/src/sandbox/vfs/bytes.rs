use super::errno::{Errno, Result};
use super::file::{File, Space};
use super::tree::Kind;
use super::{ACCESS, Fd, LOG_WRITE, Vfs, What, Whence};
use crate::sandbox::Storage;

/// Reading and writing.
impl Vfs {
    /// Reads at the file's offset and advances it. Returns fewer bytes than requested only at the end of the file.
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
            Kind::Large(large) => {
                self.work += ACCESS;
                Ok(large.0.read_at(offset, buf)?)
            }
            Kind::File(file) => {
                self.work += if file.is_stored() { ACCESS } else { 0 };
                Ok(file.read_at(offset, buf)?)
            }
            Kind::Null => Ok(0),
            Kind::Directory(_) => Err(Errno::IsDirectory.into()),
            Kind::Link(_) | Kind::Free => Err(Errno::BadFd.into()),
        }
    }

    /// Writes all of `data` at the file's offset, or at its end when appending, and advances the offset.
    pub(crate) fn write(&mut self, fd: Fd, data: &[u8]) -> Result<()> {
        let open = self.fd(fd)?;
        if !open.access.write {
            return Err(Errno::BadFd.into());
        }
        let id = match open.what {
            What::Log(stream) => {
                self.work += LOG_WRITE + data.len() as u64;
                return self.log.write(stream, data);
            }
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
        file.0.write_at(offset, data, file.1, file.2)?;
        self.work += data.len() as u64;
        self.work_on(fd);
        Ok(())
    }

    pub(crate) fn set_len(&mut self, fd: Fd, len: u64) -> Result<()> {
        match self.writable(fd)? {
            Some((file, space, storage)) => file.set_len(len, space, storage)?,
            None => return Err(Errno::Invalid.into()),
        }
        self.work_on(fd);
        Ok(())
    }

    /// Extends the file to at least `len` bytes.
    pub(crate) fn allocate(&mut self, fd: Fd, len: u64) -> Result<()> {
        match self.writable(fd)?.map(|(file, ..)| file.len()) {
            Some(now) if now < len => self.set_len(fd, len),
            Some(_) => Ok(()),
            None => Err(Errno::NotSupported.into()),
        }
    }

    /// Adds the work of a change to a file.
    fn work_on(&mut self, fd: Fd) {
        let changed = self.node(fd).map(|id| self.tree.kind(id));
        self.work += match changed {
            Ok(Kind::File(file)) if file.is_stored() => ACCESS,
            _ => 0,
        };
    }

    /// Returns the file to write to; `None` for `/dev/null`.
    fn writable(&mut self, fd: Fd) -> Result<Option<(&mut File, &mut Space, &dyn Storage)>> {
        let id = self.node(fd)?;
        if !self.fd(fd)?.access.write {
            return Err(Errno::BadFd.into());
        }
        match self.tree.kind_mut(id) {
            Kind::File(file) => Ok(Some((file, &mut self.space, &*self.storage))),
            Kind::Null => Ok(None),
            Kind::Directory(_) => Err(Errno::IsDirectory.into()),
            Kind::Input(_) | Kind::Large(_) | Kind::Link(_) | Kind::Free => Err(Errno::BadFd.into()),
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

    /// Checks that the file descriptor refers to a node, so that it can be advised and synced.
    pub(crate) fn check_node(&self, fd: Fd) -> Result<()> {
        self.node(fd).map(drop)
    }

    /// Checks that a file descriptor is open.
    pub(crate) fn check_fd(&self, fd: Fd) -> Result<()> {
        self.fd(fd).map(drop)
    }

    /// Returns the number of bytes after a file descriptor's offset.
    pub(crate) fn left(&self, fd: Fd) -> Result<u64> {
        let open = self.fd(fd)?;
        Ok(self.stat(fd)?.size.saturating_sub(open.offset))
    }
}
