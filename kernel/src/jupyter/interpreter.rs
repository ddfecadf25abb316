//! The language interface: runs cells, completes and inspects code.

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
    /// The cell's id, stable over re-runs, if the front end sends it (JupyterLab does).
    pub cell_id: Option<String>,
    /// Cells that the user has deleted since the last request.
    pub deleted_cells: Vec<String>,
    /// The number shown beside the cell, from 1.
    pub number: u32,
    /// Whether the front end wants no output.
    pub silent: bool,
}

/// One completion of the typed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The replacement.
    pub text: String,
    /// `function`, `struct`, `instance`, ..., shown as an icon. Empty if unknown.
    pub kind: String,
}

/// Completions, and the range of the code that each of them replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completions {
    /// Bytes of the code, on character boundaries.
    pub replaced: Range<usize>,
    /// The completions, best first.
    pub matches: Vec<Completion>,
}

/// Runs cells, one at a time, on a separate thread that it may block.
pub trait Interpreter: Send + 'static {
    /// Runs a cell. Returns an error named `Interrupted` soon after `interrupt` is triggered.
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError>;

    /// Evaluates an expression without changing the session.
    fn evaluate(&mut self, _expression: &str, _interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        Err(CellError::new("Unsupported", "this kernel does not support expressions"))
    }

    /// Handles a restart by the user: the session must not be restored automatically.
    fn restart(&mut self) {}

    /// Returns the assistant that answers requests while cells run.
    fn assistant(&self) -> Box<dyn Assistant>;
}

/// Answers requests about code and session, on its own thread.
pub trait Assistant: Send {
    /// Returns completions at byte `cursor` of `code`.
    fn complete(&mut self, _code: &str, cursor: usize) -> Completions {
        Completions {
            replaced: cursor..cursor,
            matches: Vec::new(),
        }
    }

    /// Describes the name at byte `cursor` of `code`.
    fn inspect(&mut self, _code: &str, _cursor: usize) -> Option<MimeBundle> {
        None
    }

    /// Returns whether `code` is complete or needs more lines.
    fn is_complete(&mut self, code: &str) -> Completeness {
        completeness::of_rust(code)
    }

    /// Returns the variables, for front ends that list them: an array of objects.
    fn variables(&mut self) -> Value {
        Value::Array(Vec::new())
    }
}
