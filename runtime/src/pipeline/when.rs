use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TaskOutput;
use crate::step::MediaType;

/// A condition: `score.metrics.accuracy < 0.9`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The left operand.
    pub left: Operand,
    /// The comparison operator.
    pub is: Comparison,
    /// The right operand.
    pub right: Value,
}

/// The left operand of a condition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Operand {
    /// A value known at planning time.
    Value(Value),
    /// A field of a task output.
    Output {
        /// the output
        of: TaskOutput,
        /// the path of field names
        path: Vec<String>,
    },
}

/// A comparison operator. Numbers and strings are ordered; other values can only be compared for equality with values of the same type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Comparison {
    /// `==`
    #[serde(rename = "==")]
    Equal,
    /// `!=`
    #[serde(rename = "!=")]
    NotEqual,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `>`
    #[serde(rename = ">")]
    Greater,
}

/// The error of parsing or evaluating a condition.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WhenError {
    /// The syntax is invalid.
    #[error(
        "invalid condition: write `when: \"task.output.field < 0.9\"` or `when: \"{{{{ parameter }}}} == true\"`, with ==, !=, <, <=, > or >="
    )]
    Form,
    /// The operands have different types, or no order.
    #[error("can't compare {left} and {right} with `{by}`")]
    Kinds {
        /// the left operand
        left: Value,
        /// the right operand
        right: Value,
        /// the operator
        by: Comparison,
    },
    /// The field does not exist.
    #[error("{of} has no field `{field}`; it has {known}")]
    Field {
        /// the output
        of: String,
        /// the field
        field: String,
        /// its fields
        known: crate::run::Names,
    },
    /// The output can't be parsed.
    #[error("can't read {of} as {media_type}: {reason}")]
    Content {
        /// the output
        of: String,
        /// its media type
        media_type: MediaType,
        /// the cause
        reason: String,
    },
}

impl Comparison {
    /// All operators by their signs. A sign that starts with another one comes first.
    pub const ALL: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::AtMost => order.is_le(),
            Self::AtLeast => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::Greater => order.is_gt(),
        }
    }
}

impl When {
    /// Returns the task that the condition depends on.
    pub fn task(&self) -> Option<&str> {
        match &self.left {
            Operand::Output { of, .. } => Some(&of.task),
            Operand::Value(_) => None,
        }
    }

    /// Evaluates the condition. `content` is the parsed output that it reads.
    pub fn holds(&self, content: Option<&Value>) -> Result<bool, WhenError> {
        let left = match (&self.left, content) {
            (Operand::Value(value), _) => value,
            (Operand::Output { of, path }, Some(content)) => find(of, path, content)?,
            (Operand::Output { of, path }, None) => find(of, path, &Value::Null)?,
        };
        compare(left, self.is, &self.right)
    }
}

/// Splits a condition into its operands and its operator.
pub(super) fn split(text: &str) -> Result<(&str, Comparison, &str), WhenError> {
    let mut closing = None;
    for (at, c) in text.char_indices() {
        match (closing, c) {
            (Some(end), c) if c == end => closing = None,
            (None, '"' | '\'') => closing = Some(c),
            (None, '{') => closing = Some('}'),
            (None, _) => {
                let found = Comparison::ALL.iter().find(|(sign, _)| text[at..].starts_with(sign));
                if let Some((sign, comparison)) = found {
                    let (left, right) = (text[..at].trim(), text[at + sign.len()..].trim());
                    let whole = !left.is_empty() && !right.is_empty();
                    return if whole {
                        Ok((left, *comparison, right))
                    } else {
                        Err(WhenError::Form)
                    };
                }
            }
            _ => (),
        }
    }
    Err(WhenError::Form)
}

/// Parses a literal: JSON, a string in single quotes, or a plain word.
pub(super) fn literal(text: &str) -> Value {
    let quoted = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match quoted {
        Some(inner) => Value::from(inner),
        None => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
    }
}

/// Returns whether conditions can read this media type.
pub(super) fn is_readable(media_type: &MediaType) -> bool {
    let text = media_type.as_str();
    [MediaType::JSON, MediaType::TEXT, MediaType::VALUE].contains(&text)
        || text.ends_with("+json") && text != MediaType::DIRECTORY
}

/// Parses the content of an output for a condition: JSON, a CBOR value, or text, which may be a number, a boolean or a string.
pub(super) fn content(of: &TaskOutput, media_type: &MediaType, bytes: &[u8]) -> Result<Value, WhenError> {
    let failed = |reason: String| WhenError::Content {
        of: of.to_string(),
        media_type: media_type.clone(),
        reason,
    };
    match media_type.as_str() {
        MediaType::VALUE => ciborium::from_reader(bytes).map_err(|e| failed(e.to_string())),
        MediaType::TEXT => Ok(literal(std::str::from_utf8(bytes).map_err(|e| failed(e.to_string()))?.trim())),
        _ => serde_json::from_slice(bytes).map_err(|e| failed(e.to_string())),
    }
}

