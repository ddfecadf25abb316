use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::Spanned;

use super::input::Bound;
use super::{Names, PipelineError, Place};

/// What the item of a `for_each` is, in one instance.
#[derive(Clone, Default)]
pub(super) struct Items {
    pub(super) values: BTreeMap<String, Value>,
    pub(super) parts: BTreeMap<String, Bound>,
}

impl Place<'_> {
    /// The parameters of the task, filled in.
    pub(super) fn parameters(&self) -> Result<BTreeMap<String, Value>, PipelineError> {
        let parameters = self.task.value.parameters.iter();
        parameters
            .map(|(name, value)| Ok((name.clone(), self.fill(value, &value.value)?)))
            .collect()
    }

    /// `value` with every `{{ name }}` in it replaced by the parameter. A text that is nothing but one `{{ name }}` becomes
    /// the parameter itself, of whatever kind.
    pub(super) fn fill<T>(&self, at: &Spanned<T>, value: &Value) -> Result<Value, PipelineError> {
        match value {
            Value::String(text) => match only_name(text) {
                Some(name) => self.value(at, name).cloned(),
                None => Ok(Value::from(self.fill_text(at, text)?)),
            },
            Value::Array(items) => items.iter().map(|item| self.fill(at, item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, item)| Ok((key.clone(), self.fill(at, item)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
            other => Ok(other.clone()),
        }
    }

    pub(super) fn fill_text<T>(&self, at: &Spanned<T>, text: &str) -> Result<String, PipelineError> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err(self.error(at, "`{{` is not closed by `}}`"));
            };
            filled.push_str(before);
            match self.value(at, name.trim())? {
                Value::String(text) => filled.push_str(text),
                other => filled.push_str(&other.to_string()),
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The item or parameter called `name`, or a field of it: `item.depth`.
    fn value<T>(&self, at: &Spanned<T>, name: &str) -> Result<&Value, PipelineError> {
        let mut fields = name.split('.');
        let first = fields.next().unwrap_or_default();
        let (items, parameters) = (&self.items.values, &self.scope.parameters);
        let Some(whole) = items.get(first).or_else(|| parameters.get(first)) else {
            let known = Names::of(items.keys().chain(parameters.keys()).map(String::as_str));
            let message = match self.items.parts.contains_key(first) {
                true => format!("`{first}` is a part of an artifact: it can be an input, not a value"),
                false => format!("the pipeline has no parameter `{first}`; it has {known}"),
            };
            return Err(self.error(at, message));
        };
        fields.try_fold(whole, |value, field| {
            let missing = || self.error(at, format!("`{name}`: {value} has no `{field}`"));
            value.get(field).ok_or_else(missing)
        })
    }
}

/// The name in a text that is nothing but `{{ name }}`.
pub(super) fn only_name(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{")).then(|| inner.trim())
}
