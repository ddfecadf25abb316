//! Extracts failure messages from the end of stderr.

use crate::step::Failure;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 2 << 10;

/// Returns the last complete lines of stderr.
pub(super) fn message(stderr: &[u8]) -> String {
    let text = plain(stderr);
    last_lines(text.trim()).to_owned()
}

/// Parses a Rust panic message at the end of stderr:
///
/// ```text
/// thread 'main' panicked at src/main.rs:2:5:
/// the message
/// note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
/// ```
pub(super) fn panic(stderr: &[u8]) -> Option<Failure> {
    let text = plain(stderr);
    let start = text.rfind("\nthread '").map_or(0, |newline| newline + 1);
    let (thread, rest) = text[start..].split_once(" panicked at ")?;
    if !thread.starts_with("thread '") || thread.contains('\n') {
        return None;
    }
    let (location, said) = rest.split_once(":\n")?;
    let message = said.split("\nnote: run with `RUST_BACKTRACE").next().unwrap_or(said);
    Some(Failure::Panic {
        message: last_lines(message.trim_end()).to_owned(),
        location: Some(location.to_owned()),
    })
}

/// Returns the end of a text, starting at a line if possible.
fn last_lines(text: &str) -> &str {
    if text.len() <= MAX_MESSAGE {
        return text;
    }
    let mut start = text.len() - MAX_MESSAGE;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let end = &text[start..];
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}

/// Removes operating system commands (`ESC ] ... ESC \`), which carry progress.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split("\x1b]");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once("\x1b\\").map_or("", |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_recognised() {
        let stderr = b"working\x1b]9;4;1;50\x1b\\\n\nthread 'main' (1) panicked at src/lib.rs:2:5:\nno rows\nat all\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        let failure = panic(stderr).unwrap();
        assert_eq!(failure.to_string(), "panicked at src/lib.rs:2:5: no rows\nat all");
        assert_eq!(panic(b"memory allocation of 8 bytes failed\n"), None);
    }

    #[test]
    fn a_message_is_the_last_whole_lines() {
        assert_eq!(message(b"\x1b]9;4;1;50\x1b\\error: no\n  cause\n\n"), "error: no\n  cause");
        let long = format!("{}\n{}\n", "a".repeat(3000), "b".repeat(100));
        assert_eq!(message(long.as_bytes()), "b".repeat(100));
        assert_eq!(message("é".repeat(3000).as_bytes()).len(), 2048);
    }
}
