use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempPath;

use super::StoreError;
use super::blobs::Blobs;
use super::handle::Handle;
use super::index::Index;
use super::large::{Content, digest_of, is_sparse};
use crate::digest::{Digest, Hasher};

/// Artifacts up to this size, in bytes, are written at once, without a staging file.
const IN_MEMORY: usize = 256 << 10;

/// An artifact being written. Sequential writes are hashed as they come. [`finish`](Self::finish) adds the artifact to the store;
/// dropping the writer discards it.
pub struct Writer {
    blobs: Arc<Blobs>,
    index: Arc<Mutex<Index>>,
    body: Body,
    len: u64,
    /// The hash of the first `hashed` bytes, unless they were overwritten.
    hasher: Option<Hasher>,
    hashed: u64,
}

enum Body {
    Memory(Vec<u8>),
    Staged(Handle<TempPath>),
    /// In the store, under its digest.
    Shared(Content, Digest),
}

impl Writer {
    pub(super) fn new(blobs: Arc<Blobs>, index: Arc<Mutex<Index>>) -> Self {
        Self {
            blobs,
            index,
            body: Body::Memory(Vec::new()),
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
        self.unshare()?;
        self.stage_beyond(IN_MEMORY as u64, end)?;
        match &mut self.body {
            Body::Memory(bytes) => {
                let (start, end) = (offset as usize, end as usize);
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            Body::Staged(file) => file.with(|file| match offset >= self.len && is_sparse(data) {
                true => file.set_len(end),
                false => file.write_all_at(data, offset),
            })?,
            Body::Shared(..) => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
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
        match &self.body {
            Body::Memory(bytes) => {
                let start = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
                let count = buffer.len().min(bytes.len() - start);
                buffer[..count].copy_from_slice(&bytes[start..start + count]);
                Ok(count)
            }
            Body::Staged(file) => file.with(|file| file.read_at(buffer, offset)),
            Body::Shared(Content::Large(file), _) => file.read_at(offset, buffer),
            Body::Shared(content, _) => {
                let piece = content.piece(offset, buffer.len())?;
                buffer[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
        }
    }

    /// Truncates the artifact to `len` bytes, or extends it with zeros.
    pub fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len == self.len {
            return Ok(());
        }
        self.unshare()?;
        self.stage_beyond(IN_MEMORY as u64, len)?;
        match &mut self.body {
            Body::Memory(bytes) => bytes.resize(len as usize, 0),
            Body::Staged(file) => file.with(|file| file.set_len(len))?,
            Body::Shared(..) => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
        self.len = len;
        if len == 0 {
            (self.hasher, self.hashed) = (Some(Hasher::default()), 0);
        } else {
            self.forget_hash();
        }
        Ok(())
    }

    /// Adds the artifact as it is now to the store, and returns its digest and size. It is copied only if it is written to again. Calls
    /// `check` as [`finish_unless`](Self::finish_unless) does.
    pub fn share(&mut self, check: &mut dyn FnMut() -> io::Result<()>) -> Result<(Digest, u64), StoreError> {
        let digest = self.digest(check)?;
        match std::mem::replace(&mut self.body, Body::Memory(Vec::new())) {
            Body::Memory(bytes) => {
                self.blobs.put(&digest, &bytes)?;
                self.body = Body::Memory(bytes);
            }
            Body::Staged(staged) => {
                land_file(&self.blobs, &self.index, &digest, staged)?;
                let content = match self.blobs.get_large(&digest, &self.index)? {
                    Some(file) => Content::Large(file),
                    None => Content::Bytes(self.blobs.get(&digest, &self.index)?),
                };
                self.body = Body::Shared(content, digest);
            }
            shared @ Body::Shared(..) => self.body = shared,
        }
        Ok((digest, self.len))
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
        Ok(match (whole, &self.body) {
            (_, Body::Shared(_, digest)) => *digest,
            (Some(hasher), _) => hasher.finish(),
            (None, Body::Memory(bytes)) => Digest::of(bytes),
            (None, Body::Staged(staged)) => staged
                .with(|file| digest_of(|at, buffer| file.read_at(buffer, at), check))
                .map_err(StoreError::file("read", staged.path()))?,
        })
    }

    fn land(self, digest: &Digest) -> Result<(), StoreError> {
        match self.body {
            Body::Memory(bytes) => self.blobs.put(digest, &bytes),
            Body::Staged(staged) => land_file(&self.blobs, &self.index, digest, staged),
            Body::Shared(..) => Ok(()),
        }
    }

    fn forget_hash(&mut self) {
        self.hasher = None;
    }

    /// Copies an artifact that is in the store, so that it can be written to.
    fn unshare(&mut self) -> io::Result<()> {
        if let Body::Shared(content, _) = &self.body {
            let (file, path) = self.blobs.stage()?;
            content.copy_to(&file)?;
            self.body = Body::Staged(Handle::new(path, file, true));
        }
        Ok(())
    }

    /// Moves an artifact of more than `most` bytes from memory to a staging file.
    fn stage_beyond(&mut self, most: u64, end: u64) -> io::Result<()> {
        let Body::Memory(bytes) = &self.body else {
            return Ok(());
        };
        if end <= most {
            return Ok(());
        }
        let (file, path) = self.blobs.stage()?;
        file.write_all_at(bytes, 0)?;
        self.body = Body::Staged(Handle::new(path, file, true));
        Ok(())
    }
}

/// Moves a staging file to its place in the store.
fn land_file(blobs: &Blobs, index: &Mutex<Index>, digest: &Digest, staged: Handle<TempPath>) -> Result<(), StoreError> {
    staged
        .with(|file| file.set_permissions(Permissions::from_mode(0o444)))
        .map_err(StoreError::file("write", staged.path()))?;
    blobs.take(digest, staged.into_path())?;
    // its first reader need not hash it again
    if let Some(stamp) = blobs.stamp(digest) {
        let index = index.lock().unwrap_or_else(PoisonError::into_inner);
        index.set_verified(digest, &stamp)?;
    }
    Ok(())
}
