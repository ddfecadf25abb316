//! Output to stdout.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::terminal;

/// Prints text with styles to stdout: without them if that is not a terminal, and otherwise without anything that could steer it. Ignores
/// a closed pipe.
pub fn print(text: impl fmt::Display) -> Result<()> {
    let text = text.to_string();
    let text = match io::stdout().is_terminal() {
        true => terminal::safe(&text),
        false => text.into(),
    };
    written(anstream::stdout().lock().write_all(text.as_bytes()))
}

/// Prints text without styles to stdout: exactly, or without anything that could steer it if that is a terminal.
pub fn print_plain(text: &str) -> Result<()> {
    written(terminal::write(text))
}

/// Prints a value as a line of JSON to stdout.
pub fn print_json(value: &Value) -> Result<()> {
    print_plain(&format!("{value}\n"))
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