fn find<'v>(of: &TaskOutput, path: &[String], content: &'v Value) -> Result<&'v Value, WhenError> {
    path.iter().try_fold(content, |at, field| {
        at.get(field).ok_or_else(|| WhenError::Field {
            of: of.to_string(),
            field: field.clone(),
            known: crate::run::Names::of(at.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str))),
        })
    })
}

fn compare(left: &Value, by: Comparison, right: &Value) -> Result<bool, WhenError> {
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let same_kind = std::mem::discriminant(left) == std::mem::discriminant(right);
    match (order, by) {
        (Some(order), by) => Ok(by.holds(order)),
        (None, Comparison::Equal) if same_kind => Ok(left == right),
        (None, Comparison::NotEqual) if same_kind => Ok(left != right),
        _ => Err(WhenError::Kinds {
            left: left.clone(),
            right: right.clone(),
            by,
        }),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Self::ALL.iter().find(|(_, comparison)| comparison == self);
        f.write_str(sign.map_or("", |(sign, _)| sign))
    }
}

impl fmt::Display for TaskOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.output)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.left {
            Operand::Value(value) => write!(f, "{value}")?,
            Operand::Output { of, path } => {
                write!(f, "{of}")?;
                path.iter().try_for_each(|field| write!(f, ".{field}"))?;
            }
        }
        write!(f, " {} {}", self.is, self.right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(text: &str, content: Value) -> Result<bool, String> {
        let (left, is, right) = split(text).map_err(|e| e.to_string())?;
        let path = left.split('.').skip(2).map(str::to_owned).collect();
        let of = TaskOutput {
            task: "score".into(),
            output: "metrics".into(),
        };
        let left = match left.starts_with("score.") {
            true => Operand::Output { of, path },
            false => Operand::Value(literal(left)),
        };
        let when = When {
            left,
            is,
            right: literal(right),
        };
        assert_eq!(serde_json::from_value::<When>(json!(when)).unwrap(), when);
        when.holds(Some(&content)).map_err(|e| e.to_string())
    }

    #[test]
    fn conditions_are_told() {
        let metrics = json!({"accuracy": 0.85, "rows": 3, "of": {"name": "a<b"}});
        for (text, expected) in [
            ("score.metrics.accuracy < 0.9", true),
            ("score.metrics.accuracy>=0.9", false),
            ("score.metrics.rows == 3.0", true),
            ("score.metrics.of.name == 'a<b'", true),
            ("\"a<b\" != score", true),
            ("true == true", true),
            ("null != null", false),
            ("18446744073709551615 > 1", true),
        ] {
            assert_eq!(told(text, metrics.clone()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_told_says_why() {
        let error = |text, content| told(text, content).unwrap_err();
        assert_eq!(
            error("score.metrics.acuracy < 1", json!({"accuracy": 1})),
            "score.metrics has no field `acuracy`; it has `accuracy`"
        );
        assert_eq!(
            error("score.metrics < 1", json!("high")),
            "can't compare \"high\" and 1 with `<`"
        );
        assert_eq!(error("true < false", json!(0)), "can't compare true and false with `<`");
        for text in ["score", "== 1", "a ==", "{{ a == 1 }}"] {
            assert!(
                error(text, json!(0)).starts_with("invalid condition: write `when: "),
                "{text}"
            );
        }
    }

    #[test]
    fn contents_are_read_by_their_media_type() {
        let of = TaskOutput {
            task: "a".into(),
            output: "b".into(),
        };
        let read = |media_type: &str, bytes: &[u8]| content(&of, &MediaType::new(media_type), bytes).map_err(|e| e.to_string());
        assert_eq!(read(MediaType::TEXT, b"0.5\n"), Ok(json!(0.5)));
        assert_eq!(read(MediaType::TEXT, b"good"), Ok(json!("good")));
        assert_eq!(read(MediaType::METRICS, b"{\"a\":1}"), Ok(json!({"a": 1})));
        assert_eq!(read(MediaType::VALUE, &[0xf5]), Ok(json!(true)));
        assert!(
            read(MediaType::JSON, b"{")
                .unwrap_err()
                .starts_with("can't read a.b as application/json: ")
        );
        assert!(!is_readable(&MediaType::new(MediaType::TABLE)) && !is_readable(&MediaType::new(MediaType::DIRECTORY)));
    }
}
