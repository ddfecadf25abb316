use std::collections::BTreeMap;

use serde_json::Value;

use super::input::Bound;
use super::{Names, PipelineError, TaskContext};
use crate::pipeline::reference::only_name;
use crate::pipeline::yaml::Spanned;

/// The items of the enclosing `for_each`, in one instance.
#[derive(Clone, Default)]
pub(super) struct Items {
    pub(super) values: BTreeMap<String, Value>,
    pub(super) parts: BTreeMap<String, Bound>,
}

impl TaskContext<'_> {
    /// Returns the parameters of the task, with placeholders replaced.
    pub(super) fn parameters(&self) -> Result<BTreeMap<String, Value>, PipelineError> {
        let parameters = self.task.value.parameters.iter();
        parameters
            .map(|(name, value)| Ok((name.clone(), self.fill(value, &value.value)?)))
            .collect()
    }

    /// Replaces every `{{ name }}` in `value` by the parameter. A string that is exactly one `{{ name }}` becomes the parameter itself,
    /// of any kind.
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
                return Err(self.error(at, "`{{` without a closing `}}`"));
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

    /// Returns the item or parameter `name`, or a field of it: `item.depth`.
    fn value<T>(&self, at: &Spanned<T>, name: &str) -> Result<&Value, PipelineError> {
        let mut fields = name.split('.');
        let first = fields.next().unwrap_or_default();
        let (items, parameters) = (&self.items.values, &self.scope.parameters);
        let Some(whole) = items.get(first).or_else(|| parameters.get(first)) else {
            let known = Names::of(items.keys().chain(parameters.keys()).map(String::as_str));
            let message = match self.items.parts.contains_key(first) {
                true => format!("`{first}` is a part of an artifact: use it as an input, not as a value"),
                false => format!("the pipeline has no parameter `{first}`; it has {known}"),
            };
            return Err(self.error(at, message));
        };
        fields.try_fold(whole, |value, field| {
            let missing = || self.error(at, format!("`{name}`: {value} has no field `{field}`"));
            value.get(field).ok_or_else(missing)
        })
    }
}
