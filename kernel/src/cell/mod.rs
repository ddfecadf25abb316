//! The text of cells: directives, then Rust. This module only parses; it neither compiles nor runs.

mod directive;
mod evcxr;
mod expand;
mod names;
mod query;
mod split;

pub use directive::{Bind, Binds, Directive, DirectiveError, KNOWN, module_name};
pub use expand::Macros;
pub use names::Mentions;
pub use query::of_query;
pub use split::{Binding, Item, ItemName, Kind, Rust, Statement, SyntaxError};

use std::ops::Range;

/// A cell as the front end sent it for execution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    /// The front end's id of the cell. Executing the same id again replaces its earlier definitions.
    pub id: Option<String>,
    /// Its text.
    pub code: String,
    /// The displayed execution number: `[3]`. Never part of the compiled source.
    pub number: u32,
}

/// A cell split into directives and Rust.
#[derive(Debug)]
pub struct Parsed {
    /// The directives in order, with their places in the text.
    pub directives: Vec<(Range<usize>, Directive)>,
    /// The Rust with every directive line replaced by spaces. It is as many bytes long as the cell, so offsets agree.
    pub rust: String,
}

/// Splits `code` into directives and Rust. Directives are lines before any Rust that start with `:`, which no Rust
/// statement does.
pub fn parse(code: &str) -> Result<Parsed, (Range<usize>, DirectiveError)> {
    let mut directives = Vec::new();
    let mut rust = code.to_owned();
    blank_mark(&mut rust);
    for range in self::directives(code) {
        let directive = code[range.start + 1..range.end].parse();
        let directive = directive.map_err(|error: DirectiveError| (error.place(&range), error))?;
        directives.push((range.clone(), directive));
        blank(&mut rust, range);
    }
    Ok(Parsed { directives, rust })
}

/// Returns the Rust of a cell that is still being typed. Every directive line is replaced by spaces, also a malformed one.
pub fn without_directives(code: &str) -> String {
    let mut rust = code.to_owned();
    blank_mark(&mut rust);
    for range in directives(code) {
        blank(&mut rust, range);
    }
    rust
}

fn blank(text: &mut String, range: Range<usize>) {
    let blanks = " ".repeat(range.len());
    text.replace_range(range, &blanks);
}

/// The byte order mark, with which some editors start a text.
const MARK: char = '\u{feff}';

fn blank_mark(text: &mut String) {
    if text.starts_with(MARK) {
        blank(text, 0..MARK.len_utf8());
    }
}

/// Returns the places of the directives, without surrounding white space.
pub fn directives(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in code.split_inclusive('\n') {
        let text = line.trim_start_matches(MARK).trim();
        if text.starts_with(':') && !text.starts_with("::") {
            let start = offset + line.find(':').unwrap_or(0);
            found.push(start..start + text.len());
        } else if !(text.is_empty() || text.starts_with("//")) {
            break;
        }
        offset += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_blanked_out_and_offsets_stay() {
        let code = "// é\n:vars\n  :input raw = a.csv\nlet x = 1;\n::std::process::exit(0)";
        let parsed = parse(code).unwrap();
        assert_eq!(parsed.rust.len(), code.len());
        assert_eq!(parsed.rust.find("let x"), code.find("let x"));
        assert_eq!(parsed.directives.len(), 2);
        assert_eq!(&code[parsed.directives[1].0.clone()], ":input raw = a.csv");
        let marked = parse("\u{feff}:vars\nlet x = 1;").unwrap();
        assert_eq!(
            (marked.directives[0].0.clone(), &marked.rust[..]),
            (3..8, "        \nlet x = 1;")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected(code in "(:[a-z]{0,5}|[a-z{}()\\[\\];:'\"/*\\\\ \n=é]|let |fn |use ){0,60}") {
            let _ = crate::jupyter::of_rust(&code);
            proptest::prop_assert_eq!(without_directives(&code).len(), code.len());
            if let Ok(parsed) = parse(&code) {
                proptest::prop_assert_eq!(parsed.rust.len(), code.len());
                let _ = Rust::parse(&parsed.rust);
            }
        }
    }

    #[test]
    fn after_the_first_rust_line_a_colon_is_rust() {
        let code = "let x\n: i32 = 1;";
        assert_eq!(parse(code).unwrap().rust, code);
    }
}
