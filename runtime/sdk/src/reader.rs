use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::artifact::{create, media_type, open};
use crate::step::Ports;
use crate::{Input, Outputs, Result};

/// The bytes of an input, read as they are needed: for inputs larger than memory.
///
/// A step may also return one, which is then written as it is read:
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
    /// Reads from `source`.
    pub fn new(source: impl Read + 'static) -> Self {
        Self(BufReader::with_capacity(64 * 1024, Box::new(source)))
    }
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
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

    fn write(mut self, out: &Path, name: &str) -> Result<()> {
        create(&out.join(name), |file| {
            io::copy(&mut self, file)?;
            Ok(())
        })
    }
}
