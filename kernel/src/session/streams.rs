use serde::Deserialize;

use crate::output::{MimeBundle, Output, Stream};

/// The start of an escape sequence that a guest writes into its text: `ESC ] 9 ; lockstep ; WORD ; JSON ESC \`. Terminals
/// ignore it. JSON contains no escape character, so the first one ends the sequence.
const OURS: &[u8] = b"\x1b]9;lockstep;";
const END: &[u8] = b"\x1b\\";

/// The markers around a value in evcxr's convention: the media type is on the same line, the value on the next ones.
/// <https://github.com/evcxr/evcxr/blob/main/evcxr_jupyter/README.md>, "Custom output".
const EVCXR_BEGIN: &[u8] = b"EVCXR_BEGIN_CONTENT ";
const EVCXR_END: &[u8] = b"\nEVCXR_END_CONTENT";

/// The maximum length of a sequence. A longer one is shown as text.
const LONGEST: usize = 64 << 20;

/// Forwards a cell's output as it arrives. Extracts rich values, and holds back the failure message, which is shown as an
/// error.
#[derive(Default)]
pub(super) struct Streams {
    stdout: Held,
    stderr: Held,
    failure: Option<Vec<u8>>,
    prompt: Option<Prompt>,
    /// The ids of displays.
    pub displays: Displays,
    /// The number of log bytes read.
    seen: u64,
}

/// Converts the numbers that a cell gives its displays to ids that are unique among all cells.
///
/// A handle of a display can't be stored, so a later cell runs the cells again that made its handles, once for each variable that it needs
/// from them. The displays of these runs are not shown, but are counted; they stand for those that the earlier cells have shown.
#[derive(Default)]
pub(super) struct Displays {
    /// What the ids of this cell start with.
    pub name: String,
    /// The ids of the displays of the cells that are run again, in order.
    pub earlier: Vec<String>,
    /// How many times these cells are run again.
    pub times: usize,
    /// The ids of the cell's own displays, in order.
    pub own: Vec<String>,
}

impl Displays {
    fn shown(&mut self, number: &str) -> String {
        let id = format!("{}-{number}", self.name);
        self.own.push(id.clone());
        id
    }

    fn named(&self, number: &str) -> String {
        let is_earlier = |n: &usize| *n < self.times * self.earlier.len();
        match number.parse().ok().filter(is_earlier) {
            Some(n) => self.earlier[n % self.earlier.len()].clone(),
            None => format!("{}-{number}", self.name),
        }
    }
}

/// The end of a stream so far, if it may be the start of a sequence.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// Whether the next byte is within a line.
    mid_line: bool,
    /// Whether a following line feed belongs to the extracted sequence.
    ends_line: bool,
}

/// The prompt of a cell that reads from stdin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Prompt {
    pub prompt: String,
    pub password: bool,
}

/// The JSON of `show` and `update`: a value and its display id.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    id: Option<String>,
    bundle: MimeBundle,
}

#[derive(Deserialize)]
struct Clear {
    wait: bool,
}

impl Streams {
    /// Processes the next bytes of a stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], output: &mut dyn Output) {
        self.seen += bytes.len() as u64;
        if let (Some(failure), Stream::Stderr) = (&mut self.failure, stream) {
            return failure.extend_from_slice(bytes);
        }
        let held = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let joined;
        let mut rest = match held.bytes.is_empty() {
            true => bytes,
            false => {
                held.bytes.extend_from_slice(bytes);
                joined = std::mem::take(&mut held.bytes);
                &joined
            }
        };
        while !rest.is_empty() {
            let held = match stream {
                Stream::Stdout => &mut self.stdout,
                Stream::Stderr => &mut self.stderr,
            };
            if std::mem::take(&mut held.ends_line) {
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            let (text, then) = next(rest, held.mid_line);
            if !text.is_empty() {
                held.mid_line = !text.ends_with(b"\n");
                output.stream(stream, text);
            }
            match then {
                Then::End => return,
                Then::Hold(from) => {
                    held.bytes = from.to_vec();
                    return;
                }
                Then::Ours { body, after } => {
                    rest = after;
                    held.mid_line = false;
                    if body == b"failing" {
                        let failure = self.failure.insert(Vec::new());
                        if stream == Stream::Stderr {
                            return failure.extend_from_slice(rest);
                        }
                    } else {
                        self.obey(body, output);
                    }
                }
                Then::Evcxr {
                    media_type,
                    value,
                    after,
                } => {
                    rest = after;
                    held.ends_line = true;
                    let value = String::from_utf8_lossy(value).into_owned();
                    let media_type = String::from_utf8_lossy(media_type);
                    output.display(MimeBundle::default().with(media_type.trim(), value), None);
                }
            }
        }
    }

