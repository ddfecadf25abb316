//! Faults in a YAML text, in our words.

use std::fmt;
use std::path::Path;

use granit_parser::{ErrorKind, ScanError};
use serde::de;

use super::{Mark, TOO_DEEP};
use crate::pipeline::{PipelineError, Position};

/// A fault in a YAML text.
#[derive(Debug)]
pub struct Fault {
    pub(super) mark: Option<Mark>,
    /// The keys that lead to it, from the innermost.
    path: Vec<String>,
    pub(super) message: String,
}

impl Fault {
    /// Creates a fault.
    pub fn new(mark: Mark, message: impl Into<String>) -> Self {
        Self {
            mark: Some(mark),
            path: Vec::new(),
            message: message.into(),
        }
    }

    /// Sets the place, if there is none yet.
    pub(super) fn at(mut self, mark: Mark) -> Self {
        self.mark.get_or_insert(mark);
        self
    }

    pub(super) fn under(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }

    /// Puts the keys that lead to the place in front of the message: `root.dag`.
    pub fn with_path(mut self) -> Self {
        if !self.path.is_empty() {
            self.path.reverse();
            self.message = format!("`{}`: {}", std::mem::take(&mut self.path).join("."), self.message);
        }
        self
    }

    /// Returns the error in a file with this text.
    pub fn of(self, file: &Path, text: &str) -> PipelineError {
        let mark = self.mark.unwrap_or_default();
        let source_line = match mark.line {
            0 => "",
            line => text.lines().nth(line as usize - 1).unwrap_or_default(),
        };
        PipelineError {
            place: Position {
                file: file.to_owned(),
                line: mark.line,
                column: mark.column,
            },
            message: self.message,
            source_line: source_line.to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            mark: None,
            path: Vec::new(),
            message: message.to_string(),
        }
    }
}

/// Returns the fault for text that is not YAML.
pub(super) fn unreadable(error: &ScanError) -> Fault {
    use ErrorKind as E;
    let message = match error.kind() {
        E::TabNotAllowed | E::TabInBlockIndentation | E::TabInIndentation | E::TabAtBlockScalarStart | E::TabInPlainScalar => {
            "a tab is not indentation in YAML: write spaces".to_owned()
        }
        E::UnknownAnchor => "this alias (`*name`) has no anchor (`&name`) before it".to_owned(),
        E::UnclosedQuotedScalar | E::DocumentIndicatorInQuotedScalar => "this quote has no end".to_owned(),
        E::UnclosedFlowCollection { open } => format!("this `{open}` has no end"),
        E::MismatchedFlowCollectionEnd { open, close } => format!("`{close}` does not end `{open}`"),
        E::MisplacedFlowCollectionEnd => "this bracket ends nothing".to_owned(),
        E::UnexpectedEof
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping
        | E::UnexpectedEofBlockSequence
        | E::UnexpectedEofBlockMapping => "the file ends inside a list or a mapping".to_owned(),
        E::MappingValueNotAllowed | E::InvalidColonPlacement => {
            "a colon can't be here: check the indentation, or write text with `: ` in quotes".to_owned()
        }
        E::SimpleKeyExpected | E::InvalidSimpleKey | E::ExpectedBlockMappingKey => "expected `name: value`".to_owned(),
        E::UnexpectedCharacter { character } if character.is_control() => {
            format!("the character U+{:04X} can't be in YAML", *character as u32)
        }
        E::UnexpectedCharacter { character } => format!("text that starts with `{character}` must be in quotes"),
        E::UnknownQuotedScalarEscape
        | E::InvalidQuotedScalarHexEscape
        | E::InvalidLowSurrogateHexEscape
        | E::InvalidLowSurrogate
        | E::MissingLowSurrogate
        | E::UnpairedLowSurrogate
        | E::InvalidUnicodeEscape => r"unknown escape in text in double quotes: write `\\` for a backslash".to_owned(),
        E::ExpectedFlowMappingSeparator => "expected `,` or `}`".to_owned(),
        E::ExpectedFlowSequenceSeparator => "expected `,` or `]`".to_owned(),
        E::RecursionLimitExceeded => TOO_DEEP.to_owned(),
        _ => "this is not YAML: check indentation, quotes and brackets".to_owned(),
    };
    Fault::new(error.marker().into(), message)
}
