use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempPath;

use super::StoreError;
use super::blobs::Blobs;
use super::handle::Handle;
use super::index::Index;
use super::large::{digest_of, is_sparse};
use crate::digest::{Digest, Hasher};

/// Artifacts up to this size, in bytes, are written at once, without a staging file.
const IN_MEMORY: usize = 256 << 10;
/// Maximum size of an artifact that is being written in a store in memory, in bytes.
const MAX_IN_MEMORY: u64 = 1 << 30;

/// An artifact being written. Sequential writes are hashed as they come. [`finish`](Self::finish) adds the artifact to the store;
/// dropping the writer discards it.
pub struct Writer {
    blobs: Arc<Blobs>,
    index: Arc<Mutex<Index>>,
    content: Content,
    len: u64,
    /// The hash of the first `hashed` bytes, unless they were overwritten.
    hasher: Option<Hasher>,
    hashed: u64,
}

enum Content {
    Memory(Vec<u8>),
    Staged(Handle<TempPath>),
}

impl Writer {
    pub(super) fn new(blobs: Arc<Blobs>, index: Arc<Mutex<Index>>) -> Self {
        Self {
            blobs,
            index,
            content: Content::Memory(Vec::new()),
            len: 0,
            hasher: Some(Hasher::default()),
            hashed: 0,
        }
    }

    /// Creates a writer that is staged from the start.
    pub(super) fn staged(blobs: Arc<Blobs>, index: Arc<Mutex<Index>>) -> io::Result<Self> {
        let mut writer = Self::new(blobs, index);
        writer.stage_beyond(0, 1)?;
        Ok(writer)
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes `data` at `offset`. Fills a gap with zeros. In a file, gaps and zeros at the end take no room.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.stage_beyond(IN_MEMORY as u64, end)?;
        match &mut self.content {
            Content::Memory(bytes) => {
                let (start, end) = (offset as usize, end as usize);
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            Content::Staged(file) => file.with(|file| match offset >= self.len && is_sparse(data) {
                true => file.set_len(end),
                false => file.write_all_at(data, offset),
            })?,
        }
        self.len = self.len.max(end);
        if offset == self.hashed {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(data);
                self.hashed = end;
            }
        } else {
            self.forget_hash();
        }
        Ok(())
    }

    /// Reads bytes from `offset` into `buffer`; fewer at the end.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.content {
            Content::Memory(bytes) => {
                let start = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
                let count = buffer.len().min(bytes.len() - start);
                buffer[..count].copy_from_slice(&bytes[start..start + count]);
                Ok(count)
            }
            Content::Staged(file) => file.with(|file| file.read_at(buffer, offset)),
        }
    }

    /// Truncates the artifact to `len` bytes, or extends it with zeros.
    pub fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len == self.len {
            return Ok(());
        }
        self.stage_beyond(IN_MEMORY as u64, len)?;
        match &mut self.content {
            Content::Memory(bytes) => bytes.resize(len as usize, 0),
            Content::Staged(file) => file.with(|file| file.set_len(len))?,
        }
        self.len = len;
        if len == 0 {
            (self.hasher, self.hashed) = (Some(Hasher::default()), 0);
        } else {
            self.forget_hash();
        }
        Ok(())
    }

    /// Adds the artifact to the store. Returns its digest and size.
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        self.finish_unless(&mut || Ok(()))
    }

    /// Like [`finish`](Self::finish), but calls `check` after each MiB that is hashed, and fails if it does.
    pub fn finish_unless(self, check: &mut dyn FnMut() -> io::Result<()>) -> Result<(Digest, u64), StoreError> {
        let digest = self.digest(check)?;
        let len = self.len;
        self.land(&digest)?;
        Ok((digest, len))
    }

    /// Adds the artifact to the store if its digest is `expected`. Otherwise discards it and returns its digest.
    pub fn finish_as(self, expected: &Digest) -> Result<Result<(), Digest>, StoreError> {
        match self.digest(&mut || Ok(()))? {
            found if found == *expected => self.land(expected).map(Ok),
            found => Ok(Err(found)),
        }
    }

    fn digest(&self, check: &mut dyn FnMut() -> io::Result<()>) -> Result<Digest, StoreError> {
        let whole = self.hasher.clone().filter(|_| self.hashed == self.len);
        Ok(match (whole, &self.content) {
            (Some(hasher), _) => hasher.finish(),
            (None, Content::Memory(bytes)) => Digest::of(bytes),
            (None, Content::Staged(staged)) => staged
                .with(|file| digest_of(|at, buffer| file.read_at(buffer, at), check))
                .map_err(StoreError::file("read", staged.path()))?,
        })
    }

    fn land(self, digest: &Digest) -> Result<(), StoreError> {
        match self.content {
            Content::Memory(bytes) => self.blobs.put(digest, bytes.into()),
            Content::Staged(staged) => {
                staged
                    .with(|file| file.set_permissions(std::fs::Permissions::from_mode(0o444)))
                    .map_err(StoreError::file("write", staged.path()))?;
                self.blobs.take(digest, staged.into_path())?;
                // its first reader need not hash it again
                if let Some(stamp) = self.blobs.stamp(digest) {
                    let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
                    index.set_verified(digest, &stamp)?;
                }
                Ok(())
            }
        }
    }

    fn forget_hash(&mut self) {
        self.hasher = None;
    }

    /// Moves an artifact of more than `most` bytes from memory to a staging file.
    fn stage_beyond(&mut self, most: u64, end: u64) -> io::Result<()> {
        let Content::Memory(bytes) = &self.content else {
            return Ok(());
        };
        let Some(directory) = self.blobs.directory().filter(|_| end > most) else {
            return match self.blobs.directory().is_none() && end > MAX_IN_MEMORY {
                true => Err(io::ErrorKind::FileTooLarge.into()),
                false => Ok(()),
            };
        };
        let (file, path) = tempfile::NamedTempFile::new_in(directory.join("staging"))?.into_parts();
        file.write_all_at(bytes, 0)?;
        self.content = Content::Staged(Handle::new(path, file, true));
        Ok(())
    }
}