    /// Executes a sequence. Ignores a malformed one, as terminals do.
    fn obey(&mut self, body: &[u8], output: &mut dyn Output) {
        let split = body.iter().position(|byte| *byte == b';').unwrap_or(body.len());
        let json = body.get(split + 1..).unwrap_or_default();
        match &body[..split] {
            b"show" => {
                if let Ok(Shown { id, bundle }) = serde_json::from_slice(json) {
                    let id = id.map(|id| self.displays.shown(&id));
                    output.display(bundle, id.as_deref());
                }
            }
            b"update" => {
                if let Ok(Shown { id: Some(id), bundle }) = serde_json::from_slice(json) {
                    output.update(bundle, &self.displays.named(&id));
                }
            }
            b"clear" => {
                if let Ok(Clear { wait }) = serde_json::from_slice(json) {
                    output.clear(wait);
                }
            }
            b"prompt" => self.prompt = serde_json::from_slice(json).ok(),
            _ => {}
        }
    }

    /// Returns the number of bytes read. A run of the same cell with more on stdin has new output after them.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the cell's last prompt.
    pub fn take_prompt(&mut self) -> Prompt {
        self.prompt.take().unwrap_or_default()
    }

    /// Flushes the held bytes. Returns the cell's failure message.
    pub fn finish(&mut self, output: &mut dyn Output) -> String {
        for (stream, held) in [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)] {
            if !held.bytes.is_empty() {
                output.stream(stream, &std::mem::take(&mut held.bytes));
            }
        }
        String::from_utf8_lossy(&self.failure.take().unwrap_or_default())
            .trim()
            .to_owned()
    }
}

/// What follows some text.
enum Then<'a> {
    End,
    /// A possible start of a sequence.
    Hold(&'a [u8]),
    Ours {
        body: &'a [u8],
        after: &'a [u8],
    },
    Evcxr {
        media_type: &'a [u8],
        value: &'a [u8],
        after: &'a [u8],
    },
}

/// Splits off the text at the start of `bytes`.
fn next(bytes: &[u8], mid_line: bool) -> (&[u8], Then<'_>) {
    let mut at = 0;
    while let Some(found) = candidate(&bytes[at..], mid_line || at > 0) {
        let begin = at + found;
        let rest = &bytes[begin..];
        match special(rest) {
            None => at = begin + 1,
            Some(then) => return (&bytes[..begin], then),
        }
    }
    (bytes, Then::End)
}

/// Finds a possible start of a sequence: an escape character, or the first letter of evcxr's marker at the start of a line.
fn candidate(bytes: &[u8], mid_line: bool) -> Option<usize> {
    let starts_line = |at: usize| match at {
        0 => !mid_line,
        at => bytes[at - 1] == b'\n',
    };
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| matches!(byte, 0x1b | b'E'))?;
        if bytes[at] == 0x1b || starts_line(at) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Parses the sequence at the start of `bytes`; `None` if it is text.
fn special(bytes: &[u8]) -> Option<Then<'_>> {
    let start = if bytes[0] == 0x1b { OURS } else { EVCXR_BEGIN };
    let common = start.len().min(bytes.len());
    if bytes[..common] != start[..common] {
        return None;
    }
    let body = &bytes[common..];
    let found = match start == OURS {
        true => find(body, END).map(|end| Then::Ours {
            body: &body[..end],
            after: &body[end + END.len()..],
        }),
        false => evcxr(body),
    };
    found.or_else(|| (bytes.len() <= LONGEST).then_some(Then::Hold(bytes)))
}

