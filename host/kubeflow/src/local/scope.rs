//! What a task is given by the pipeline, by the DAG that it is in, and by the other tasks there.

use std::collections::BTreeMap;

use lockstep_runtime::pipeline::{Source, When};
use lockstep_runtime::run::Names;
use lockstep_runtime::step::Artifact;
use lockstep_view::error::{Error, Result};
use serde_json::Value;

use super::condition;
use crate::ir::{ArtifactFrom, Component, Items, ParameterFrom, ParameterIterator, ParameterType, Task};
use crate::{parameter, whole};

/// Where artifacts come from, by name.
pub type Sources = BTreeMap<String, Source>;

/// What the tasks of a DAG make, by label and output.
#[derive(Default)]
pub struct Made(BTreeMap<String, Sources>);

/// What a task is given, and with it those of its DAG.
#[derive(Clone)]
pub struct Scope {
    /// What the task is called in the plan; empty for the pipeline.
    pub name: String,
    pub parameters: BTreeMap<String, Value>,
    pub artifacts: Sources,
    /// What is to hold.
    pub when: Vec<When>,
}

impl Made {
    pub fn insert(&mut self, label: &str, outputs: Sources) {
        self.0.insert(label.to_owned(), outputs);
    }

    pub fn output(&self, label: &str, output: &str) -> Result<&Source> {
        let Some(outputs) = self.0.get(label) else {
            return Err(Error::config(format_args!("there is no task `{label}`")));
        };
        outputs.get(output).ok_or_else(|| {
            let known = Names::of(outputs.keys().map(String::as_str));
            Error::config(format_args!("task `{label}` makes no `{output}`; it makes {known}"))
        })
    }
}

impl Scope {
    /// What the pipeline itself is given.
    pub fn of_pipeline(parameters: BTreeMap<String, Value>, inputs: BTreeMap<String, Artifact>) -> Self {
        let inputs = inputs.into_iter();
        Self {
            name: String::new(),
            parameters,
            artifacts: inputs.map(|(name, artifact)| (name, Source::Pinned(artifact))).collect(),
            when: Vec::new(),
        }
    }

    /// What the task with this label is called in the plan.
    pub fn name_of(&self, label: &str) -> String {
        match self.name.is_empty() {
            true => label.to_owned(),
            false => format!("{}/{label}", self.name),
        }
    }

    /// What a task in it is given, beside others that have `made` something.
    pub fn of_task(&self, label: &str, task: &Task, component: &Component, made: &Made) -> Result<Self> {
        let mut parameters = defaults(component);
        for (name, from) in &task.inputs.parameters {
            let value = self.parameter(name, from)?;
            let value = value.and_then(|value| typed(component, name, value));
            parameters.extend(value.map(|value| (name.clone(), value)));
        }
        let mut artifacts = Sources::new();
        for (name, from) in &task.inputs.artifacts {
            let source = match from {
                ArtifactFrom::ComponentInputArtifact(input) => self.artifacts.get(input),
                ArtifactFrom::TaskOutputArtifact {
                    producer_task,
                    output_artifact_key,
                } => Some(made.output(producer_task, output_artifact_key)?),
            };
            artifacts.extend(source.map(|source| (name.clone(), source.clone())));
        }
        let mut when = self.when.clone();
        let policy = task.trigger_policy.as_ref();
        if let Some(policy) = policy.filter(|policy| !policy.condition.is_empty()) {
            when.extend(condition::read(&policy.condition, &parameters)?);
        }
        Ok(Self {
            name: self.name_of(label),
            parameters,
            artifacts,
            when,
        })
    }

    /// What the task is given when it is run for this item of a loop.
    pub fn of_item(&self, part: &str, component: &Component, input: &str, item: Value) -> Self {
        let mut scope = self.clone();
        scope.name = format!("{}[{part}]", self.name);
        let item = typed(component, input, item);
        scope.parameters.extend(item.map(|item| (input.to_owned(), item)));
        scope
    }

    /// What a loop goes over.
    pub fn items(&self, iterator: &ParameterIterator) -> Result<Vec<Value>> {
        let items = match &iterator.items {
            Items::Raw(text) if is_put_together(text) => {
                return Err(Error::config(format_args!(
                    "the list that it is run for each of is put together by Kubeflow: {text}"
                )));
            }
            Items::Raw(text) => said(&Value::from(text.as_str())),
            Items::InputParameter(name) => match self.parameters.get(name) {
                Some(value) => said(value),
                None => return Err(Error::config(format_args!("parameter `{name}` has no value"))),
            },
        };
        match items {
            Value::Array(items) => Ok(items),
            other => Err(Error::config(format_args!("it is run for each of {other}, which is no list"))),
        }
    }

    /// Whether all holds that is to.
    pub fn holds(&self) -> Result<bool> {
        for when in &self.when {
            if !when.holds(None).map_err(Error::config)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A parameter of a task in it; `None` if it is left out.
    fn parameter(&self, name: &str, from: &ParameterFrom) -> Result<Option<Value>> {
        match from {
            ParameterFrom::RuntimeValue { constant } if constant.as_str().is_some_and(is_put_together) => Err(Error::config(
                format_args!("parameter `{name}` is put together by Kubeflow: {constant}"),
            )),
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
                "parameter `{name}` is known only when another task has run"
            ))
            .hint("what tasks make for one another are artifacts")),
        }
    }
}

/// Whether Kubeflow would fill in something.
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

/// The value as the component is given it, by the type that it says: Kubeflow makes a text of what is to be one, and reads what is not. `None` if it was
/// left out.
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

/// The field of a struct that an expression of the SDK takes: `parseJson(string_value)["depth"]`.
fn field(value: &Value, expression: &str) -> Result<Value> {
    let quoted = expression.strip_prefix("parseJson(string_value)[");
    let quoted = quoted.and_then(|rest| rest.strip_suffix(']'));
    let Some(name) = quoted.and_then(|quoted| serde_json::from_str::<String>(quoted).ok()) else {
        return Err(Error::config(format_args!("the expression `{expression}` is not known here")));
    };
    let value = said(value);
    match value.get(&name) {
        Some(field) => Ok(field.clone()),
        None => Err(Error::config(format_args!("{value} has no `{name}`"))),
    }
}

/// What a text says that is JSON; any other value is itself.
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
