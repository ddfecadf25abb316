//! Inputs of a task from the pipeline, its DAG and other tasks.

use std::collections::BTreeMap;

use lockstep_runtime::pipeline::yaml::Mark;
use lockstep_runtime::pipeline::{Source, When};
use lockstep_runtime::run::Names;
use lockstep_runtime::step::Artifact;
use lockstep_view::error::{Error, Result};
use serde_json::Value;

use super::condition;
use crate::ir::{ArtifactFrom, Component, Items, ParameterFrom, ParameterIterator, ParameterType, Task};
use crate::{allowed, parameter, whole};

/// Sources of artifacts, by name.
pub type Sources = BTreeMap<String, Source>;

/// A result, or an error and its place in the file.
pub type Located<T> = std::result::Result<T, (Mark, Error)>;

/// Outputs of the tasks of a DAG, by label and name.
#[derive(Default)]
pub struct Made(BTreeMap<String, Sources>);

/// Inputs of a task or a DAG.
#[derive(Clone)]
pub struct Scope {
    /// Name of the task in the plan; empty for the pipeline.
    pub name: String,
    pub parameters: BTreeMap<String, Value>,
    pub artifacts: Sources,
    /// Conditions.
    pub when: Vec<When>,
}

impl Made {
    pub fn insert(&mut self, label: &str, outputs: Sources) {
        self.0.insert(label.to_owned(), outputs);
    }

    pub fn output(&self, label: &str, output: &str) -> Result<&Source> {
        let Some(outputs) = self.0.get(label) else {
            return Err(Error::config(format_args!("task `{label}` not found")));
        };
        outputs.get(output).ok_or_else(|| {
            let known = Names::of(outputs.keys().map(String::as_str));
            Error::config(format_args!("task `{label}` has no output `{output}`; it has {known}"))
        })
    }
}

impl Scope {
    /// Creates the scope of the pipeline.
    pub fn of_pipeline(parameters: BTreeMap<String, Value>, inputs: BTreeMap<String, Artifact>) -> Self {
        let inputs = inputs.into_iter();
        Self {
            name: String::new(),
            parameters,
            artifacts: inputs.map(|(name, artifact)| (name, Source::Pinned(artifact))).collect(),
            when: Vec::new(),
        }
    }

    /// Returns the name in the plan of the task `label`.
    pub fn name_of(&self, label: &str) -> String {
        match self.name.is_empty() {
            true => label.to_owned(),
            false => format!("{}/{label}", self.name),
        }
    }

    /// Creates the scope of a task, with the outputs of other tasks in `made`.
    pub fn of_task(&self, label: &str, task: &Task, component: &Component, made: &Made) -> Located<Self> {
        let mut parameters = defaults(component);
        for (name, from) in &task.inputs.parameters {
            let of_name = |error| (task.mark(&["inputs", "parameters", name]), error);
            let value = self.parameter(name, from).map_err(of_name)?;
            let value = value.and_then(|value| typed(component, name, value));
            parameters.extend(value.map(|value| (name.clone(), value)));
        }
        for (name, definition) in &component.input_definitions.parameters {
            if let Some(value) = parameters.get(name) {
                allowed(name, definition, value)
                    .map_err(|reason| (task.mark(&["inputs", "parameters", name]), Error::config(reason)))?;
            }
        }
        let mut artifacts = Sources::new();
        for (name, from) in &task.inputs.artifacts {
            let source = match from {
                ArtifactFrom::ComponentInputArtifact(input) => self.artifacts.get(input),
                ArtifactFrom::TaskOutputArtifact {
                    producer_task,
                    output_artifact_key,
                } => {
                    let source = made.output(producer_task, output_artifact_key);
                    Some(source.map_err(|error| (task.mark(&["inputs", "artifacts", name]), error))?)
                }
            };
            artifacts.extend(source.map(|source| (name.clone(), source.clone())));
        }
        let mut when = self.when.clone();
        let policy = task.trigger_policy.as_ref();
        if let Some(policy) = policy.filter(|policy| !policy.condition.is_empty()) {
            let conditions = condition::read(&policy.condition, &parameters);
            when.extend(conditions.map_err(|error| (task.mark(&["triggerPolicy", "condition"]), error))?);
        }
        Ok(Self {
            name: self.name_of(label),
            parameters,
            artifacts,
            when,
        })
    }

    /// Creates the scope for an item of a loop.
    pub fn of_item(&self, part: &str, component: &Component, input: &str, item: Value) -> Self {
        let mut scope = self.clone();
        scope.name = format!("{}[{part}]", self.name);
        let item = typed(component, input, item);
        scope.parameters.extend(item.map(|item| (input.to_owned(), item)));
        scope
    }

    /// Returns the items of a loop.
    pub fn items(&self, iterator: &ParameterIterator) -> Result<Vec<Value>> {
        let items = match &iterator.items {
            Items::Raw(text) if is_put_together(text) => {
                return Err(Error::config(format_args!(
                    "the list of the loop has a placeholder, which is not supported: {text}"
                ))
                .hint("make the list a parameter of the pipeline"));
            }
            Items::Raw(text) => said(&Value::from(text.as_str())),
            Items::InputParameter(name) => match self.parameters.get(name) {
                Some(value) => said(value),
                None => return Err(Error::config(format_args!("parameter `{name}` has no value"))),
            },
        };
        match items {
            Value::Array(items) => Ok(items),
            other => Err(Error::config(format_args!("can't loop over {other}: not a list"))),
        }
    }

