//! Determines whether code is complete or needs more lines.

use syn::parse::Parser;

/// Whether code can be run at the end of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completeness {
    /// The code can be run.
    Complete,
    /// More lines are needed.
    Incomplete {
        /// The indentation of the next line.
        indent: String,
    },
    /// The code has an error; running it shows the message.
    Invalid,
}

/// Checks Rust statements and items. Lines that start with `:` outside of brackets are directives and count as complete.
pub fn of_rust(code: &str) -> Completeness {
    let depth = match scan(code) {
        Scan::Balanced => 0,
        Scan::Open { depth } => return incomplete(depth),
        Scan::Mismatched => return Completeness::Invalid,
    };
    let rust: String = code
        .lines()
        .flat_map(|line| [if line.starts_with(':') { "" } else { line }, "\n"])
        .collect();
    let end = rust.trim_end().len();
    match syn::Block::parse_within.parse_str(&rust) {
        Ok(_) => Completeness::Complete,
        Err(error) if at_end(&error, &rust, end) => incomplete(depth),
        Err(_) => Completeness::Invalid,
    }
}

fn incomplete(depth: usize) -> Completeness {
    Completeness::Incomplete {
        indent: "    ".repeat(depth),
    }
}

/// Returns whether the error is at the end of the code, so that more code could fix it.
fn at_end(error: &syn::Error, rust: &str, end: usize) -> bool {
    if error.to_string().starts_with("unexpected end of input") {
        return true;
    }
    let start = error.span().start();
    let mut lines = rust.split_inclusive('\n');
    let before: usize = lines.by_ref().take(start.line.saturating_sub(1)).map(str::len).sum();
    let within: usize = lines
        .next()
        .unwrap_or("")
        .chars()
        .take(start.column)
        .map(char::len_utf8)
        .sum();
    before + within >= end
}

enum Scan {
    Balanced,
    /// A bracket, string or comment is still open, inside `depth` brackets.
    Open {
        depth: usize,
    },
    Mismatched,
}

/// Scans Rust's brackets, strings and comments. The tokenizer rejects unbalanced ones without telling whether more code
/// would help.
fn scan(code: &str) -> Scan {
    let bytes = code.as_bytes();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = match byte {
            b'/' if bytes[at..].starts_with(b"//") => Some(find(bytes, at, b"\n").unwrap_or(bytes.len())),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(bytes, at),
            b'"' => text(bytes, at + 1),
            b'r' if raw_hashes(bytes, at).is_some() && !is_word(bytes, at) => {
                let hashes = raw_hashes(bytes, at).unwrap_or(0);
                let close = format!("\"{}", "#".repeat(hashes));
                find(bytes, at + hashes + 2, close.as_bytes()).map(|end| end + close.len())
            }
            b'\'' => Some(character(bytes, at)),
            b'(' | b'[' | b'{' => {
                open.push(byte);
                Some(at + 1)
            }
            b')' | b']' | b'}' => {
                let pair = matches!(
                    (open.pop(), byte),
                    (Some(b'('), b')') | (Some(b'['), b']') | (Some(b'{'), b'}')
                );
                if !pair {
                    return Scan::Mismatched;
                }
                Some(at + 1)
            }
            _ => Some(at + 1),
        };
        match next {
            Some(next) => at = next,
            None => return Scan::Open { depth: open.len() },
        }
    }
    match open.len() {
        0 => Scan::Balanced,
        depth => Scan::Open { depth },
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn block_comment(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match bytes.get(at..at + 2)? {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// Returns the byte after a string whose content starts at `at`.
fn text(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Returns the number of `#` of a raw string that starts at `at`.
fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// Returns whether the byte before `at` belongs to the same word. A raw string may start with `br` or `cr`.
fn is_word(bytes: &[u8], at: usize) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let start = bytes[..at]
        .iter()
        .rposition(|byte| !word(byte))
        .map_or(0, |before| before + 1);
    !matches!(&bytes[start..at], b"" | b"b" | b"c")
}

/// Returns the byte after a character such as `'{'`, or after the quote of a lifetime.
fn character(bytes: &[u8], at: usize) -> usize {
    let escaped = bytes.get(at + 1) == Some(&b'\\');
    let limit = bytes.len().min(at + 14);
    let from = if escaped { at + 3 } else { at + 2 };
    let close = (from..limit).find(|&end| bytes[end] == b'\'');
    match close {
        Some(end) if escaped || one_character(&bytes[at + 1..end]) => end + 1,
        _ => at + 1,
    }
}

fn one_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete() {
        for code in [
            "",
            "1 + 1",
            "let x = 1;",
            "fn f() {}\nlet y = f();\ny",
            ":dep serde = \"1\"\nlet x = '{';",
            ":help",
            "let r = r#\"{ \" \"#; let c = br\"(\";",
            "fn f<'a>(x: &'a str) -> &'a str { x } // {",
            "/* { /* ( */ */ println!(\"}} {{\", 'a', '\\'', '\\u{7b}');",
            "#[derive(Clone)]\nstruct S;",
            "macro_rules! m { ($x:expr) => { $x + 1 } }",
        ] {
            assert_eq!(of_rust(code), Completeness::Complete, "{code}");
        }
    }

    #[test]
    fn incomplete_with_the_indent_of_the_open_brackets() {
        for (code, depth) in [
            ("fn f() {", 1),
            ("foo(bar, [", 2),
            ("let x =", 0),
            ("let x = 1 +", 0),
            ("fn f()", 0),
            ("#[derive(Debug)]", 0),
            ("let s = \"abc", 0),
            ("let s = r#\"abc\"", 0),
            ("{ /* abc", 1),
            ("if x", 0),
        ] {
            let expected = Completeness::Incomplete {
                indent: "    ".repeat(depth),
            };
            assert_eq!(of_rust(code), expected, "{code}");
        }
    }

    #[test]
    fn invalid() {
        for code in ["fn f( }", "let = 5;", ")", "struct struct X;"] {
            assert_eq!(of_rust(code), Completeness::Invalid, "{code}");
        }
    }
}
