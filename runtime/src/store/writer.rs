use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;

use tempfile::TempPath;

use super::StoreError;
use super::blobs::Blobs;
use super::large::digest_of;
use crate::digest::{Digest, Hasher};

/// Artifacts up to this size, in bytes, are written at once, without a staging file.
const IN_MEMORY: usize = 256 << 10;

/// An artifact being written. Sequential writes are hashed as they come. [`finish`](Self::finish) adds the artifact to the store;
/// dropping the writer discards it.
pub struct Writer {
    blobs: Arc<Blobs>,
    content: Content,
    len: u64,
    /// The hash of the first `hashed` bytes, unless they were overwritten.
    hasher: Option<Hasher>,
    hashed: u64,
}

enum Content {
    Memory(Vec<u8>),
    Staged(File, TempPath),
}

impl Writer {
    pub(super) fn new(blobs: Arc<Blobs>) -> Self {
        Self {
            blobs,
            content: Content::Memory(Vec::new()),
            len: 0,
            hasher: Some(Hasher::default()),
            hashed: 0,
        }
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes `data` at `offset`. Fills a gap with zeros.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.stage_if_large(end)?;
        match &mut self.content {
            Content::Memory(bytes) => {
                let (start, end) = (offset as usize, end as usize);
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            Content::Staged(file, _) => file.write_all_at(data, offset)?,
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
            Content::Staged(file, _) => file.read_at(buffer, offset),
        }
    }

    /// Truncates the artifact to `len` bytes, or extends it with zeros.
    pub fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len == self.len {
            return Ok(());
        }
        self.stage_if_large(len)?;
        match &mut self.content {
            Content::Memory(bytes) => bytes.resize(len as usize, 0),
            Content::Staged(file, _) => file.set_len(len)?,
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
        let digest = self.digest()?;
        let len = self.len;
        self.land(&digest)?;
        Ok((digest, len))
    }

    /// Adds the artifact to the store if its digest is `expected`. Otherwise discards it and returns its digest.
    pub fn finish_as(self, expected: &Digest) -> Result<Result<(), Digest>, StoreError> {
        match self.digest()? {
            found if found == *expected => self.land(expected).map(Ok),
            found => Ok(Err(found)),
        }
    }

    fn digest(&self) -> Result<Digest, StoreError> {
        let whole = self.hasher.clone().filter(|_| self.hashed == self.len);
        Ok(match (whole, &self.content) {
            (Some(hasher), _) => hasher.finish(),
            (None, Content::Memory(bytes)) => Digest::of(bytes),
            (None, Content::Staged(file, path)) => {
                digest_of(|at, buffer| file.read_at(buffer, at)).map_err(StoreError::file("read", path))?
            }
        })
    }

    fn land(self, digest: &Digest) -> Result<(), StoreError> {
        match self.content {
            Content::Memory(bytes) => self.blobs.put(digest, bytes.into()),
            Content::Staged(file, path) => {
                file.set_permissions(std::fs::Permissions::from_mode(0o444))
                    .map_err(StoreError::file("write", &path))?;
                self.blobs.take(digest, path)
            }
        }
    }

    fn forget_hash(&mut self) {
        self.hasher = None;
    }

    fn stage_if_large(&mut self, end: u64) -> io::Result<()> {
        let (Content::Memory(bytes), Some(directory)) = (&self.content, self.blobs.directory()) else {
            return Ok(());
        };
        if end <= IN_MEMORY as u64 {
            return Ok(());
        }
        let (file, path) = tempfile::NamedTempFile::new_in(directory.join("staging"))?.into_parts();
        file.write_all_at(bytes, 0)?;
        self.content = Content::Staged(file, path);
        Ok(())
    }
}
