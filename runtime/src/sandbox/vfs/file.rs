use std::io;

use crate::digest::Digest;
use crate::sandbox::{Check, Made, Sink, Storage};
use crate::step::Limit;

use super::errno::{Errno, Result, Stop};

/// Maximum size of a file in memory, in bytes. Most scratch files and many outputs are smaller.
const SMALL_FILE: u64 = 64 << 10;
/// Maximum total size of files in memory, in bytes.
const SMALL_FILES: u64 = 16 << 20;
/// The work of creating a file in the storage, and of removing it.
const CREATE: u64 = 50_000;
/// How many bytes of a file are copied at a time.
pub(super) const PIECE: usize = 256 << 10;

/// The space used by writable files, in bytes.
pub(super) struct Space {
    used: u64,
    pub(super) peak: u64,
    limit: u64,
    in_memory: u64,
    /// The work of creating files in the storage.
    pub(super) work: u64,
}

impl Space {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            used: 0,
            peak: 0,
            limit,
            in_memory: 0,
            work: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0 && self.in_memory == 0
    }

    fn resize(&mut self, from: u64, to: u64) -> Result<()> {
        let used = (self.used - from).checked_add(to).filter(|used| *used <= self.limit);
        self.used = used.ok_or(Stop::Limit(Limit::Output))?;
        self.peak = self.peak.max(self.used);
        Ok(())
    }
}

/// A file that the guest can write to.
pub(super) struct File {
    body: Body,
    len: u64,
}

enum Body {
    Memory(Vec<u8>),
    Stored(Box<dyn Sink>),
}

impl File {
    pub(super) fn new() -> Self {
        Self {
            body: Body::Memory(Vec::new()),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        match &mut self.body {
            _ if wanted == 0 => Ok(0),
            Body::Memory(bytes) => {
                let start = offset as usize;
                buf[..wanted].copy_from_slice(&bytes[start..start + wanted]);
                Ok(wanted)
            }
            Body::Stored(sink) => {
                // read everything, so that the guest never sees a short read of the disk
                let mut done = 0;
                while done < wanted {
                    match sink.read_at(offset + done as u64, &mut buf[done..wanted])? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        read => done += read,
                    }
                }
                Ok(done)
            }
        }
    }

    pub(super) fn write_at(&mut self, offset: u64, data: &[u8], space: &mut Space, storage: &dyn Storage) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = end_of(offset, data.len() as u64)?;
        if end > self.len {
            self.make_room(end, space, storage)?;
        }
        match &mut self.body {
            Body::Memory(bytes) => bytes[offset as usize..end as usize].copy_from_slice(data),
            Body::Stored(sink) => sink.write_at(offset, data)?,
        }
        self.len = self.len.max(end);
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64, space: &mut Space, storage: &dyn Storage) -> Result<()> {
        let len = end_of(len, 0)?;
        if len > self.len {
            self.make_room(len, space, storage)?;
            if let Body::Stored(sink) = &mut self.body {
                sink.set_len(len)?;
            }
        } else {
            space.resize(self.len, len)?;
            match &mut self.body {
                Body::Memory(bytes) => {
                    space.in_memory -= self.len - len;
                    bytes.truncate(len as usize);
                }
                Body::Stored(sink) => sink.set_len(len)?,
            }
        }
        self.len = len;
        Ok(())
    }

    /// Accounts for `len` bytes. Extends a small file in memory; moves a large one to the storage.
    fn make_room(&mut self, len: u64, space: &mut Space, storage: &dyn Storage) -> Result<()> {
        space.resize(self.len, len)?;
        if let Body::Memory(bytes) = &mut self.body {
            let in_memory = space.in_memory - self.len + len;
            if len <= SMALL_FILE && in_memory <= SMALL_FILES {
                space.in_memory = in_memory;
                bytes.resize(len as usize, 0);
            } else {
                let mut sink = storage.create()?;
                sink.write_at(0, bytes)?;
                space.work += CREATE;
                space.in_memory -= self.len;
                self.body = Body::Stored(sink);
            }
        }
        Ok(())
    }

    /// Releases its space.
    pub(super) fn discard(self, space: &mut Space) {
        space.used -= self.len;
        if matches!(self.body, Body::Memory(_)) {
            space.in_memory -= self.len;
        }
    }

    /// Returns whether it is in the storage.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.body, Body::Stored(_))
    }

    /// Stores it as it is now. Returns its digest and size.
    pub(super) fn share(&mut self, storage: &dyn Storage, check: &mut Check<'_>) -> io::Result<(Digest, u64)> {
        match &mut self.body {
            Body::Memory(bytes) => Ok((storage.put(bytes.clone().into())?, self.len)),
            Body::Stored(sink) => sink.share(check),
        }
    }

    /// Moves it to the storage.
    pub(super) fn finish(self, storage: &dyn Storage, check: &mut Check<'_>) -> io::Result<Made> {
        let (digest, size) = match self.body {
            Body::Stored(sink) => sink.finish(check)?,
            Body::Memory(bytes) => (storage.put(bytes.into())?, self.len),
        };
        Ok(Made::File { digest, size })
    }
}

/// Returns `offset + len`. Fails from 2^63, as in POSIX.
fn end_of(offset: u64, len: u64) -> Result<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= i64::MAX as u64 => Ok(end),
        _ => Err(Errno::TooBig.into()),
    }
}
