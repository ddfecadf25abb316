use std::io;

use crate::sandbox::Stream;
use crate::step::{Artifact, MediaType};
use crate::store::{Store, StoreError, Writer};

/// A guest's stdout and stderr, in the order of writing.
///
/// The artifact is a sequence of chunks: one byte for the stream (1 stdout, 2 stderr), the length in 4 bytes (little-endian), the
/// bytes. Adjacent chunks of one stream are merged as long as the length fits, so the artifact does not depend on how the guest split its
/// writes.
///
/// Only the newest bytes of a large log are in memory.
pub(super) struct Log {
    store: Store,
    /// The part on disk.
    written: Option<Writer>,
    /// The part after that.
    newest: Vec<u8>,
    /// The last chunk: its stream, start and length.
    last: Option<(Stream, u64, u64)>,
    /// Maximum length of a chunk.
    longest: u64,
    failed: Option<io::Error>,
}

/// A piece of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogChunk<'a> {
    /// The stream.
    pub stream: Stream,
    /// The bytes.
    pub bytes: &'a [u8],
}

const HEADER: usize = 5;

/// Maximum number of bytes in memory.
const IN_MEMORY: usize = 256 << 10;

impl Log {
    /// Creates an empty log, to be put into `store`.
    pub(super) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            written: None,
            newest: Vec::new(),
            last: None,
            longest: u32::MAX.into(),
            failed: None,
        }
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = match self.last {
                Some((last, _, len)) if last == stream && len < self.longest => self.longest - len,
                _ => self.longest,
            };
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.push_within(stream, &bytes[..fits]);
            bytes = &bytes[fits..];
        }
    }

    /// Appends a piece that fits into the last chunk, or into a new one.
    fn push_within(&mut self, stream: Stream, bytes: &[u8]) {
        let (start, len) = match self.last {
            Some((last, start, len)) if last == stream && len < self.longest => (start, len),
            _ => {
                self.end_chunk();
                let start = self.written() + self.newest.len() as u64;
                self.newest.push(match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                });
                self.newest.extend([0; 4]);
                (start, 0)
            }
        };
        self.newest.extend_from_slice(bytes);
        self.last = Some((stream, start, len + bytes.len() as u64));
        if self.newest.len() > IN_MEMORY {
            self.write_out();
        }
    }

    /// Puts the log into the store.
    pub(super) fn finish(mut self) -> Result<Artifact, StoreError> {
        self.end_chunk();
        let media_type = MediaType::new(MediaType::LOG);
        if self.written.is_none() {
            return self.store.put_artifact(self.newest, &media_type);
        }
        self.write_out();
        let failed = StoreError::file("write", "a log of the store");
        let (digest, size) = match (self.failed, self.written) {
            (None, Some(writer)) => writer.finish()?,
            (failure, _) => return Err(failed(failure.unwrap_or_else(|| io::ErrorKind::Other.into()))),
        };
        let artifact = Artifact {
            digest,
            media_type,
            size,
        };
        self.store.note_artifact(&artifact)?;
        Ok(artifact)
    }

    fn written(&self) -> u64 {
        self.written.as_ref().map_or(0, Writer::len)
    }

    /// Writes the length of the last chunk into its header.
    fn end_chunk(&mut self) {
        let Some((_, start, len)) = self.last else { return };
        let (place, len) = (start + 1, (len as u32).to_le_bytes());
        match (place.checked_sub(self.written()), &mut self.written) {
            (Some(at), _) => self.newest[at as usize..][..len.len()].copy_from_slice(&len),
            (None, Some(writer)) => {
                let written = writer.write_at(place, &len);
                self.failed = self.failed.take().or(written.err());
            }
            (None, None) => {}
        }
    }

    fn write_out(&mut self) {
        let writer = self.written.get_or_insert_with(|| self.store.writer());
        let written = writer.write_at(writer.len(), &self.newest);
        self.newest.clear();
        self.failed = self.failed.take().or(written.err());
    }
}

/// Returns the chunks of a log artifact. Stops where it is malformed.
pub fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = LogChunk<'_>> {
    std::iter::from_fn(move || {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let stream = match header[0] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let (chunk, rest) = rest.split_at_checked(len as usize)?;
        bytes = rest;
        Some(LogChunk { stream, bytes: chunk })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_does_not_depend_on_how_writes_were_cut() {
        let store = Store::temporary().unwrap();
        let mut whole = Log::new(&store);
        whole.push(Stream::Stdout, b"hello");
        whole.push(Stream::Stderr, b"!");
        let mut cut = Log::new(&store);
        for piece in [&b"he"[..], b"", b"llo"] {
            cut.push(Stream::Stdout, piece);
        }
        cut.push(Stream::Stderr, b"!");
        let artifact = whole.finish().unwrap();
        assert_eq!(artifact, cut.finish().unwrap());
        let bytes = store.get(&artifact.digest).unwrap();
        let read: Vec<_> = chunks(&bytes).map(|chunk| (chunk.stream, chunk.bytes)).collect();
        assert_eq!(read, [(Stream::Stdout, &b"hello"[..]), (Stream::Stderr, b"!")]);
        assert_eq!(chunks(&bytes[..bytes.len() - 1]).count(), 1);
    }

    #[test]
    fn a_chunk_is_as_long_as_its_length_can_tell() {
        let store = Store::temporary().unwrap();
        let read = |size: usize| {
            let mut log = Log::new(&store);
            log.longest = 10;
            for stream in [Stream::Stdout, Stream::Stderr] {
                [7; 25].chunks(size).for_each(|piece| log.push(stream, piece));
            }
            let bytes = store.get(&log.finish().unwrap().digest).unwrap();
            chunks(&bytes)
                .map(|chunk| (chunk.stream, chunk.bytes.len()))
                .collect::<Vec<_>>()
        };
        let expected = [Stream::Stdout, Stream::Stderr].map(|stream| [(stream, 10), (stream, 10), (stream, 5)]);
        for size in [1, 3, 10, 25] {
            assert_eq!(read(size), expected.concat());
        }
    }

    #[test]
    fn a_long_log_is_the_same_whether_it_was_written_out_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let pieces = [
            (Stream::Stdout, 3 * IN_MEMORY),
            (Stream::Stderr, 7),
            (Stream::Stdout, 2 * IN_MEMORY),
            (Stream::Stderr, 1),
        ];
        for size in [1_000, IN_MEMORY - 3, 10 * IN_MEMORY] {
            let mut log = Log::new(&store);
            for (stream, len) in pieces {
                vec![b'x'; len].chunks(size).for_each(|piece| log.push(stream, piece));
            }
            let artifact = log.finish().unwrap();
            let bytes = store.get(&artifact.digest).unwrap();
            assert_eq!(artifact.size, bytes.len() as u64);
            let read: Vec<_> = chunks(&bytes).map(|chunk| (chunk.stream, chunk.bytes.len())).collect();
            assert_eq!(read, pieces);
        }
    }
}
