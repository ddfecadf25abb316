use serde::{Deserialize, Serialize};

/// What rustc says about a source: its JSON diagnostics, as "The rustc book" describes them (JSON Output).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What is the matter, in a line.
    pub message: String,
    /// The error's code or the lint's name.
    pub code: Option<Code>,
    /// How grave it is.
    pub level: Level,
    /// Where; empty if it is about no place.
    #[serde(default)]
    pub spans: Vec<Span>,
    /// Notes and suggestions.
    #[serde(default)]
    pub children: Vec<Diagnostic>,
    /// The text as rustc shows it in a terminal.
    pub rendered: Option<String>,
}

impl Diagnostic {
    /// Whether it kept the source from compiling.
    pub fn is_error(&self) -> bool {
        matches!(self.level, Level::Error | Level::InternalError)
    }

    /// `aborting due to 2 previous errors`, `1 warning emitted`, `For more information about this error, ...`
    fn sums_up(&self) -> bool {
        let about_others = self.message.starts_with("aborting due to ") || self.message.ends_with(" emitted");
        self.level == Level::FailureNote || (self.spans.is_empty() && self.code.is_none() && about_others)
    }
}

/// An error's code (`E0382`) or a lint's name (`unused_variables`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Code {
    /// The code.
    pub code: String,
    /// What it means, in Markdown.
    pub explanation: Option<String>,
}

/// How grave a diagnostic is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The compiler failed, not the source.
    #[serde(rename = "error: internal compiler error")]
    InternalError,
    /// The source can't be compiled.
    Error,
    /// Something that may be wrong.
    Warning,
    /// More to know.
    Note,
    /// What to do.
    Help,
    /// A note about the compiler's own failure.
    FailureNote,
}

/// A place in a source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The file as rustc was told of it; a macro of another crate is in another file.
    pub file_name: String,
    /// The first byte, from 0.
    pub byte_start: u32,
    /// The byte after the last.
    pub byte_end: u32,
    /// The first line, from 1.
    pub line_start: usize,
    /// The last line.
    pub line_end: usize,
    /// The first character in its line, from 1.
    pub column_start: usize,
    /// The character after the last.
    pub column_end: usize,
    /// Whether this is the place that the message is about.
    pub is_primary: bool,
    /// The source's lines.
    #[serde(default)]
    pub text: Vec<Line>,
    /// What rustc writes below the place.
    pub label: Option<String>,
    /// What to put there instead, in a suggestion.
    pub suggested_replacement: Option<String>,
    /// How sure the suggestion is.
    pub suggestion_applicability: Option<Applicability>,
    /// If the place is in what a macro expands to: where it is called.
    pub expansion: Option<Box<Expansion>>,
}

impl Span {
    /// The place in the source itself: where the outermost macro is called.
    pub fn outermost(&self) -> &Span {
        let mut span = self;
        while let Some(expansion) = &span.expansion {
            span = &expansion.span;
        }
        span
    }
}

/// A macro call on the way to a [`Span`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expansion {
    /// Where the macro is called.
    pub span: Span,
    /// The macro: `println!`, `#[derive(Serialize)]`.
    pub macro_decl_name: String,
}

/// A line of the source that a [`Span`] touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The line.
    pub text: String,
    /// The first character of the span in it, from 1.
    pub highlight_start: usize,
    /// The character after the last.
    pub highlight_end: usize,
}

/// How sure a suggestion is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Applicability {
    /// It is right.
    MachineApplicable,
    /// It may be right.
    MaybeIncorrect,
    /// It has places to fill in.
    HasPlaceholders,
    /// Nobody said.
    Unspecified,
}

/// The diagnostics among the lines of rustc's stderr, without those that only sum up the others, and the other lines.
pub(super) fn parse(stderr: &str) -> (Vec<Diagnostic>, String) {
    let mut diagnostics = Vec::new();
    let mut rest = String::new();
    for line in stderr.lines() {
        match serde_json::from_str::<Diagnostic>(line) {
            Ok(diagnostic) if diagnostic.sums_up() => {}
            Ok(diagnostic) => diagnostics.push(diagnostic),
            // Such as {"$message_type":"artifact", ...}.
            Err(_) if line.starts_with('{') => {}
            Err(_) => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (diagnostics, rest)
}
