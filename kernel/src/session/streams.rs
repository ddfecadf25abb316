use crate::output::{Output, Stream};

/// How the sequences begin that are for lockstep and not for people: `ESC ] 9 ; ... ESC \`.
const START: &[u8] = b"\x1b]9;";
/// What `lockstep::cell` writes before it says why the cell fails.
const FAILING: &str = "lockstep;failing";
/// The longest such sequence; what goes on for longer is text.
const LONGEST: usize = 64;

/// Passes on what a cell writes, as it comes: takes out progress, and holds back what the cell says of its own failure, because
/// that is shown as an error.
#[derive(Default)]
pub(super) struct Streams {
    out: Vec<u8>,
    err: Vec<u8>,
    failing: bool,
    progressing: bool,
    failure: Vec<u8>,
}

impl Streams {
    /// Takes in the next bytes of a stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], output: &mut dyn Output) {
        let mut bytes = [std::mem::take(self.held(stream)).as_slice(), bytes].concat();
        while let Some(escape) = bytes.iter().position(|byte| *byte == 0x1b) {
            self.text(stream, &bytes[..escape], output);
            bytes.drain(..escape);
            match sequence(&bytes) {
                Sequence::Whole { text, length } => {
                    self.obey(&text, output);
                    bytes.drain(..length);
                }
                Sequence::Part => {
                    *self.held(stream) = bytes;
                    return;
                }
                Sequence::Other => {
                    self.text(stream, &bytes[..1], output);
                    bytes.drain(..1);
                }
            }
        }
        self.text(stream, &bytes, output);
    }

    /// Passes on what was held back as the possible start of a sequence. Gives what the cell said of its failure.
    pub fn finish(mut self, output: &mut dyn Output) -> String {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.held(stream));
            self.text(stream, &rest, output);
        }
        if self.progressing {
            output.progress(None);
        }
        String::from_utf8_lossy(&self.failure).trim().to_owned()
    }

    /// What may be the start of a sequence.
    fn held(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }

    fn text(&mut self, stream: Stream, bytes: &[u8], output: &mut dyn Output) {
        if self.failing && stream == Stream::Stderr {
            self.failure.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            output.stream(stream, bytes);
        }
    }

    fn obey(&mut self, sequence: &str, output: &mut dyn Output) {
        if sequence == FAILING {
            self.failing = true;
        } else if let Some(progress) = sequence.strip_prefix("4;") {
            let percent = progress.strip_prefix("1;").and_then(|percent| percent.parse().ok());
            self.progressing = percent.is_some();
            output.progress(percent.map(|percent: u8| percent.min(100)));
        }
    }
}

enum Sequence {
    Whole { text: String, length: usize },
    Part,
    Other,
}

/// What `bytes`, which begin with ESC, are the beginning of.
fn sequence(bytes: &[u8]) -> Sequence {
    let shared = bytes.len().min(START.len());
    if bytes[..shared] != START[..shared] {
        return Sequence::Other;
    }
    let whole = |end: usize, terminator: usize| Sequence::Whole {
        text: String::from_utf8_lossy(&bytes[START.len()..end]).into_owned(),
        length: end + terminator,
    };
    let end = bytes.iter().skip(1).position(|byte| matches!(byte, 0x1b | 0x07)).map(|at| at + 1);
    match end.map(|end| (end, bytes[end], bytes.get(end + 1))) {
        Some((end, 0x07, _)) => whole(end, 1),
        Some((end, _, Some(b'\\'))) => whole(end, 2),
        Some((_, _, Some(_))) => Sequence::Other,
        None if bytes.len() > LONGEST => Sequence::Other,
        _ => Sequence::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::MimeBundle;

    #[derive(Default)]
    struct Seen {
        text: Vec<u8>,
        progress: Vec<Option<u8>>,
    }

    impl Output for Seen {
        fn stream(&mut self, _: Stream, bytes: &[u8]) {
            self.text.extend_from_slice(bytes);
        }
        fn display(&mut self, _: MimeBundle) {}
        fn progress(&mut self, percent: Option<u8>) {
            self.progress.push(percent);
        }
    }

    #[test]
    fn progress_is_taken_out_however_it_is_cut() {
        let said = b"a\x1b]9;4;1;5\x1b\\b\x1b[31mred\x1b]9;4;0\x1b\\c\x1b]9;lockstep;failing\x1b\\thread 'main' panicked";
        for size in 1..said.len() {
            let mut seen = Seen::default();
            let mut streams = Streams::default();
            said.chunks(size).for_each(|chunk| streams.push(Stream::Stderr, chunk, &mut seen));
            assert_eq!(streams.finish(&mut seen), "thread 'main' panicked");
            assert_eq!(String::from_utf8_lossy(&seen.text), "ab\x1b[31mredc");
            assert_eq!(seen.progress, [Some(5), None], "{size}");
        }
    }

    #[test]
    fn an_escape_at_the_end_is_text() {
        let mut seen = Seen::default();
        let mut streams = Streams::default();
        streams.push(Stream::Stdout, b"a\x1b]9", &mut seen);
        assert_eq!(seen.text, b"a");
        streams.finish(&mut seen);
        assert_eq!(seen.text, b"a\x1b]9");
    }
}
