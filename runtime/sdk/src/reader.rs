use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::artifact::{create, media_type, open};
use crate::step::Ports;
use crate::{Input, Outputs, Result};

/// The bytes of an input, read on demand: for inputs larger than memory.
///
/// A step may also return a reader, which is written while it is read:
///
/// ```
/// use lockstep::prelude::*;
/// use std::io::Read;
///
/// #[step]
/// fn first_megabyte(raw: Reader) -> Reader {
///     Reader::new(raw.take(1 << 20))
/// }
/// ```
pub struct Reader(BufReader<Box<dyn Read>>);

impl Reader {
    /// Creates a reader of `source`.
    pub fn new(source: impl Read + 'static) -> Self {
        Self(BufReader::with_capacity(64 * 1024, Box::new(source)))
    }
}

impl Read for Reader {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl BufRead for Reader {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    #[inline]
    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }

    #[inline]
    fn read_until(&mut self, delimiter: u8, to: &mut Vec<u8>) -> io::Result<usize> {
        self.up_to(delimiter, |bytes| to.extend_from_slice(bytes))
    }

    #[inline]
    fn skip_until(&mut self, delimiter: u8) -> io::Result<usize> {
        self.up_to(delimiter, |_| ())
    }

    #[inline]
    fn read_line(&mut self, to: &mut String) -> io::Result<usize> {
        let before = std::mem::take(to);
        // only the new bytes are checked, and a reused `String` keeps its capacity
        let (before, mut line) = match before.is_empty() {
            true => (String::new(), before.into_bytes()),
            false => (before, Vec::new()),
        };
        let read = self.read_until(b'\n', &mut line);
        let line = String::from_utf8(line).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the input is not UTF-8 text: convert it, for example with `iconv -f LATIN1 -t UTF-8`",
            )
        });
        match line {
            Ok(line) if before.is_empty() => *to = line,
            Ok(line) => *to = before + &line,
            Err(error) => {
                *to = before;
                read?;
                return Err(error);
            }
        }
        read
    }
}

/// The algorithm of std's [`BufRead`], with the crate memchr: std's own memchr is not vectorised on this target.
impl Reader {
    /// Passes all bytes up to and including the first `delimiter`, or to the end, to `take`. Returns their number.
    #[inline]
    fn up_to(&mut self, delimiter: u8, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut read = 0;
        loop {
            let bytes = match self.0.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            let found = memchr::memchr(delimiter, bytes);
            let used = found.map_or(bytes.len(), |at| at + 1);
            take(&bytes[..used]);
            self.0.consume(used);
            read += used;
            if found.is_some() || used == 0 {
                return Ok(read);
            }
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Input for Reader {
    const MEDIA_TYPE: &'static str = media_type::BYTES;

    fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(open(path)?))
    }
}

impl Outputs for Reader {
    const PORTS: Ports = Ports::One(media_type::BYTES);

    fn write_outputs(mut self, out: &Path, name: &str) -> Result<()> {
        create(&out.join(name), |file| {
            io::copy(&mut self, file)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Test bytes: more than one buffer, lines across its end, and no newline at the end.
    fn bytes() -> Vec<u8> {
        let lines = (0..9_000).map(|line| format!("{line} {}\n", "é".repeat(line % 23)));
        let mut bytes = lines.collect::<String>().into_bytes();
        bytes.extend_from_slice(b"last");
        bytes
    }

    fn readers() -> (Reader, Cursor<Vec<u8>>) {
        (Reader::new(Cursor::new(bytes())), Cursor::new(bytes()))
    }

    #[test]
    fn lines_are_those_of_std() {
        let (ours, std) = readers();
        let ours: Vec<String> = ours.lines().map(Result::unwrap).collect();
        assert!(ours.iter().map(String::len).sum::<usize>() > 2 * 64 * 1024);
        assert_eq!(ours, std.lines().map(Result::unwrap).collect::<Vec<_>>());
        let (ours, std) = readers();
        let ours: Vec<Vec<u8>> = ours.split(b' ').map(Result::unwrap).collect();
        assert_eq!(ours, std.split(b' ').map(Result::unwrap).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_read_comes_behind_what_is_there() {
        let (mut ours, mut std) = readers();
        let (mut line, mut expected) = (String::new(), String::new());
        for _ in 0..3 {
            let counts = (ours.read_line(&mut line).unwrap(), std.read_line(&mut expected).unwrap());
            assert_eq!(counts.0, counts.1);
        }
        assert_eq!(line, expected);
        assert_eq!(ours.skip_until(b'\n').unwrap(), std.skip_until(b'\n').unwrap());
        assert_eq!(ours.read_line(&mut line).unwrap(), std.read_line(&mut expected).unwrap());
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_that_is_no_text_leaves_what_was_there() {
        let mut reader = Reader::new(Cursor::new(b"a\n\xff\nb"));
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let error = reader.read_line(&mut line).unwrap_err();
        assert_eq!((error.kind(), line.as_str()), (io::ErrorKind::InvalidData, "a\n"));
        assert_eq!((reader.read_line(&mut line).unwrap(), line.as_str()), (1, "a\nb"));
        assert_eq!(reader.read_line(&mut line).unwrap(), 0);
    }
}
