use crate::sandbox::Stream;

/// What a guest wrote to stdout and stderr, in the order it wrote it.
///
/// The artifact is a row of chunks: one byte for the stream (1 stdout, 2 stderr), the length in 4 bytes (little-endian), the
/// bytes. Neighbours of one stream are one chunk, so that the artifact does not depend on how the writes were cut.
#[derive(Default, Debug)]
pub struct Log {
    bytes: Vec<u8>,
    /// Where the last chunk starts.
    last: Option<(Stream, usize)>,
}

/// A piece of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogChunk<'a> {
    /// Where the guest wrote it.
    pub stream: Stream,
    /// What it wrote.
    pub bytes: &'a [u8],
}

const HEADER: usize = 5;

impl Log {
    /// Takes in the next piece.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = match self.last {
            Some((last, start)) if last == stream => start,
            _ => {
                let start = self.bytes.len();
                self.bytes.push(match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                });
                self.bytes.extend([0; 4]);
                start
            }
        };
        self.bytes.extend_from_slice(bytes);
        let len = (self.bytes.len() - start - HEADER) as u32;
        self.bytes[start + 1..start + HEADER].copy_from_slice(&len.to_le_bytes());
        self.last = Some((stream, start));
    }

    /// The artifact's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The chunks of a log artifact; ends early where it is malformed.
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
        let mut whole = Log::default();
        whole.push(Stream::Stdout, b"hello");
        whole.push(Stream::Stderr, b"!");
        let mut cut = Log::default();
        for piece in [&b"he"[..], b"", b"llo"] {
            cut.push(Stream::Stdout, piece);
        }
        cut.push(Stream::Stderr, b"!");
        let bytes = whole.into_bytes();
        assert_eq!(bytes, cut.into_bytes());
        let read: Vec<_> = chunks(&bytes).map(|chunk| (chunk.stream, chunk.bytes)).collect();
        assert_eq!(read, [(Stream::Stdout, &b"hello"[..]), (Stream::Stderr, b"!")]);
        assert_eq!(chunks(&bytes[..bytes.len() - 1]).count(), 1);
    }
}
