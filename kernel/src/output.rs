//! What a cell shows: text, rich values, progress and errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use lockstep_runtime::sandbox::Stream;

/// One value in several representations, by media type; a front end shows the richest that it knows. Texts and SVG are JSON
/// strings, images are base64 strings, JSON types are values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MimeBundle {
    /// Media type to representation.
    pub data: BTreeMap<String, Value>,
    /// Media type to hints for the front end, such as an image's width.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

impl MimeBundle {
    /// A bundle that holds `text/plain` only. Every bundle should have it, for front ends that know nothing else.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with("text/plain", text.into())
    }

    /// The same bundle with one representation more (or replaced).
    pub fn with(mut self, media_type: impl Into<String>, value: impl Into<Value>) -> Self {
        self.data.insert(media_type.into(), value.into());
        self
    }
}

/// Why a cell failed, in the three parts that Jupyter shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{ename}: {evalue}")]
pub struct CellError {
    /// The kind of error: `Panic`, `CompileError`, `Interrupted`, ...
    pub ename: String,
    /// The message, one line where possible.
    pub evalue: String,
    /// What is shown, line by line; may hold ANSI colours. When empty, `ename: evalue` is shown.
    pub traceback: Vec<String>,
}

impl CellError {
    /// An error whose shown text is `ename: evalue`.
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

/// Why a front end did not answer a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The front end can't ask anybody, as when a notebook is executed by a program.
    #[error("the cell reads from stdin, and nobody is there to type: this front end does not allow input")]
    NotAllowed,
    /// The cell was interrupted meanwhile.
    #[error("the cell was interrupted while it waited for input")]
    Interrupted,
}

/// Where a running cell's output goes. Calls may block while the reader is slow, so that memory stays bounded; output for a
/// reader that went away is dropped without error.
pub trait Output: Send {
    /// Bytes as the guest wrote them. They may end in the middle of a character, and escape sequences for progress
    /// (`ESC ] 9 ; 4 ; 1 ; percent ESC \`) are taken out and drawn as a bar.
    fn stream(&mut self, stream: Stream, bytes: &[u8]);

    /// A rich value, shown in order with the text; with an id if it may be updated. Ids need be unique in the cell only.
    fn display(&mut self, bundle: MimeBundle, id: Option<&str>);

    /// Shows another value in the place of the display `id` of this cell; where nothing can be replaced, below it.
    fn update(&mut self, bundle: MimeBundle, id: &str) {
        self.display(bundle, Some(id));
    }

    /// Takes away what the cell has shown so far: now, or when the next thing is shown; where that is possible.
    fn clear(&mut self, _wait: bool) {}

    /// How far the cell is, 0 to 100; `None` when the work that reported progress has ended.
    fn progress(&mut self, percent: Option<u8>);

    /// Asks whoever looks at the cell for a line of text. What was shown before is seen before.
    fn ask(&mut self, _prompt: &str, _password: bool) -> Result<String, Unanswered> {
        Err(Unanswered::NotAllowed)
    }
}
