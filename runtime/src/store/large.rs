use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::StoreError;
use super::handle::Handle;
use crate::digest::{Digest, Hasher};

/// Inputs of at least this size, in bytes, are read and not mapped: the pages of a map count as memory of the process.
pub(super) const LARGE: u64 = 256 << 20;

/// The content of an artifact, for sequential reading.
pub enum Content {
    /// In memory or mapped.
    Bytes(Bytes),
    /// In a large file.
    Large(LargeFile),
}

#[expect(clippy::len_without_is_empty, reason = "readers stop at the end anyway")]
impl Content {
    /// Returns the size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Large(file) => file.len(),
        }
    }

    /// Writes the content to an empty file. Blocks of zeros take no room in it.
    pub fn copy_to(&self, file: &File) -> io::Result<()> {
        let mut at = 0;
        while at < self.len() {
            let piece = self.piece(at, 64 << 10)?;
            if !is_sparse(&piece) {
                file.write_all_at(&piece, at)?;
            }
            at += piece.len() as u64;
        }
        file.set_len(at)
    }

    /// Reads at most `most` bytes from `offset`; empty at the end.
    pub fn piece(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..from.saturating_add(most).min(bytes.len())))
            }
            Self::Large(file) => {
                let left = usize::try_from(file.len().saturating_sub(offset)).unwrap_or(usize::MAX);
                let mut piece = vec![0; left.min(most)];
                file.read_at(offset, &mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

/// A large artifact that is read from its file.
pub struct LargeFile {
    file: Handle<PathBuf>,
    len: u64,
}

impl LargeFile {
    /// Opens the file at `path`; `None` if it is not large.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::file("read", path)(source)),
        };
        let len = file.metadata().map_err(StoreError::file("read", path))?.size();
        Ok((len >= LARGE).then(|| Self {
            file: Handle::new(path.to_owned(), file, false),
            len,
        }))
    }

    /// Returns the size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "it is large")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf` with the bytes from `offset`; fewer only at the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        self.file.with(|file| file.read_exact_at(&mut buf[..wanted], offset))?;
        Ok(wanted)
    }

    /// Returns the digest of the whole file.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        digest_of(|at, buffer| self.read_at(at, buffer), &mut || Ok(()))
    }

    pub(super) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.with(File::metadata)
    }
}

/// Returns whether a hole in place of these bytes saves disk space: they are all zero, and enough.
pub(super) fn is_sparse(data: &[u8]) -> bool {
    const BLOCK: usize = 4096;
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    data.len() >= BLOCK && data.chunks(BLOCK).all(|block| *block == ZEROS[..block.len()])
}

/// Returns the digest of everything that `read_at` returns, up to the end. Files are read this way and not mapped, since the pages of a
/// map count as memory of the process. Calls `check` after each MiB, and fails if it does.
pub(super) fn digest_of(
    read_at: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
    check: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Digest> {
    let (mut hasher, mut buffer, mut at) = (Hasher::default(), vec![0; 1 << 20], 0);
    loop {
        match read_at(at, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => {
                hasher.update(&buffer[..count]);
                at += count as u64;
                check()?;
            }
        }
    }
}
