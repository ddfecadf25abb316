//! What answers for the language: it runs cells, completes and inspects.

use std::ops::Range;

use lockstep_runtime::sandbox::Interrupt;
use serde_json::Value;

use super::completeness::{self, Completeness};
use crate::output::{CellError, MimeBundle, Output};

/// A cell to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execute {
    /// The `msg_id` of the request.
    pub request: String,
    /// The cell's text.
    pub code: String,
    /// Stable over re-runs of the same cell, when the front end says so (JupyterLab does).
    pub cell_id: Option<String>,
    /// Cells that the user has deleted since the last request.
    pub deleted_cells: Vec<String>,
    /// The number shown beside the cell, from 1.
    pub number: u32,
    /// The front end asks for no output at all: what is written and displayed is dropped.
    pub silent: bool,
}

/// One way to complete what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The replacement.
    pub text: String,
    /// `function`, `struct`, `instance`, ...; shown as an icon. Empty when unknown.
    pub kind: String,
}

/// The ways to complete, and the bytes of the code that each of them replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completions {
    /// Bytes of the code, on character boundaries.
    pub replaced: Range<usize>,
    /// Best first.
    pub matches: Vec<Completion>,
}

/// Runs cells. Lives on a thread of its own and may block it; calls come one at a time.
pub trait Interpreter: Send + 'static {
    /// Runs one cell. It returns soon after `interrupt` is triggered, with an error named `Interrupted`.
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError>;

    /// The value of an expression, without any change to the session.
    fn evaluate(&mut self, _expression: &str, _interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        Err(CellError::new("Unsupported", "this kernel evaluates no expressions"))
    }

    /// The user restarts the kernel: the session is not to be taken up again by itself.
    fn restart(&mut self) {}

    /// What answers questions about the session while cells run.
    fn assistant(&self) -> Box<dyn Assistant>;
}

/// Answers questions about code and session. Lives on a thread of its own, beside the interpreter's.
pub trait Assistant: Send {
    /// What could stand at byte `cursor` of `code`.
    fn complete(&mut self, _code: &str, cursor: usize) -> Completions {
        Completions {
            replaced: cursor..cursor,
            matches: Vec::new(),
        }
    }

    /// What is known of the name at byte `cursor` of `code`.
    fn inspect(&mut self, _code: &str, _cursor: usize) -> Option<MimeBundle> {
        None
    }

    /// Whether `code` can be run, or the user is still typing.
    fn is_complete(&mut self, code: &str) -> Completeness {
        completeness::of_rust(code)
    }

    /// The variables, for front ends that list them: an array of objects.
    fn variables(&mut self) -> Value {
        Value::Array(Vec::new())
    }
}
