use std::fmt::{self, Write};

/// Formats text: returns all of it, or the first `most` bytes as the error if it is longer. Never allocates more than that.
pub(crate) fn bounded(most: usize, written: fmt::Arguments<'_>) -> Result<String, String> {
    let mut bounded = Bounded {
        text: String::new(),
        most,
    };
    match bounded.write_fmt(written) {
        Ok(()) => Ok(bounded.text),
        Err(fmt::Error) => Err(bounded.text),
    }
}

/// A text buffer of at most `most` bytes.
struct Bounded {
    text: String,
    most: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.most - self.text.len();
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Formats one line of at most `most` characters. Escapes control characters as in Rust, and ends a longer line with an
/// ellipsis.
pub(crate) fn cut(most: usize, written: fmt::Arguments<'_>) -> String {
    // a character has at most 4 bytes
    let (text, whole) = match bounded(4 * most, written) {
        Ok(text) => (text, true),
        Err(text) => (text, false),
    };
    let mut line = String::new();
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    if whole && line.chars().count() <= most {
        return line;
    }
    line.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_at_a_character() {
        assert_eq!(bounded(3, format_args!("{}", "abc")), Ok("abc".into()));
        assert_eq!(bounded(3, format_args!("{}{}", "ab", "cd")), Err("abc".into()));
        assert_eq!(bounded(3, format_args!("{}", "abä")), Err("ab".into()));
    }

    #[test]
    fn lines_are_cut() {
        assert_eq!(cut(5, format_args!("{}", "12345")), "12345");
        assert_eq!(cut(5, format_args!("{}", "123456")), "1234…");
        assert_eq!(cut(5, format_args!("{}", "äöüß€")), "äöüß€");
        assert_eq!(cut(5, format_args!("{}", "äöüß€x")), "äöüß…");
        assert_eq!(cut(9, format_args!("{}", "a\nb\x1b")), "a\\nb\\u{1…");
        assert_eq!(cut(5, format_args!("{}", "x".repeat(1000))), "xxxx…");
    }
}
