use std::fmt;
use std::path::PathBuf;

/// What is wrong with a pipeline file, and where.
///
/// Shown as `file:line:column: message`, followed by the line with a mark under the column.
#[derive(Debug)]
pub struct PipelineError {
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The text of the line; empty when the place is the file as a whole.
    pub source_line: String,
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when it is the file as a whole.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

impl PipelineError {
    /// A fault of the file as a whole.
    pub(super) fn whole(file: &std::path::Path, message: String) -> Self {
        let place = Place {
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

impl fmt::Display for Place {
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
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        let before: String = self
            .source_line
            .chars()
            .take(self.place.column.saturating_sub(1) as usize)
            .collect();
        let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "\n {margin} |\n {number} | {}\n {margin} | {indent}^", self.source_line)
    }
}

impl std::error::Error for PipelineError {}