    /// Whether all conditions hold.
    pub fn holds(&self) -> Result<bool> {
        for when in &self.when {
            if !when.holds(None).map_err(Error::config)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the value of a task's parameter; `None` if it is omitted.
    fn parameter(&self, name: &str, from: &ParameterFrom) -> Result<Option<Value>> {
        match from {
            ParameterFrom::RuntimeValue { constant } if constant.as_str().is_some_and(is_put_together) => Err(Error::config(
                format_args!("parameter `{name}` has a placeholder, which is not supported: {constant}"),
            )
            .hint("pass each value to the step as a parameter of its own, and put them together there")),
            ParameterFrom::RuntimeValue { constant } => Ok(Some(constant.clone())),
            ParameterFrom::ComponentInputParameter(of) => Ok(self.parameters.get(of).cloned()),
            ParameterFrom::Selected {
                component_input_parameter,
                parameter_expression_selector,
            } => {
                let value = self.parameters.get(component_input_parameter);
                let field = value.map(|value| field(value, parameter_expression_selector)).transpose();
                field.map_err(|error| error.of(format_args!("parameter `{name}`")))
            }
            ParameterFrom::TaskOutputParameter(_) | ParameterFrom::TaskFinalStatus(_) => Err(Error::config(format_args!(
                "parameter `{name}` is the result of another task, which is not supported"
            ))
            .hint("pass results between tasks as artifacts")),
        }
    }
}

/// Whether `text` has placeholders of Kubeflow.
fn is_put_together(text: &str) -> bool {
    text.contains("{{$")
}

fn defaults(component: &Component) -> BTreeMap<String, Value> {
    let definitions = component.input_definitions.parameters.iter();
    let default = |value: &Option<Value>, name: &str| typed(component, name, value.clone()?);
    definitions
        .filter_map(|(name, definition)| Some((name.clone(), default(&definition.default_value, name)?)))
        .collect()
}

/// Converts a value to the parameter's declared type, like Kubeflow does: formats values for strings, and parses strings for other types.
/// `None` if it was omitted.
fn typed(component: &Component, name: &str, value: Value) -> Option<Value> {
    let definition = component.input_definitions.parameters.get(name);
    match definition.map_or(ParameterType::Unknown, |definition| definition.parameter_type) {
        ParameterType::Unknown => Some(value),
        ParameterType::String => match value {
            Value::Null => None,
            Value::String(text) => Some(Value::from(text)),
            other => Some(Value::from(whole(other).to_string())),
        },
        other => parameter(other.kind(), value),
    }
}

/// Evaluates an expression of the SDK that selects the field of a struct: `parseJson(string_value)["depth"]`.
fn field(value: &Value, expression: &str) -> Result<Value> {
    let quoted = expression.strip_prefix("parseJson(string_value)[");
    let quoted = quoted.and_then(|rest| rest.strip_suffix(']'));
    let Some(name) = quoted.and_then(|quoted| serde_json::from_str::<String>(quoted).ok()) else {
        return Err(Error::config(format_args!("unsupported expression `{expression}`")));
    };
    let value = said(value);
    match value.get(&name) {
        Some(field) => Ok(field.clone()),
        None => Err(Error::config(format_args!("{value} has no field `{name}`"))),
    }
}

/// Parses a string that is JSON; returns other values unchanged.
fn said(value: &Value) -> Value {
    let json = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    json.unwrap_or_else(|| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_taken_of_structs_and_of_what_they_are_as_texts() {
        let depth = r#"parseJson(string_value)["depth"]"#;
        assert_eq!(field(&json!({ "depth": [1] }), depth).unwrap(), json!([1]));
        assert_eq!(field(&json!(r#"{"depth": 2}"#), depth).unwrap(), json!(2));
        for (value, expression) in [
            (json!({}), depth),
            (json!("x"), depth),
            (json!({ "depth": 1 }), "string_value"),
        ] {
            assert!(field(&value, expression).is_err(), "{value} {expression}");
        }
    }

    #[test]
    fn values_get_the_type_that_a_component_says() {
        let component: Component = serde_json::from_value(json!({ "inputDefinitions": { "parameters": {
            "text": { "parameterType": "STRING" },
            "count": { "parameterType": "NUMBER_INTEGER", "defaultValue": 3.0 },
        } } }))
        .unwrap();
        for (name, value, expected) in [
            ("text", json!(2.0), json!("2")),
            ("text", json!([1.0, "a"]), json!(r#"[1,"a"]"#)),
            ("count", json!("7"), json!(7)),
            ("other", json!(1.5), json!(1.5)),
        ] {
            assert_eq!(typed(&component, name, value), Some(expected), "{name}");
        }
        assert_eq!(defaults(&component), BTreeMap::from([("count".to_owned(), json!(3))]));
    }
}
