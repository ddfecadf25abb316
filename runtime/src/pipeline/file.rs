use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::PipelineError;
use super::texts::Shown;
use super::yaml::{Content, Fault, Mark, Node, Spanned, documents, read_text};
use crate::step::{GuestPath, MediaType, OwnLimits, Parameter, ParameterKind};

/// A parsed pipeline file. Unknown keys are errors.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) file: PathBuf,
    pub(super) text: String,
    pub(super) content: PipelineFile,
    pub(super) shown: Shown,
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

/// The limits of a task. Sizes in bytes are texts: `2GiB`, `4096`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    memory: Option<String>,
    fuel: Option<u64>,
    output: Option<String>,
    log: Option<String>,
}

fn bytes(size: &str) -> Result<u64, String> {
    match size.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(format!("`{size}` is not a size: write 512MiB, 2GB or 4096")),
    }
}

impl LimitsFile {
    pub(super) fn read(&self) -> Result<OwnLimits, String> {
        let bytes = |size: &Option<String>| size.as_deref().map(bytes).transpose();
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
        Self::parse(file, read_text(file, "pipeline")?)
    }

    /// Parses a pipeline. `file` is its name in messages, and relative paths are resolved against its directory.
    pub fn parse(file: &Path, text: String) -> Result<Self, PipelineError> {
        let read = || {
            let document = document(&text, "a pipeline is a mapping with `name` and `tasks`")?;
            let content = document.read()?;
            let shown = Shown::of(&document);
            shown.check(&document)?;
            Ok((content, shown))
        };
        let (content, shown) = read().map_err(|fault: Fault| fault.of(file, &text))?;
        let file = file.to_owned();
        Ok(Self {
            file,
            text,
            content,
            shown,
        })
    }

    /// Reads parameters from a file: a map in YAML or JSON. `pipeline` is the one that they are for, if it is not of another kind.
    pub fn read_parameters(file: &Path, pipeline: Option<&Self>) -> Result<BTreeMap<String, Value>, PipelineError> {
        let text = read_text(file, "parameters")?;
        let read = || {
            let document = document(&text, "parameters are a mapping of names and values")?;
            if let Some(pipeline) = pipeline {
                pipeline.shown.check_values(Some(&document))?;
            }
            document.read()
        };
        read().map_err(|fault: Fault| fault.of(file, &text))
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
        Fault::new(at.mark, message).of(&self.file, &self.text)
    }
}

/// Returns the only document of a text. `form` names the kind of file in messages.
fn document(text: &str, form: &str) -> Result<Node, Fault> {
    let mut documents = documents(text)?.into_iter();
    let first = documents.next();
    if let Some(second) = documents.next() {
        return Err(Fault::new(
            second.mark,
            "a second document starts here: put each pipeline into a file of its own",
        ));
    }
    match first {
        Some(document) if matches!(document.content, Content::Map(_)) => Ok(document),
        Some(document) if !document.is_null() => Err(Fault::new(document.mark, form)),
        _ => Err(Fault::new(
            Mark { line: 1, column: 1 },
            format!("there is nothing in this file: {form}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_a_file_are_told_in_plain_words() {
        let error = |text: &str| {
            let error = Pipeline::parse(Path::new("p.yaml"), text.to_owned()).err().unwrap();
            error.to_string().lines().next().unwrap_or_default().to_owned()
        };
        let form = "a pipeline is a mapping with `name` and `tasks`";
        assert_eq!(error(""), format!("p.yaml:1:1: there is nothing in this file: {form}"));
        assert_eq!(error("- a"), format!("p.yaml:1:1: {form}"));
        assert_eq!(error("hello"), format!("p.yaml:1:1: {form}"));
        assert_eq!(
            error("name: p\nparameters: { rate: .nan }\ntasks: {}"),
            "p.yaml:2:21: `.nan` is not a number that JSON has: write it in quotes if it is text"
        );
        assert_eq!(
            error("name: p\nparameters: { zip: 01234 }\ntasks: {}"),
            "p.yaml:2:20: `01234` is not clearly a number: write it in quotes if it is text"
        );
        assert!(error("name: p\ntasks: {}\n---\nname: q\ntasks: {}").contains("a second document starts here"));
        let bomb = "name: p\nparameters:\n  a: &a [1,1,1,1,1,1,1,1,1]\n".to_owned()
            + &(b'b'..=b'h')
                .map(|n| {
                    format!(
                        "  {0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n",
                        n as char,
                        (n - 1) as char
                    )
                })
                .collect::<String>();
        assert!(error(&bomb).contains("repeat too much"), "{}", error(&bomb));
    }
}
