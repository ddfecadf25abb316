//! Output to stdout.

use std::fmt;
use std::io::{self, Write};

use crate::error::{Error, Result};

/// Prints to stdout, without colours if that is not a terminal. Ignores a closed pipe.
pub fn print(text: impl fmt::Display) -> Result<()> {
    written(write!(anstream::stdout().lock(), "{text}"))
}

/// Writes raw bytes to stdout.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    written(io::stdout().lock().write_all(bytes))
}

fn written(result: io::Result<()>) -> Result<()> {
    match result.and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::host(format_args!("can't write to stdout: {e}"))),
        _ => Ok(()),
    }
}
