use std::fmt;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// An error in a pipeline file.
///
/// Displayed as `file:line:column: message`, followed by the source line with a mark under the column.
#[derive(Debug)]
pub struct PipelineError {
    /// The position.
    pub place: Position,
    /// The message.
    pub message: String,
    /// The text of the line; empty if the error concerns the whole file.
    pub source_line: String,
}

/// A position in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the whole file.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

impl PipelineError {
    /// Creates an error that concerns the whole file.
    pub(super) fn whole(file: &std::path::Path, message: String) -> Self {
        let place = Position {
            file: file.to_owned(),
            line: 0,
            column: 0,
        };
        Self {
            place,
            message,
            source_line: String::new(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if self.source_line.is_empty() {
            return Ok(());
        }
        let before = self.source_line.chars().take(self.place.column.saturating_sub(1) as usize);
        let start: usize = before.map(char::len_utf8).sum();
        let snippet = Snippet::source(&self.source_line)
            .line_start(self.place.line as usize)
            .annotation(AnnotationKind::Primary.span(start..start));
        let group = Group::with_level(Level::ERROR).element(snippet);
        write!(f, "\n{}", Renderer::plain().render(&[group]))
    }
}

impl std::error::Error for PipelineError {}
