//! Logs of guests as lines. Keeps the stream and colours, and drops other terminal sequences.

use lockstep_runtime::sandbox::Stream;
use maud::{Markup, html};

/// Maximum number of lines; the last ones are shown.
const LINES: usize = 2_000;
/// Maximum length of a line in characters.
const LINE: usize = 4_000;

/// Renders a log.
pub fn log(said: &[(Stream, String)]) -> Markup {
    let mut lines: Vec<(Stream, &str)> = Vec::new();
    for (stream, text) in said {
        lines.extend(text.lines().map(|line| (*stream, line)));
    }
    let left_out = lines.len().saturating_sub(LINES);
    let (mut out, mut err) = (Pen::default(), Pen::default());
    html! {
        @if left_out > 0 { p.dim { (left_out) " earlier lines omitted; download the log for all lines" } }
        div.log tabindex="0" role="region" aria-label="Log" {
            @for (stream, line) in &lines[left_out..] {
                @let is_error = *stream == Stream::Stderr;
                div.line {
                    span.stream { @if is_error { "err" } @else { "out" } }
                    code { @for (class, text) in spans(line, if is_error { &mut err } else { &mut out }) {
                        @if class.is_empty() { (text) } @else { span class=(class) { (text) } }
                    } }
                }
            }
        }
    }
}

/// Current text style.
#[derive(Default)]
struct Pen {
    bold: bool,
    dim: bool,
    italic: bool,
    underlined: bool,
    /// 1 to 7 as in `ESC [ 31 m`
    colour: Option<u8>,
}

impl Pen {
    fn class(&self) -> String {
        let mut classes = Vec::new();
        for (set, class) in [(self.bold, "b"), (self.dim, "d"), (self.italic, "i"), (self.underlined, "u")] {
            classes.extend(set.then(|| class.to_owned()));
        }
        classes.extend(self.colour.map(|colour| format!("c{colour}")));
        classes.join(" ")
    }

    /// Applies the parameters between `ESC [` and `m`.
    fn set(&mut self, numbers: &str) {
        let mut numbers = numbers.split([';', ':']).map(|number| number.parse().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underlined = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underlined = false,
                31..=37 => self.colour = Some(number - 30),
                91..=97 => self.colour = Some(number - 90),
                30 | 39 | 90 => self.colour = None,
                // skip colours of other palettes
                38 | 48 => {
                    let skipped = if numbers.next() == Some(5) { 1 } else { 3 };
                    numbers.by_ref().take(skipped).for_each(drop);
                }
                _ => (),
            }
        }
    }
}

/// Splits a line into pieces with CSS classes.
fn spans(line: &str, pen: &mut Pen) -> Vec<(String, String)> {
    // text before a carriage return is overwritten
    let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut spans = vec![(pen.class(), String::new())];
    let mut rest = line.chars().take(LINE);
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                if let Some(numbers) = sequence(&mut rest) {
                    pen.set(&numbers);
                    spans.push((pen.class(), String::new()));
                }
            }
            c => {
                if let Some((_, text)) = spans.last_mut() {
                    text.push(visible(c));
                }
            }
        }
    }
    spans.retain(|(_, text)| !text.is_empty());
    spans
}

/// Reads an escape sequence after its ESC. Returns the parameters of one that sets the style.
fn sequence(rest: &mut impl Iterator<Item = char>) -> Option<String> {
    match rest.next()? {
        '[' => {
            let mut numbers = String::new();
            for c in rest {
                match c {
                    '0'..='9' | ';' | ':' => numbers.push(c),
                    'm' => return Some(numbers),
                    '@'..='~' => return None,
                    _ => (),
                }
            }
            None
        }
        // a title or a link: ends with BEL or ESC \
        ']' => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || c == '\u{1b}' && rest.next().is_some() {
                    break;
                }
            }
            None
        }
        _ => None,
    }
}

/// Replaces control characters with visible symbols.
fn visible(c: char) -> char {
    match u32::from(c) {
        9 => c,
        code @ 0..32 => char::from_u32(0x2400 + code).unwrap_or(c),
        127 => '\u{2421}',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_classes_and_nothing_else_of_a_terminal_stays() {
        let mut pen = Pen::default();
        let written = spans("a\u{1b}[1;31mb\u{1b}[0m\u{1b}[2Jc\u{1b}]0;title\u{7}d\u{7}", &mut pen);
        let span = |class: &str, text: &str| (class.to_owned(), text.to_owned());
        assert_eq!(written, [span("", "a"), span("b c1", "b"), span("", "cd␇")]);
        assert_eq!(spans("10%\r20%\r", &mut pen), [span("", "20%")]);
        assert_eq!(
            spans("\u{1b}[38;5;9mx\u{1b}[38;2;1;2;3my", &mut pen),
            [span("", "x"), span("", "y")]
        );
    }

    #[test]
    fn colours_last_over_lines_of_their_stream() {
        let said = [
            (Stream::Stderr, "\u{1b}[32mgreen\n".to_owned()),
            (Stream::Stdout, "<b>plain\n".to_owned()),
            (Stream::Stderr, "still".to_owned()),
        ];
        let page = log(&said).into_string();
        assert!(page.contains("<span class=\"c2\">still</span>"), "{page}");
        assert!(page.contains("<code>&lt;b&gt;plain</code>"), "{page}");
    }
}
