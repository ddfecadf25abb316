//! Completions valid in any cell, used when rust-analyzer gives none.

/// A name of the SDK's prelude.
pub(super) struct Word {
    pub name: &'static str,
    /// Jupyter's completion type.
    pub kind: &'static str,
    /// A one-line description.
    pub doc: &'static str,
}

const fn word(name: &'static str, kind: &'static str, doc: &'static str) -> Word {
    Word { name, kind, doc }
}

/// The names that every cell can use without a path.
pub(super) const PRELUDE: [Word; 26] = [
    word("Artifact", "class", "a value that can be stored as an artifact"),
    word("Bytes", "class", "raw bytes"),
    word("Column", "class", "the values of a column of a `Table`"),
    word("Context", "class", "adds context to an error: `.context(\"...\")?`"),
    word("Csv", "class", "CSV text that can be parsed into a `Table`"),
    word("Deserialize", "class", "derives deserialization for a type"),
    word("Directory", "class", "a directory of files, each read on demand"),
    word("Error", "class", "any error; `?` converts other errors into it"),
    word("Figure", "class", "an image in SVG"),
    word("Json", "class", "any serde value, stored and shown as JSON"),
    word("Metrics", "class", "named numbers that measure quality"),
    word("Outputs", "class", "derives step outputs from the fields of a struct"),
    word("Param", "class", "a parameter of a step; dereferences to its value"),
    word(
        "Parts",
        "class",
        "an iterator over the entries of a directory, read one by one",
    ),
    word("Reader", "class", "an input larger than memory, read piece by piece"),
    word("Result", "class", "a result that can fail with any `Error`"),
    word("Rows", "class", "a table as values of a struct, one for each row"),
    word("Serialize", "class", "derives serialization for a type"),
    word("Table", "class", "rows with named, typed columns"),
    word("TableReader", "class", "a table larger than memory, read batch by batch"),
    word("Text", "class", "text in UTF-8"),
    word("progress", "function", "`progress(done, total)` reports progress"),
    word(
        "step",
        "function",
        "`#[step]` turns a function into a step; run it with `:run #name`",
    ),
    word("bail!", "macro", "returns an error with this message"),
    word("ensure!", "macro", "returns an error unless the condition holds"),
    word("sql!", "macro", "queries tables: `sql!(\"select ... from {name}\")?`"),
];

/// Macros of std that are common in cells.
pub(super) const MACROS: [&str; 15] = [
    "assert!",
    "assert_eq!",
    "assert_ne!",
    "dbg!",
    "eprintln!",
    "format!",
    "matches!",
    "panic!",
    "print!",
    "println!",
    "todo!",
    "unreachable!",
    "vec!",
    "write!",
    "writeln!",
];

/// The keywords of Rust 2024.
pub(super) const KEYWORDS: [&str; 35] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "false", "fn", "for", "if", "impl",
    "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self", "static", "struct", "trait", "true",
    "type", "unsafe", "use", "where", "while",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_names_are_those_of_the_prelude() {
        let sdk = include_str!("../../../runtime/sdk/src/lib.rs");
        let (_, prelude) = sdk.split_once("pub mod prelude {").unwrap();
        let (prelude, _) = prelude.split_once("\n}").unwrap();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let exported: BTreeSet<&str> = prelude
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| line.split(|c| !is_part(c)))
            .filter(|name| !name.is_empty())
            .collect();
        // The other words: paths, the attribute, and names behind a feature.
        let others = [
            "Parquet",
            "cfg",
            "crate",
            "de",
            "feature",
            "lockstep_macros",
            "parquet",
            "pub",
            "ser",
            "serde",
            "use",
        ];
        let named: BTreeSet<&str> = PRELUDE
            .iter()
            .map(|word| word.name.trim_end_matches('!'))
            .chain(others)
            .collect();
        assert_eq!(named, exported);
    }
}
