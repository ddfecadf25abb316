use crate::output::{Output, Stream};

/// What `lockstep::cell` writes to stderr before it says why the cell fails.
const FAILING: &[u8] = b"\x1b]9;lockstep;failing\x1b\\";

/// Passes on what a cell writes, as it comes, but holds back what it says of its own failure: that is shown as an error.
#[derive(Default)]
pub(super) struct Streams {
    /// The end of stderr so far, if the sequence may begin there.
    held: Vec<u8>,
    failure: Option<Vec<u8>>,
}

impl Streams {
    /// Takes in the next bytes of a stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], output: &mut dyn Output) {
        if stream == Stream::Stdout {
            return output.stream(stream, bytes);
        }
        if let Some(failure) = &mut self.failure {
            return failure.extend_from_slice(bytes);
        }
        let mut bytes = [self.held.as_slice(), bytes].concat();
        let found = bytes.windows(FAILING.len()).position(|window| window == FAILING);
        let text = match found {
            Some(at) => {
                self.failure = Some(bytes.split_off(at + FAILING.len()));
                at
            }
            None => bytes.len() - beginning(&bytes),
        };
        self.held = match found {
            Some(_) => Vec::new(),
            None => bytes.split_off(text),
        };
        if text > 0 {
            output.stream(stream, &bytes[..text]);
        }
    }

    /// Passes on what was held back. Gives what the cell said of its failure.
    pub fn finish(self, output: &mut dyn Output) -> String {
        if !self.held.is_empty() {
            output.stream(Stream::Stderr, &self.held);
        }
        String::from_utf8_lossy(&self.failure.unwrap_or_default()).trim().to_owned()
    }
}

/// How many bytes at the end of `bytes` may be the beginning of the sequence.
fn beginning(bytes: &[u8]) -> usize {
    let longest = bytes.len().min(FAILING.len() - 1);
    (1..=longest)
        .rev()
        .find(|length| bytes.ends_with(&FAILING[..*length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::MimeBundle;

    #[derive(Default)]
    struct Seen(String);

    impl Output for Seen {
        fn stream(&mut self, _: Stream, bytes: &[u8]) {
            self.0.push_str(&String::from_utf8_lossy(bytes));
        }
        fn display(&mut self, _: MimeBundle) {}
        fn progress(&mut self, _: Option<u8>) {}
    }

    #[test]
    fn a_failure_is_held_back_however_it_is_cut() {
        let said = b"a\x1b[31mred\x1b]9;4;0\x1b\\c\x1b]9;lockstep;failing\x1b\\thread 'main' panicked";
        for size in 1..said.len() {
            let mut seen = Seen::default();
            let mut streams = Streams::default();
            said.chunks(size)
                .for_each(|chunk| streams.push(Stream::Stderr, chunk, &mut seen));
            assert_eq!(streams.finish(&mut seen), "thread 'main' panicked");
            assert_eq!(seen.0, "a\x1b[31mred\x1b]9;4;0\x1b\\c", "{size}");
        }
    }

    #[test]
    fn an_escape_at_the_end_is_text() {
        let mut seen = Seen::default();
        let mut streams = Streams::default();
        streams.push(Stream::Stderr, b"a\x1b]9", &mut seen);
        assert_eq!(seen.0, "a");
        streams.finish(&mut seen);
        assert_eq!(seen.0, "a\x1b]9");
    }
}
