use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use granit_parser::{Event, Parser, ScalarStyle};
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
        let content = read_yaml(file, &text, "a pipeline is a mapping with `name` and `tasks`")?;
        let file = file.to_owned();
        Ok(Self { file, text, content })
    }

    /// Reads parameters from a file: a map in YAML or JSON.
    pub fn read_parameters(file: &Path) -> Result<BTreeMap<String, Value>, PipelineError> {
        let text =
            std::fs::read_to_string(file).map_err(|e| PipelineError::whole(file, format!("can't read the parameters: {e}")))?;
        read_yaml(file, &text, "parameters are a mapping of names and values")
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

/// Reads YAML. `form` says what the whole file is.
fn read_yaml<T: DeserializeOwned>(file: &Path, text: &str, form: &str) -> Result<T, PipelineError> {
    check_numbers(file, text)?;
    // no limits except for aliases, which have their own: the content of a file is bounded by its length
    let budget = serde_saphyr::budget! {
        max_events: usize::MAX, max_nodes: usize::MAX, max_total_scalar_bytes: usize::MAX
    };
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let place = e.location().unwrap_or(Location::UNKNOWN);
        error_at(file, text, place, plain_message(&e, form))
    })
}

/// Refuses text without quotes that the versions of YAML read as different numbers, and numbers that JSON can't hold.
fn check_numbers(file: &Path, text: &str) -> Result<(), PipelineError> {
    // a syntax error is reported by the reader of values
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let Event::Scalar(scalar, ScalarStyle::Plain, _, None) = event else {
            continue;
        };
        if let Some(reason) = ambiguous(&scalar) {
            let place = Position {
                file: file.to_owned(),
                line: span.start.line() as u64,
                column: span.start.col() as u64 + 1,
            };
            let source_line = text
                .lines()
                .nth(span.start.line().saturating_sub(1))
                .unwrap_or_default()
                .to_owned();
            return Err(PipelineError {
                place,
                message: format!("`{scalar}` {reason}: write it in quotes if it is text"),
                source_line,
            });
        }
    }
    Ok(())
}

/// Returns why a scalar without quotes is not clearly a number, if it looks like one.
fn ambiguous(scalar: &str) -> Option<&'static str> {
    let digits = scalar.strip_prefix(['-', '+']).unwrap_or(scalar);
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let only = |allowed: &dyn Fn(&u8) -> bool| digits.bytes().all(|byte| allowed(&byte));
    if !digits.bytes().next().is_some_and(|first| first.is_ascii_digit()) {
        return None;
    }
    let radix = ["0b", "0o", "0x"].iter().any(|radix| digits.starts_with(radix));
    if radix && digits[2..].bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_') {
        return Some("is a number in some versions of YAML only");
    }
    if digits.contains('_') && only(&|byte| is_digit(byte) || *byte == b'_' || *byte == b'.') {
        return Some("is a number in some versions of YAML only");
    }
    if only(&is_digit) {
        if digits.len() > 1 && digits.starts_with('0') || scalar.starts_with('+') {
            return Some("is not clearly a number");
        }
        let fits = scalar.parse::<i64>().is_ok() || scalar.parse::<u64>().is_ok();
        return (!fits).then_some("has more than 64 bits");
    }
    let is_float = only(&|byte| is_digit(byte) || *byte == b'.') && digits.matches('.').count() == 1;
    let significant = digits.trim_start_matches(['0', '.']).bytes().filter(is_digit).count();
    if is_float && digits.starts_with('0') && !digits.starts_with("0.") {
        return Some("is not clearly a number");
    }
    (is_float && significant > 17).then_some("has more digits than a number holds")
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

const ALIASES: &str = "aliases (`*name`) repeat too much: write the values out";

/// Returns the message in our words, without the position, which is printed in front of it already.
fn plain_message(error: &serde_saphyr::Error, form: &str) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::Eof { .. } => format!("there is nothing in this file: {form}"),
        Error::MultipleDocuments { .. } => "a second document starts here: put each pipeline into a file of its own".to_owned(),
        Error::Unexpected { expected, location, .. } if (location.line(), *expected) == (1, "mapping start") => form.to_owned(),
        Error::Unexpected { expected, .. } => match *expected {
            "mapping start" => "expected a mapping: `name: value`".to_owned(),
            "sequence start" => "expected a list: `[a, b]`".to_owned(),
            other => format!("expected {other}"),
        },
        Error::NonFiniteFloat { value, .. } => {
            format!("`{value}` is not a number that JSON has: write it in quotes if it is text")
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is here twice"),
        Error::DuplicateMappingKey { .. } => "a key is here twice".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => ALIASES.to_owned(),
        error => {
            let text = error.to_string();
            if text.contains("budget breached") {
                return ALIASES.to_owned();
            }
            let text = text.lines().next().unwrap_or_default();
            match text.rfind(" at line ") {
                Some(end) => text[..end].to_owned(),
                None => text.to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_in_all_versions_of_yaml() {
        for number in [
            "0",
            "-7",
            "1.5",
            "0.25",
            "1e-3",
            "-0.5",
            "18446744073709551615",
            "text",
            "1.2.3",
            "2024-05-01",
            "12:30",
            "0-1",
            "007a",
        ] {
            assert_eq!(ambiguous(number), None, "{number}");
        }
        for text in [
            "01234",
            "007",
            "08",
            "-012",
            "1_000",
            "1_0.5",
            "0b11",
            "0o17",
            "0x1F",
            "+5",
            "12345678901234567890123",
            "00.5",
            "3.14159265358979323846",
        ] {
            assert!(ambiguous(text).is_some(), "{text}");
        }
    }

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
