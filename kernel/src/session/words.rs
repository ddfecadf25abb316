//! What anybody may type in any cell, for where rust-analyzer does not tell.

/// A name of the SDK's prelude.
pub(super) struct Word {
    pub name: &'static str,
    /// As Jupyter's front ends have it.
    pub kind: &'static str,
    /// A line about it.
    pub doc: &'static str,
}

const fn word(name: &'static str, kind: &'static str, doc: &'static str) -> Word {
    Word { name, kind, doc }
}

/// The names that every cell can use without their path.
pub(super) const PRELUDE: [Word; 24] = [
    word("Artifact", "class", "a value that can be kept as an artifact"),
    word("Bytes", "class", "bytes as they are"),
    word("Column", "class", "the values of a column of a `Table`"),
    word(
        "Context",
        "class",
        "adds to an error what was being done: `.context(\"...\")?`",
    ),
    word("Csv", "class", "text in CSV; a `Table` comes of it as you say"),
    word("Deserialize", "class", "derives that a type can be read"),
    word("Directory", "class", "a directory of files, each read when it is asked for"),
    word("Error", "class", "any error; `?` makes one of each"),
    word("Figure", "class", "a picture, as SVG"),
    word("Json", "class", "any serde value, kept and shown as JSON"),
    word("Metrics", "class", "numbers that say how good something is, by name"),
    word(
        "Outputs",
        "class",
        "derives that the fields of a struct are the outputs of a step",
    ),
    word("Param", "class", "a parameter of a step; it derefs to its value"),
    word("Parts", "class", "the entries of a directory, each read when its turn comes"),
    word("Reader", "class", "an input that is larger than memory, read piece by piece"),
    word("Result", "class", "what can fail with any `Error`"),
    word("Serialize", "class", "derives that a type can be kept"),
    word("Table", "class", "rows and named, typed columns"),
    word(
        "TableReader",
        "class",
        "a table that is larger than memory, read batch by batch",
    ),
    word("Text", "class", "text in UTF-8"),
    word(
        "progress",
        "function",
        "`progress(done, total)` says that so many parts are done",
    ),
    word(
        "step",
        "function",
        "`#[step]` makes a function a step, which `:run #name` runs",
    ),
    word("bail!", "macro", "ends the function with an error of this message"),
    word(
        "ensure!",
        "macro",
        "ends the function with an error unless the condition holds",
    ),
];

/// The macros of std that cells are likely to use.
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

/// The keywords of Rust 2024 that can begin a word of a cell.
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
        // What is left: paths, the attribute, and what a feature brings.
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
