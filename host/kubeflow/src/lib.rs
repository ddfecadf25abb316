//! Kubeflow Pipelines and Argo Workflows: export of plans ([`pipeline`], [`component`], [`argo`]), the contract of containers ([`launcher`]),
//! and local execution of KFP pipelines ([`local`]).
//!
//! A container runs `lockstep run MODULE#STEP --executor-input {{$}}`. The arguments name digests of artifacts in the shared store; Kubeflow
//! supplies parameters and outputs of other tasks.

pub mod argo;
pub mod component;
mod executor;
mod ir;
pub mod launcher;
mod live;
pub mod local;
pub mod pipeline;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, ParameterKind};
use serde_json::Value;

use self::ir::ParameterDefinition;

/// Inputs of a run in addition to its arguments.
#[derive(Default)]
pub struct ContainerInputs {
    /// Parameters, as encoded by Kubeflow.
    pub parameters: BTreeMap<String, Value>,
    /// Artifacts.
    pub inputs: BTreeMap<String, Artifact>,
}

/// Settings of containers.
pub struct Containers {
    /// Image, which contains `/lockstep`.
    pub image: String,
    /// URL of the shared store, if known.
    pub shared: Option<String>,
    /// Secret with the environment variables for the shared store.
    pub secret: String,
}

/// An exported file.
pub struct Written {
    /// Content of the file.
    pub text: String,
    /// Notes on differences from the original.
    pub notes: Vec<String>,
}

/// Maximum integer that doubles represent exactly. All numbers in Kubeflow are doubles.
const WHOLE: f64 = (1u64 << 53) as f64;

/// Decodes a parameter from Kubeflow, where numbers may be doubles and any value may be a string. `None` if it was omitted.
pub fn parameter(kind: ParameterKind, told: Value) -> Option<Value> {
    let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let value = match (kind, told) {
        (_, Value::Null) => return None,
        (ParameterKind::String, told) => return Some(told),
        (ParameterKind::Any, Value::String(text)) => return Some(read(&text)),
        (ParameterKind::Boolean, Value::String(text)) => read(&text.to_lowercase()),
        (_, Value::String(text)) => read(&text),
        (_, told) => told,
    };
    Some(match kind {
        ParameterKind::Number => value.as_f64().map_or(value, Value::from),
        _ => whole(value),
    })
}

/// Checks that a value is one of the allowed values of its parameter.
fn allowed(name: &str, definition: &ParameterDefinition, value: &Value) -> Result<(), String> {
    let kind = definition.parameter_type.kind();
    let literals = || definition.literals.iter().filter_map(|one| parameter(kind, one.clone()));
    if definition.literals.is_empty() || literals().any(|one| one == *value) {
        return Ok(());
    }
    let all: Vec<String> = literals().map(|one| one.to_string()).collect();
    Err(format!("parameter `{name}` is one of {}, not {value}", all.join(", ")))
}

/// Converts doubles without a fraction to integers.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= WHOLE => Value::from(double as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(map) => map.into_iter().map(|(key, item)| (key, whole(item))).collect(),
        other => other,
    }
}

/// Encodes a parameter for Kubeflow so that [`parameter`] decodes the same value; `None` if doubles can't represent it.
fn told(kind: ParameterKind, value: &Value) -> Option<Value> {
    let told = match kind {
        ParameterKind::Any => Value::from(value.to_string()),
        _ => value.clone(),
    };
    let passed = match kind {
        ParameterKind::Any => told.clone(),
        _ => doubles(&told)?,
    };
    (parameter(kind, passed).as_ref() == Some(value)).then_some(told)
}

/// Converts all numbers to doubles; `None` if one is not exact.
fn doubles(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Number(number) => {
            let double = number.as_f64().filter(|double| number.is_f64() || double.abs() <= WHOLE)?;
            Value::from(double)
        }
        Value::Array(items) => items.iter().map(doubles).collect::<Option<_>>()?,
        Value::Object(map) => {
            let fields = map.iter().map(|(key, item)| Some((key.clone(), doubles(item)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
        other => other.clone(),
    })
}

/// Unique names that are valid in Kubernetes: lower case letters, digits and `-`.
#[derive(Default)]
struct Labels(BTreeSet<String>);

impl Labels {
    fn of(&mut self, name: &str) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        let plain: String = name.chars().map(plain).collect();
        let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
        let mut short = parts.join("-");
        short.truncate(50);
        let short = match short.trim_end_matches('-') {
            "" => "task",
            short => short,
        };
        let numbered = (2..).map(|number| format!("{short}-{number}"));
        let mut names = std::iter::once(short.to_owned()).chain(numbered);
        names.find(|name| self.0.insert(name.clone())).unwrap_or_default()
    }
}

/// Whether the reference `image` has a digest, which pins it.
pub fn is_pinned(image: &str) -> bool {
    image
        .split_once("@sha256:")
        .is_some_and(|(_, hex)| Digest::from_hex(hex).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_doubles_can_say_comes_back_as_it_was() {
        use ParameterKind as K;
        for (kind, value) in [
            (K::Integer, json!(7)),
            (K::Integer, json!(-(1i64 << 53))),
            (K::Number, json!(1.0)),
            (K::Number, json!(0.1)),
            (K::Boolean, json!(true)),
            (K::String, json!("7")),
            (K::List, json!([1, 0.5, "a", [true]])),
            (K::Struct, json!({"depth": 4})),
            (K::Any, json!(null)),
            (K::Any, json!([1.0, 1u64 << 60])),
            (K::Any, json!("7")),
        ] {
            assert!(told(kind, &value).is_some(), "{value}");
        }
        for (kind, value) in [
            (K::Integer, json!((1i64 << 60) + 1)),
            (K::List, json!([1.0])),
            (K::Struct, json!({"a": [2.0]})),
            (K::Integer, json!(null)),
        ] {
            assert_eq!(told(kind, &value), None, "{value}");
        }
    }

    #[test]
    fn what_kubeflow_made_of_a_value_is_read() {
        use ParameterKind as K;
        for (kind, said, value) in [
            (K::Integer, json!(7.0), json!(7)),
            (K::Integer, json!("7"), json!(7)),
            (K::Number, json!(1), json!(1.0)),
            (K::Number, json!("0.5"), json!(0.5)),
            (K::Boolean, json!("True"), json!(true)),
            (K::String, json!("7"), json!("7")),
            (K::List, json!("[1, 2.0]"), json!([1, 2])),
            (K::Struct, json!({"a": 1.0}), json!({"a": 1})),
        ] {
            assert_eq!(parameter(kind, said.clone()), Some(value), "{said}");
        }
        assert_eq!(parameter(K::Integer, Value::Null), None);
    }

    #[test]
    fn names_are_made_plain_and_stay_different() {
        let mut labels = Labels::default();
        let all = ["train[0]", "train-0", "Prepare/Clean", "日本", &"x".repeat(90)].map(|name| labels.of(name));
        assert_eq!(all[..4], ["train-0", "train-0-2", "prepare-clean", "task"]);
        assert_eq!(all[4].len(), 50);
    }

    #[test]
    fn an_image_is_pinned_by_a_whole_digest() {
        assert!(is_pinned(&format!("registry/lockstep-step@sha256:{}", "0".repeat(64))));
        assert!(!is_pinned("lockstep-step:1.0") && !is_pinned("lockstep-step@sha256:12"));
    }
}
