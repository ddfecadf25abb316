//! What a guest wrote, made safe for a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Maximum length of a sequence that is kept.
const LONGEST: usize = 64;

/// Escapes what could steer a terminal, as in `\u{1b}`: a guest must not move the cursor, set the title or the clipboard, or make the
/// terminal answer. Colours, erasing of the line, tabs and line ends are kept.
///
/// The text may be cut anywhere, even in a character or a sequence.
#[derive(Debug, Default)]
pub struct Filter {
    held: Vec<u8>,
    /// Whether a colour is set.
    is_coloured: bool,
}

impl Filter {
    /// Returns the next bytes as safe text. Invalid UTF-8 becomes U+FFFD.
    pub fn read(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let (ready, rest) = held.split_at(held.len() - cut(&held));
        self.held = rest.to_vec();
        self.safe(&String::from_utf8_lossy(ready))
    }

    /// Returns the text that was held back, and resets the colours.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        let mut rest = self.safe(&String::from_utf8_lossy(&held));
        if std::mem::take(&mut self.is_coloured) {
            rest.push_str("\x1b[0m");
        }
        rest
    }

    fn safe(&mut self, text: &str) -> String {
        let mut safe = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(is_control) {
            safe.push_str(&rest[..at]);
            rest = &rest[at..];
            let kept = kept_sequence(rest);
            if kept > 0 {
                if rest.as_bytes()[kept - 1] == b'm' {
                    self.is_coloured = !matches!(&rest[..kept], "\x1b[m" | "\x1b[0m");
                }
                safe.push_str(&rest[..kept]);
                rest = &rest[kept..];
            } else if let Some(control) = rest.chars().next() {
                safe.extend(control.escape_default());
                rest = &rest[control.len_utf8()..];
            }
        }
        safe.push_str(rest);
        safe
    }
}

/// Writes text to stdout: exactly, or safe for a terminal if that is one.
pub fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.is_terminal() {
        true => stdout.write_all(safe(text).as_bytes()),
        false => stdout.write_all(text.as_bytes()),
    }
}

/// Returns the whole text, safe for a terminal.
pub fn safe(text: &str) -> Cow<'_, str> {
    match text.contains(is_control) {
        true => Filter::default().safe(text).into(),
        false => text.into(),
    }
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// Returns the length of the sequence at the start of `text`, if it sets a colour or erases the line.
fn kept_sequence(text: &str) -> usize {
    let Some(body) = text.strip_prefix("\x1b[") else { return 0 };
    let end = body.bytes().position(|byte| !is_parameter(byte)).unwrap_or(body.len());
    match body.as_bytes().get(end) {
        Some(b'm' | b'K') if end < LONGEST => "\x1b[".len() + end + 1,
        _ => 0,
    }
}

fn is_parameter(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b';' | b':')
}

/// Returns the number of bytes at the end that are an incomplete sequence or character.
fn cut(bytes: &[u8]) -> usize {
    let window = &bytes[bytes.len().saturating_sub(LONGEST)..];
    if let Some(at) = window.iter().rposition(|byte| *byte == 0x1b) {
        let sequence = &window[at..];
        let starts = matches!(sequence, [_] | [_, b'[', ..]);
        if starts && sequence[1..].iter().skip(1).all(|byte| is_parameter(*byte)) {
            return sequence.len();
        }
    }
    match window.utf8_chunks().last() {
        // a whole character of up to 4 bytes never starts with an incomplete one
        Some(chunk) if window.ends_with(chunk.invalid()) && !chunk.invalid().is_empty() => {
            let incomplete = std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if incomplete { chunk.invalid().len() } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_nothing_else() {
        assert_eq!(safe("plain\tgrün\r\n"), "plain\tgrün\r\n");
        assert_eq!(
            safe("\x1b[1;31mred\x1b[0m \x1b[38:5:9mx\x1b[2K"),
            "\x1b[1;31mred\x1b[0m \x1b[38:5:9mx\x1b[2K"
        );
        for (hostile, shown) in [
            ("\x1b[2J", "\\u{1b}[2J"),
            ("\x1b[6n", "\\u{1b}[6n"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\x1b]52;c;aGk=\x1b\\", "\\u{1b}]52;c;aGk=\\u{1b}\\"),
            ("\x1bPq\x1b\\", "\\u{1b}Pq\\u{1b}\\"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\x08b\x7f", "a\\u{8}b\\u{7f}"),
            ("\x1b[?1049h", "\\u{1b}[?1049h"),
            ("\x1b", "\\u{1b}"),
        ] {
            assert_eq!(safe(hostile), shown);
        }
        let long = format!("\x1b[{}m", "1;".repeat(100));
        assert!(safe(&long).starts_with("\\u{1b}[1;"));
    }

    #[test]
    fn cuts_do_not_matter_and_colours_end() {
        let text = "grün \x1b[31mrot\x1b]0;t\x07 👩\u{200d}🔬 \x1b[2K\x1b".as_bytes();
        let whole = "grün \x1b[31mrot\\u{1b}]0;t\\u{7} 👩\u{200d}🔬 \x1b[2K\\u{1b}\x1b[0m";
        for size in 1..text.len() {
            let mut filter = Filter::default();
            let mut read: String = text.chunks(size).map(|piece| filter.read(piece)).collect();
            read += &filter.finish();
            assert_eq!(read, whole, "{size}");
        }
        let mut filter = Filter::default();
        assert_eq!(filter.read(b"a\xffb\xc3"), "a\u{fffd}b");
        assert_eq!(filter.finish(), "\u{fffd}");
        let endless = [b"\x1b[".as_slice(), &[b'1'; 1000]].concat();
        assert!(filter.read(&endless).len() > 900);
    }
}
