//! The output of a cell: text, rich values, progress and errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use lockstep_runtime::sandbox::Stream;

/// One value in several representations, by media type. A front end shows the richest one that it supports. Texts and SVG
/// are JSON strings, images are base64 strings, JSON types are values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MimeBundle {
    /// Media type to representation.
    pub data: BTreeMap<String, Value>,
    /// Media type to hints for the front end, such as an image's width.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

impl MimeBundle {
    /// Creates a bundle with only `text/plain`. Every bundle should have it, for front ends that support nothing else.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with("text/plain", text.into())
    }

    /// Adds or replaces a representation.
    pub fn with(mut self, media_type: impl Into<String>, value: impl Into<Value>) -> Self {
        self.data.insert(media_type.into(), value.into());
        self
    }
}

/// The error of a cell, in the three parts that Jupyter shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{ename}: {evalue}")]
pub struct CellError {
    /// The kind of error: `Panic`, `CompileError`, `Interrupted`, ...
    pub ename: String,
    /// The message, one line where possible.
    pub evalue: String,
    /// The displayed lines, which may contain ANSI colours. If empty, `ename: evalue` is shown.
    pub traceback: Vec<String>,
}

impl CellError {
    /// Creates an error displayed as `ename: evalue`.
    pub fn new(ename: impl Into<String>, evalue: impl Into<String>) -> Self {
        let (ename, evalue) = (ename.into(), evalue.into());
        let traceback = vec![format!("{ename}: {evalue}")];
        Self {
            ename,
            evalue,
            traceback,
        }
    }
}

/// Why a front end did not answer an input request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The front end does not allow input, for example because a program executes the notebook.
    #[error("the cell reads from stdin, but this front end does not allow input")]
    NotAllowed,
    /// The cell was interrupted.
    #[error("the cell was interrupted while waiting for input")]
    Interrupted,
}

/// The destination of a running cell's output. Calls may block while the reader is slow, so that memory stays bounded.
/// Output for a disconnected reader is dropped without error.
pub trait Output: Send {
    /// Writes bytes of the guest. They may end in the middle of a character. Escape sequences for progress
    /// (`ESC ] 9 ; 4 ; 1 ; percent ESC \`) are removed and drawn as a bar.
    fn stream(&mut self, stream: Stream, bytes: &[u8]);

    /// Returns what the ids of this execution's displays start with. It is unique, so that later cells can update them.
    fn name(&self) -> String {
        String::new()
    }

    /// Shows a rich value, in order with the text. An id allows updates.
    fn display(&mut self, bundle: MimeBundle, id: Option<&str>);

    /// Replaces the display `id` of this cell or an earlier one, or shows the value below it if replacing is not supported.
    fn update(&mut self, bundle: MimeBundle, id: &str) {
        self.display(bundle, Some(id));
    }

    /// Clears the cell's output if possible: now, or with `wait` before the next output.
    fn clear(&mut self, _wait: bool) {}

    /// Reports progress from 0 to 100; `None` when the work has ended.
    fn progress(&mut self, percent: Option<u8>);

    /// Asks the user for a line of text, after all earlier output is shown.
    fn ask(&mut self, _prompt: &str, _password: bool) -> Result<String, Unanswered> {
        Err(Unanswered::NotAllowed)
    }
}
