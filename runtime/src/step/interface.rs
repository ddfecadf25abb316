use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MediaType;

/// The custom section that holds a module's interfaces: one line with a JSON object per step.
pub const INTERFACE_SECTION: &str = "lockstep:interface";

/// The custom section that lists the built-in modules whose steps a module calls: one name per line.
pub const CALLS_SECTION: &str = "lockstep:calls";

/// The supported version of the section's format.
const VERSION: u32 = 1;

/// The interface that a step declares.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The version of this format: 1.
    #[serde(rename = "lockstep")]
    pub version: u32,
    /// The step's name.
    pub step: String,
    /// Its description, in Markdown; may be empty.
    #[serde(default)]
    pub doc: String,
    /// Its inputs.
    #[serde(default)]
    pub inputs: Vec<Port>,
    /// Its parameters.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Its outputs.
    #[serde(default)]
    pub outputs: Vec<Port>,
    /// The built-in modules whose steps it may call: those that its module calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
}

/// An input or output of a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its description; may be empty.
    #[serde(default)]
    pub doc: String,
    /// Its media type.
    pub media_type: MediaType,
    /// Its type in the step's language, for display.
    #[serde(default, rename = "type")]
    pub type_name: String,
}

/// A parameter of a step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its description; may be empty.
    #[serde(default)]
    pub doc: String,
    /// The kind of its value.
    pub kind: ParameterKind,
    /// The default value. Without one, the parameter is required.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub default: Option<Value>,
}

/// Deserializes a `null` as a default; serde would treat it as absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The kinds of parameters, named as in Kubeflow Pipelines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// true or false
    Boolean,
    /// a 64-bit integer
    Integer,
    /// a double
    Number,
    /// a string
    String,
    /// a JSON array
    List,
    /// a JSON object
    Struct,
    /// any JSON value
    Any,
}

impl ParameterKind {
    /// Returns the kind of a parameter whose default is `value`; [`Any`](Self::Any) for null.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Any,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Struct,
        }
    }
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::List => "list",
            Self::Struct => "struct",
            Self::Any => "any JSON value",
        })
    }
}

/// The error of setting a parameter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// The value has the wrong kind.
    #[error("parameter `{name}` takes a value of kind {kind}, not {value}")]
    WrongKind {
        /// the parameter
        name: String,
        /// its kind
        kind: ParameterKind,
        /// the value
        value: Value,
    },
    /// The parameter has neither a value nor a default.
    #[error("parameter `{name}` ({kind}) has no default and was not given")]
    Missing {
        /// the parameter
        name: String,
        /// its kind
        kind: ParameterKind,
    },
}

impl ParameterError {
    /// Returns the name of the parameter.
    pub fn name(&self) -> &str {
        match self {
            Self::WrongKind { name, .. } | Self::Missing { name, .. } => name,
        }
    }
}

impl Parameter {
    /// Checks the value that the caller supplied, or else the default, and returns it in canonical form (`1` for a number becomes
    /// `1.0`), as it is hashed.
    pub fn value(&self, given: Option<&Value>) -> Result<Value, ParameterError> {
        let missing = || ParameterError::Missing {
            name: self.name.clone(),
            kind: self.kind,
        };
        let value = given.or(self.default.as_ref()).ok_or_else(missing)?;
        if value.is_null() && self.default.as_ref().is_some_and(Value::is_null) {
            return Ok(Value::Null);
        }
        let fits = match self.kind {
            ParameterKind::Boolean => value.is_boolean(),
            ParameterKind::Integer => value.is_i64() || value.is_u64(),
            ParameterKind::Number => value.is_number(),
            ParameterKind::String => value.is_string(),
            ParameterKind::List => value.is_array(),
            ParameterKind::Struct => value.is_object(),
            ParameterKind::Any => true,
        };
        match (fits, self.kind) {
            (true, ParameterKind::Number) => Ok(value.as_f64().map_or(Value::Null, Value::from)),
            (true, _) => Ok(value.clone()),
            (false, kind) => Err(ParameterError::WrongKind {
                name: self.name.clone(),
                kind,
                value: value.clone(),
            }),
        }
    }

