use serde::{Deserialize, Serialize};

/// A JSON diagnostic of rustc, as described in "The rustc book" (JSON Output).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The message, in one line.
    pub message: String,
    /// The error's code or the lint's name.
    pub code: Option<Code>,
    /// The severity.
    pub level: Level,
    /// The places; empty if it has none.
    #[serde(default)]
    pub spans: Vec<Span>,
    /// Notes and suggestions.
    #[serde(default)]
    pub children: Vec<Diagnostic>,
    /// The full text, as rustc shows it in a terminal.
    pub rendered: Option<String>,
}

impl Diagnostic {
    /// Returns whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self.level, Level::Error | Level::InternalError)
    }

    /// Returns whether it only summarizes others: `aborting due to 2 previous errors`, `1 warning emitted`, `For more
    /// information about this error, ...`
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
    /// The explanation, in Markdown.
    pub explanation: Option<String>,
}

/// The severity of a diagnostic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// An error of the compiler itself.
    #[serde(rename = "error: internal compiler error")]
    InternalError,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// A note.
    Note,
    /// A suggestion.
    Help,
    /// A note about the failure as a whole.
    FailureNote,
}

/// A place in a source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The file as passed to rustc. A macro of another crate is in another file.
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
    /// Whether this is the main place of the message.
    pub is_primary: bool,
    /// The source's lines.
    #[serde(default)]
    pub text: Vec<Line>,
    /// The label that rustc writes below the place.
    pub label: Option<String>,
    /// The replacement, in a suggestion.
    pub suggested_replacement: Option<String>,
    /// The confidence of the suggestion.
    pub suggestion_applicability: Option<Applicability>,
    /// The macro call, if the place is in the expansion of a macro.
    pub expansion: Option<Box<Expansion>>,
}

impl Span {
    /// Returns the place in the source itself: the call of the outermost macro.
    pub fn outermost(&self) -> &Span {
        let mut span = self;
        while let Some(expansion) = &span.expansion {
            span = &expansion.span;
        }
        span
    }
}

/// A macro call whose expansion contains a [`Span`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expansion {
    /// The place of the call.
    pub span: Span,
    /// The macro: `println!`, `#[derive(Serialize)]`.
    pub macro_decl_name: String,
}

/// A source line in a [`Span`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The line.
    pub text: String,
    /// The first character of the span in it, from 1.
    pub highlight_start: usize,
    /// The character after the last.
    pub highlight_end: usize,
}

/// The confidence of a suggestion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Applicability {
    /// Correct.
    MachineApplicable,
    /// Possibly incorrect.
    MaybeIncorrect,
    /// Contains placeholders.
    HasPlaceholders,
    /// Unknown.
    Unspecified,
}

/// Splits rustc's stderr into diagnostics, without summaries, and other lines.
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
