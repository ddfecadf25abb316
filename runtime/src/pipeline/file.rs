use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::{PipelineError, Position};
use crate::step::{GuestPath, MediaType, OwnLimits, Parameter, ParameterKind};

/// A parsed pipeline file. Unknown keys are errors.
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
    /// Inputs that the caller of the pipeline must supply.
    #[serde(default)]
    pub(super) inputs: BTreeMap<String, MediaType>,
    /// The task outputs that are outputs of the pipeline.
    #[serde(default)]
    pub(super) outputs: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) seed: u64,
    pub(super) tasks: BTreeMap<String, Spanned<TaskFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    pub(super) step: Option<Spanned<String>>,
    pub(super) program: Option<Spanned<String>>,
    /// Another pipeline file.
    pub(super) pipeline: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) inputs: BTreeMap<String, Spanned<String>>,
    /// Inputs written as literal values.
    #[serde(default)]
    pub(super) values: BTreeMap<String, Spanned<Value>>,
    /// The modules whose steps it may call, by the names that it uses for them.
    #[serde(default)]
    pub(super) modules: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Spanned<Value>>,
    pub(super) seed: Option<Spanned<Value>>,
    #[serde(default)]
    pub(super) args: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, Spanned<String>>,
    pub(super) stdin: Option<Spanned<String>>,
    pub(super) stdout: Option<Spanned<String>>,
    /// The guest's paths of inputs that are not at `/in/<name>`.
    #[serde(default)]
    pub(super) at: BTreeMap<String, Spanned<GuestPath>>,
    #[serde(default)]
    pub(super) outputs: BTreeMap<String, MediaType>,
    /// The name of the item and what to iterate over, and optionally `rows`.
    pub(super) for_each: Option<Spanned<BTreeMap<String, Value>>>,
    pub(super) when: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) retries: u32,
    pub(super) timeout: Option<Spanned<String>>,
    pub(super) limits: Option<Spanned<LimitsFile>>,
}

/// The limits of a task, with sizes as text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    memory: Option<Amount>,
    fuel: Option<u64>,
    output: Option<Amount>,
    log: Option<Amount>,
}

/// A size in bytes: `2GiB`, `4096`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Bytes(u64),
    Text(String),
}

impl Amount {
    fn bytes(&self) -> Result<u64, String> {
        match self {
            Self::Bytes(bytes) => Ok(*bytes),
            Self::Text(text) => match text.parse::<bytesize::ByteSize>() {
                Ok(size) => Ok(size.as_u64()),
                Err(_) => Err(format!("`{text}` is not a size: write 512MiB, 2GB or 4096")),
            },
        }
    }
}

impl LimitsFile {
    pub(super) fn read(&self) -> Result<OwnLimits, String> {
        let bytes = |amount: &Option<Amount>| amount.as_ref().map(Amount::bytes).transpose();
        Ok(OwnLimits {
            memory: bytes(&self.memory)?,
            fuel: self.fuel,
            output: bytes(&self.output)?,
            log: bytes(&self.log)?,
            time_ms: None,
        })
    }
}

impl Pipeline {
    /// Reads a pipeline file.
    pub fn read(file: &Path) -> Result<Self, PipelineError> {
        let text =
            std::fs::read_to_string(file).map_err(|e| PipelineError::whole(file, format!("can't read the pipeline: {e}")))?;
        Self::parse(file, text)
    }

    /// Parses a pipeline. `file` is its name in messages, and relative paths are resolved against its directory.
    pub fn parse(file: &Path, text: String) -> Result<Self, PipelineError> {
        let content = read_yaml(file, &text)?;
        let file = file.to_owned();
        Ok(Self { file, text, content })
    }

    /// Reads parameters from a file: a map in YAML or JSON.
    pub fn read_parameters(file: &Path) -> Result<BTreeMap<String, Value>, PipelineError> {
        let text =
            std::fs::read_to_string(file).map_err(|e| PipelineError::whole(file, format!("can't read the parameters: {e}")))?;
        read_yaml(file, &text)
    }

    /// Returns the pipeline's name.
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// Returns the parameters of the pipeline. The kind of each is the kind of its default.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter> {
        self.content.parameters.iter().map(|(name, default)| Parameter {
            name: name.clone(),
            doc: String::new(),
            kind: ParameterKind::of(default),
            default: Some(default.clone()),
        })
    }

    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn error<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> PipelineError {
        error_at(&self.file, &self.text, at.referenced, message.into())
    }
}

fn read_yaml<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, PipelineError> {
    // no limits except for aliases, which have their own: the content of a file is bounded by its length
    let budget = serde_saphyr::budget! {
        max_events: usize::MAX, max_nodes: usize::MAX, max_total_scalar_bytes: usize::MAX
    };
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let place = e.location().unwrap_or(Location::UNKNOWN);
        error_at(file, text, place, plain_message(&e))
    })
}

fn error_at(file: &Path, text: &str, at: Location, message: String) -> PipelineError {
    let (line, column) = (at.line(), at.column());
    let source_line = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
    let source_line = if line == 0 { "" } else { source_line };
    PipelineError {
        place: Position {
            file: file.to_owned(),
            line,
            column,
        },
        message,
        source_line: source_line.to_owned(),
    }
}

/// Returns the message without the position, which is printed in front of it already.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