    /// Parses a value from the command line: `species`, `0.5`, `[1, 2]`. Strings need no quotes.
    pub fn parse(&self, typed: &str) -> Result<Value, ParameterError> {
        let value = match self.kind {
            ParameterKind::String => Value::from(typed),
            _ => serde_json::from_str(typed).unwrap_or_else(|_| Value::from(typed)),
        };
        self.value(Some(&value))
    }
}

/// The error of reading a module's interfaces.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The bytes are not a WebAssembly module.
    #[error("not a WebAssembly module: {0}")]
    Module(#[from] wasmparser::BinaryReaderError),
    /// The section is malformed.
    #[error("the module's interface (section {INTERFACE_SECTION}, line {line}) can't be read: {source}")]
    Section {
        /// the line in the section, from 1
        line: usize,
        /// the cause
        source: serde_json::Error,
    },
    /// The interface was written by a newer SDK.
    #[error(
        "the interface of step `{step}` has version {version}; this lockstep reads version {VERSION}: use a newer lockstep"
    )]
    Version {
        /// the step
        step: String,
        /// its version
        version: u32,
    },
    /// A name is invalid or duplicate.
    #[error("the module's interface is not usable: {0}")]
    Names(String),
}

/// Returns the interfaces of a module's steps, sorted by name; empty for a plain program.
pub fn interfaces(module: &[u8]) -> Result<Vec<Interface>, InterfaceError> {
    let (mut found, mut calls) = (Vec::new(), BTreeSet::new());
    for_each_section(module, |name, data| match name {
        INTERFACE_SECTION => read_section(data, &mut found),
        CALLS_SECTION => {
            read_calls(data, &mut calls);
            Ok(())
        }
        _ => Ok(()),
    })?;
    for interface in &mut found {
        interface.calls.extend(calls.iter().cloned());
    }
    found.sort_by(|a, b| a.step.cmp(&b.step));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].step == pair[1].step) {
        return Err(InterfaceError::Names(format!("two steps are called `{}`", pair[0].step)));
    }
    Ok(found)
}

/// Returns the names of the built-in modules whose steps a module calls, sorted.
pub fn calls(module: &[u8]) -> Result<Vec<String>, InterfaceError> {
    let mut calls = BTreeSet::new();
    for_each_section(module, |name, data| {
        if name == CALLS_SECTION {
            read_calls(data, &mut calls);
        }
        Ok(())
    })?;
    Ok(calls.into_iter().collect())
}

/// Calls `read` with the name and the content of each custom section.
fn for_each_section(
    module: &[u8],
    mut read: impl FnMut(&str, &[u8]) -> Result<(), InterfaceError>,
) -> Result<(), InterfaceError> {
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        if let wasmparser::Payload::CustomSection(section) = payload? {
            read(section.name(), section.data())?;
        }
    }
    Ok(())
}

fn read_calls(data: &[u8], calls: &mut BTreeSet<String>) {
    let text = String::from_utf8_lossy(data);
    calls.extend(text.lines().filter(|name| !name.is_empty()).map(str::to_owned));
}

fn read_section(data: &[u8], found: &mut Vec<Interface>) -> Result<(), InterfaceError> {
    let lines = data.split(|byte| *byte == b'\n').enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let section = |source| InterfaceError::Section { line: index + 1, source };
        let json: Value = serde_json::from_slice(line).map_err(section)?;
        let version = json["lockstep"].as_u64().unwrap_or(0) as u32;
        if version > VERSION {
            return Err(InterfaceError::Version {
                step: json["step"].to_string(),
                version,
            });
        }
        let interface: Interface = serde_json::from_value(json).map_err(section)?;
        check_names(&interface)?;
        found.push(interface);
    }
    Ok(())
}

