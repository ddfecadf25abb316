//! Splits the output of a guest into text and progress.
//!
//! Progress is the terminal's own escape sequence, OSC 9;4: `ESC ] 9 ; 4 ; 1 ; <percent>` and `ESC ] 9 ; 4 ; 0` at the end,
//! each ended by `ESC \` or BEL. Source: <https://conemu.github.io/en/AnsiEscapeCodes.html#ConEmu_specific_OSC>.

/// Maximum length of a progress sequence. A longer one is treated as text.
const LONGEST: usize = 32;

/// A part of a guest's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Text, including other escape sequences.
    Text(String),
    /// Percentage, 0 to 100; `None` at the end of the work.
    Progress(Option<u8>),
}

/// Parses one stream. It may be split anywhere, even in a character or an escape sequence.
#[derive(Debug, Default)]
pub struct Terminal {
    held: Vec<u8>,
}

impl Terminal {
    /// Parses the next bytes. Invalid UTF-8 becomes U+FFFD.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        let joined;
        let bytes = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            &joined
        };
        let (mut from, mut at) = (0, 0);
        while let Some(next) = bytes[at..].iter().position(|&byte| byte == 0x1b) {
            at += next;
            match sequence(&bytes[at..]) {
                Sequence::Progress(percent, len) => {
                    push_text(&mut said, &bytes[from..at]);
                    said.push(Said::Progress(percent));
                    at += len;
                    from = at;
                }
                Sequence::Other => at += 1,
                Sequence::Cut => {
                    push_text(&mut said, &bytes[from..at]);
                    self.held = bytes[at..].to_vec();
                    return said;
                }
            }
        }
        let rest = &bytes[from..];
        let whole = rest.len() - cut_character(rest);
        push_text(&mut said, &rest[..whole]);
        self.held = rest[whole..].to_vec();
        said
    }

    /// Returns the text that was held back, at the end of the stream.
    pub fn finish(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| String::from_utf8_lossy(&held).into_owned())
    }
}

fn push_text(said: &mut Vec<Said>, bytes: &[u8]) {
    if !bytes.is_empty() {
        said.push(Said::Text(String::from_utf8_lossy(bytes).into_owned()));
    }
}

enum Sequence {
    Progress(Option<u8>, usize),
    Other,
    Cut,
}

/// Parses the escape sequence at the start of `bytes`.
fn sequence(bytes: &[u8]) -> Sequence {
    const START: &[u8] = b"\x1b]9;4;";
    let common = START.len().min(bytes.len());
    if bytes[..common] != START[..common] {
        return Sequence::Other;
    }
    let body = &bytes[common..];
    let end = body.iter().enumerate().find_map(|(at, byte)| match (byte, body.get(at + 1)) {
        (0x07, _) => Some((at, at + 1)),
        (0x1b, Some(b'\\')) => Some((at, at + 2)),
        _ => None,
    });
    match end {
        Some((end, next)) if end <= LONGEST => match percent(&body[..end]) {
            Some(percent) => Sequence::Progress(percent, common + next),
            None => Sequence::Other,
        },
        None if body.len() <= LONGEST => Sequence::Cut,
        _ => Sequence::Other,
    }
}

fn percent(body: &[u8]) -> Option<Option<u8>> {
    let mut fields = std::str::from_utf8(body).ok()?.split(';');
    match (fields.next()?, fields.next()) {
        ("0", _) => Some(None),
        ("1", Some(percent)) => percent.parse().ok().filter(|percent| *percent <= 100).map(Some),
        _ => None,
    }
}

/// Returns the number of bytes at the end that are an incomplete character.
fn cut_character(bytes: &[u8]) -> usize {
    let window = &bytes[bytes.len().saturating_sub(3)..];
    let Some(back) = window.iter().rev().position(|&byte| byte >= 0xc0) else {
        return 0;
    };
    let have = back + 1;
    let need = match bytes[bytes.len() - have] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    };
    if have < need { have } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Said {
        Said::Text(text.to_owned())
    }

    #[test]
    fn progress_is_taken_out_and_other_sequences_are_left() {
        let mut terminal = Terminal::default();
        let said = terminal.read(b"a\x1b]9;4;1;42\x1b\\b\x1b[31mred\x1b]9;4;0\x07\x1b]9;4;1;101\x07");
        assert_eq!(
            said,
            [
                text("a"),
                Said::Progress(Some(42)),
                text("b\x1b[31mred"),
                Said::Progress(None),
                text("\x1b]9;4;1;101\x07"),
            ]
        );
        assert_eq!(terminal.finish(), None);
    }

    #[test]
    fn what_never_ends_is_text() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.read(b"x\x1b]9;4;1"), [text("x")]);
        assert_eq!(terminal.finish().as_deref(), Some("\x1b]9;4;1"));
        let endless = [b"\x1b]9;4;".as_slice(), &[b'1'; 100]].concat();
        assert_eq!(terminal.read(&endless).len(), 1);
    }

    fn merged(said: impl IntoIterator<Item = Said>) -> Vec<Said> {
        let mut merged: Vec<Said> = Vec::new();
        for one in said {
            match (merged.last_mut(), one) {
                (Some(Said::Text(before)), Said::Text(more)) => before.push_str(&more),
                (_, one) => merged.push(one),
            }
        }
        merged
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            parts in prop::collection::vec(prop_oneof![
                ".{0,6}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..4),
                Just(b"\x1b]9;4;1;7\x1b\\".to_vec()),
                Just(b"\x1b]9;4;0\x07".to_vec()),
                Just(b"\x1b]9;4;".to_vec()),
            ], 0..8),
            size in 1usize..9,
        ) {
            let bytes = parts.concat();
            let mut whole = Terminal::default();
            let mut expected = whole.read(&bytes);
            expected.extend(whole.finish().map(Said::Text));
            let mut cut = Terminal::default();
            let mut said: Vec<Said> = bytes.chunks(size).flat_map(|chunk| cut.read(chunk)).collect();
            said.extend(cut.finish().map(Said::Text));
            prop_assert_eq!(merged(said), merged(expected));
        }
    }
}