fn evcxr(body: &[u8]) -> Option<Then<'_>> {
    let line = body.iter().position(|byte| *byte == b'\n')?;
    let end = line + find(&body[line..], EVCXR_END)?;
    Some(Then::Evcxr {
        media_type: &body[..line],
        value: body.get(line + 1..end).unwrap_or_default(),
        after: &body[end + EVCXR_END.len()..],
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Seen(Vec<u8>);

    impl Output for Seen {
        fn stream(&mut self, _: Stream, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn display(&mut self, bundle: MimeBundle, id: Option<&str>) {
            self.0.extend(format!("<{id:?} {:?}>", bundle.data).into_bytes());
        }
        fn update(&mut self, bundle: MimeBundle, id: &str) {
            self.0.extend(format!("<again {id} {:?}>", bundle.data).into_bytes());
        }
        fn clear(&mut self, wait: bool) {
            self.0.extend(format!("<clear {wait}>").into_bytes());
        }
        fn progress(&mut self, _: Option<u8>) {}
    }

    /// Pushes `said` in pieces of a size. Returns the shown text and the failure message.
    fn read(stream: Stream, said: &[u8], size: usize) -> (String, String) {
        let (mut seen, mut streams) = (Seen::default(), Streams::default());
        streams.displays.name = "cell".into();
        said.chunks(size).for_each(|chunk| streams.push(stream, chunk, &mut seen));
        let failure = streams.finish(&mut seen);
        (String::from_utf8_lossy(&seen.0).into_owned(), failure)
    }

    #[test]
    fn a_failure_is_held_back_for_any_chunk_size() {
        let said = b"a\x1b[31mred\x1b]9;4;0\x1b\\c\x1b]9;lockstep;failing\x1b\\thread 'main' panicked";
        for size in 1..said.len() {
            let (seen, failure) = read(Stream::Stderr, said, size);
            assert_eq!(failure, "thread 'main' panicked");
            assert_eq!(seen, "a\x1b[31mred\x1b]9;4;0\x1b\\c", "{size}");
        }
    }

    #[test]
    fn values_are_shown_in_order_for_any_chunk_size() {
        let said = b"one\n\x1b]9;lockstep;show;{\"id\":\"1\",\"bundle\":{\"data\":{\"a/b\":\"v\"}}}\x1b\\two\
            \x1b]9;lockstep;update;{\"id\":\"1\",\"bundle\":{\"data\":{}}}\x1b\\\
            \x1b]9;lockstep;clear;{\"wait\":true}\x1b\\\x1b]9;lockstep;show;nonsense\x1b\\\n\
            EVCXR_BEGIN_CONTENT text/html\n<b>\n</b>\nEVCXR_END_CONTENT\nthree EVCXR_BEGIN_CONTENT x\nEVC";
        let expected = "one\n<Some(\"cell-1\") {\"a/b\": String(\"v\")}>two<again cell-1 {}><clear true>\n\
            <None {\"text/html\": String(\"<b>\\n</b>\")}>three EVCXR_BEGIN_CONTENT x\nEVC";
        for size in 1..said.len() {
            assert_eq!(read(Stream::Stdout, said, size).0, expected, "{size}");
        }
    }

    #[test]
    fn the_prompt_is_the_last() {
        let (mut seen, mut streams) = (Seen::default(), Streams::default());
        let said = b"\x1b]9;lockstep;prompt;{\"prompt\":\"name? \",\"password\":true}\x1b\\";
        streams.push(Stream::Stdout, said, &mut seen);
        let expected = Prompt {
            prompt: "name? ".into(),
            password: true,
        };
        assert_eq!(streams.take_prompt(), expected);
        assert_eq!(streams.take_prompt(), Prompt::default());
        assert_eq!((streams.seen(), seen.0.len()), (said.len() as u64, 0));
    }

    proptest! {
        #[test]
        fn chunk_size_does_not_matter(
            parts in prop::collection::vec(prop_oneof![
                ".{0,6}".prop_map(String::into_bytes),
                Just(b"\n".to_vec()),
                Just(b"\x1b]9;lockstep;".to_vec()),
                Just(b"clear;{\"wait\":false}".to_vec()),
                Just(b"\x1b\\".to_vec()),
                Just(b"EVCXR_BEGIN_CONTENT text/plain\n".to_vec()),
                Just(b"EVCXR_END_CONTENT".to_vec()),
            ], 0..10),
            size in 1usize..9,
        ) {
            let said = parts.concat();
            let whole = read(Stream::Stdout, &said, said.len().max(1));
            prop_assert_eq!(read(Stream::Stdout, &said, size), whole);
        }
    }
}