fn check_names(interface: &Interface) -> Result<(), InterfaceError> {
    let ports = |ports: &[Port]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    let parameters = interface.parameters.iter().map(|p| p.name.clone()).collect();
    for (what, names) in [
        ("input", ports(&interface.inputs)),
        ("output", ports(&interface.outputs)),
        ("parameter", parameters),
    ] {
        let mut names: Vec<String> = names;
        names.sort();
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            let text = format!(
                "step `{}` calls an {what} {name:?}: use letters, digits, `_`, `-` and `.`",
                interface.step
            );
            return Err(InterfaceError::Names(text));
        }
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(InterfaceError::Names(format!(
                "step `{}` has two {what}s called `{}`",
                interface.step, pair[0]
            )));
        }
    }
    Ok(())
}

/// Returns whether `text` is a valid name of a step, input, output, parameter or task.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.len() <= 128 && text.chars().all(plain) && !text.starts_with('.') && text != "params.json"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn module(section: &str) -> Vec<u8> {
        wat::parse_str(format!("(module (@custom \"{INTERFACE_SECTION}\" {section:?}))")).unwrap()
    }

    fn parameter(kind: ParameterKind, default: Option<Value>) -> Parameter {
        Parameter {
            name: "depth".into(),
            doc: String::new(),
            kind,
            default,
        }
    }

    #[test]
    fn a_module_describes_itself() {
        let line = json!({"lockstep": 1, "step": "clean", "inputs": [{"name": "raw", "media_type": "text/csv"}]});
        let found = interfaces(&module(&format!("{line}\n"))).unwrap();
        assert_eq!(found[0].step, "clean");
        assert_eq!(found[0].inputs[0].media_type.as_str(), "text/csv");
        let line = json!({"lockstep": 1, "step": "a", "parameters": [{"name": "x", "kind": "list", "default": null}]});
        assert_eq!(
            interfaces(&module(&line.to_string())).unwrap()[0].parameters[0].default,
            Some(Value::Null)
        );
        assert_eq!(interfaces(&wat::parse_str("(module)").unwrap()).unwrap(), []);
    }

    #[test]
    fn a_module_lists_the_built_in_modules_that_it_calls() {
        let line = r#"{\"lockstep\":1,\"step\":\"a\"}"#;
        let text = format!(
            r#"(module (@custom "lockstep:calls" "b\n") (@custom "lockstep:calls" "a\nb\n") (@custom "{INTERFACE_SECTION}" "{line}"))"#
        );
        let module = wat::parse_str(text).unwrap();
        assert_eq!(calls(&module).unwrap(), ["a", "b"]);
        assert_eq!(interfaces(&module).unwrap()[0].calls, ["a", "b"]);
    }

    #[test]
    fn interfaces_that_lie_are_refused() {
        let text = |section: &str| interfaces(&module(section)).unwrap_err().to_string();
        assert!(text("{").contains("line 1"));
        assert!(text(r#"{"lockstep":9,"step":"a"}"#).contains("version 9"));
        assert!(text(r#"{"lockstep":1,"step":"a","outputs":[{"name":"../x","media_type":"text/csv"}]}"#).contains("../x"));
        assert!(text("{\"lockstep\":1,\"step\":\"a\"}\n{\"lockstep\":1,\"step\":\"a\"}").contains("two steps"));
    }

    #[test]
    fn values_are_checked_and_normalised() {
        let number = parameter(ParameterKind::Number, None);
        assert_eq!(number.parse("1"), Ok(json!(1.0)));
        assert_eq!(
            number.parse("one").unwrap_err().to_string(),
            "parameter `depth` takes a value of kind number, not \"one\""
        );
        assert_eq!(parameter(ParameterKind::String, None).parse("1"), Ok(json!("1")));
        assert_eq!(parameter(ParameterKind::Integer, Some(json!(6))).value(None), Ok(json!(6)));
        assert_eq!(
            parameter(ParameterKind::Integer, Some(Value::Null)).value(None),
            Ok(Value::Null)
        );
        assert!(parameter(ParameterKind::Integer, None).value(None).is_err());
    }
}
