use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::{PipelineError, Place};
use crate::step::{GuestPath, MediaType};

/// A pipeline as its file says it. Unknown keys are refused.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) file: PathBuf,
    pub(super) text: String,
    pub(super) content: PipelineFile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineFile {
    pub(super) name: String,
    #[serde(default)]
    #[expect(dead_code, reason = "for readers of the file")]
    description: String,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) seed: u64,
    pub(super) tasks: BTreeMap<String, Spanned<TaskFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    pub(super) step: Option<Spanned<String>>,
    pub(super) program: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) inputs: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Spanned<Value>>,
    pub(super) seed: Option<Spanned<Value>>,
    #[serde(default)]
    pub(super) args: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, Spanned<String>>,
    pub(super) stdin: Option<Spanned<String>>,
    pub(super) stdout: Option<Spanned<String>>,
    /// Where the guest finds inputs that are not at `/in/<name>`.
    #[serde(default)]
    pub(super) at: BTreeMap<String, Spanned<GuestPath>>,
    #[serde(default)]
    pub(super) outputs: BTreeMap<String, MediaType>,
}

impl Pipeline {
    /// Reads a pipeline file.
    pub fn read(file: &Path) -> Result<Self, PipelineError> {
        let text =
            std::fs::read_to_string(file).map_err(|e| PipelineError::whole(file, format!("can't read the pipeline: {e}")))?;
        Self::parse(file, text)
    }

    /// Reads a pipeline from `text`; `file` is its name in messages, and its directory is where relative paths start.
    pub fn parse(file: &Path, text: String) -> Result<Self, PipelineError> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        match serde_saphyr::from_str_with_options(&text, options) {
            Ok(content) => Ok(Self {
                file: file.to_owned(),
                text,
                content,
            }),
            Err(e) => {
                let place = e.location().unwrap_or(Location::UNKNOWN);
                Err(error_at(file, &text, place, plain_message(&e)))
            }
        }
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// The parameters of the pipeline, with their defaults.
    pub fn parameters(&self) -> &BTreeMap<String, Value> {
        &self.content.parameters
    }

    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn error<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> PipelineError {
        error_at(&self.file, &self.text, at.referenced, message.into())
    }
}

fn error_at(file: &Path, text: &str, at: Location, message: String) -> PipelineError {
    let (line, column) = (at.line(), at.column());
    let source_line = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
    let source_line = if line == 0 { "" } else { source_line };
    PipelineError {
        place: Place {
            file: file.to_owned(),
            line,
            column,
        },
        message,
        source_line: source_line.to_owned(),
    }
}

/// The message without the place, which stands before it already.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
