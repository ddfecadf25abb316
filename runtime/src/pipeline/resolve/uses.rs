use serde_json::Value;

use super::Pipeline;
use crate::pipeline::file::TaskFile;
use crate::pipeline::reference::only_name;

/// A use of a parameter in a pipeline file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Use {
    /// The parameter.
    pub parameter: String,
    /// The task's name in the file.
    pub task: String,
    /// Its role there.
    pub role: ParameterRole,
}

/// The role of a pipeline's parameter in a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParameterRole {
    /// It is the value of this parameter of the task's step.
    Parameter(String),
    /// It is the value of this input.
    Value(String),
    /// It has another role, or is only a part of a value.
    Other,
}

impl Pipeline {
    /// Returns the uses of the file's parameters. Parameters of nested pipelines count as [`ParameterRole::Other`].
    pub fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (name, task) in &self.content.tasks {
            let own = of_task(&task.value).into_iter();
            let known = own.filter(|(parameter, _)| self.content.parameters.contains_key(parameter));
            uses.extend(known.map(|(parameter, role)| Use {
                parameter,
                task: name.clone(),
                role,
            }));
        }
        uses
    }
}

fn of_task(task: &TaskFile) -> Vec<(String, ParameterRole)> {
    let mut uses = Vec::new();
    let mut value = |value: &Value, role: ParameterRole| match value.as_str().and_then(only_name) {
        Some(name) if task.pipeline.is_none() && !name.contains('.') => uses.push((name.to_owned(), role)),
        _ => named(value, &mut |name| uses.push((name.to_owned(), ParameterRole::Other))),
    };
    for (name, given) in &task.parameters {
        value(&given.value, ParameterRole::Parameter(name.clone()));
    }
    for (name, given) in &task.values {
        value(&given.value, ParameterRole::Value(name.clone()));
    }
    let texts = task
        .inputs
        .values()
        .chain(task.env.values())
        .chain(&task.args)
        .chain(&task.when);
    let mut others: Vec<Value> = texts.map(|text| Value::from(text.value.as_str())).collect();
    others.extend(task.seed.iter().map(|seed| seed.value.clone()));
    others.extend(task.for_each.iter().flat_map(|each| each.value.values().cloned()));
    for other in &others {
        named(other, &mut |name| uses.push((name.to_owned(), ParameterRole::Other)));
    }
    // the item of a `for_each` shadows a parameter of the same name
    let items = task.for_each.as_ref().map(|each| &each.value);
    uses.retain(|(name, role)| *role == ParameterRole::Other || items.is_none_or(|items| !items.contains_key(name)));
    uses
}

/// Calls `tell` with all names in `{{ }}` in `value`.
fn named(value: &Value, tell: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => {
            for piece in text.split("{{").skip(1) {
                let name = piece.split("}}").next().unwrap_or_default().trim();
                tell(name.split('.').next().unwrap_or_default());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, tell)),
        Value::Object(map) => map.values().for_each(|item| named(item, tell)),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn uses_are_told_with_what_they_are_for() {
        let text = "name: p
parameters: { depth: 4, depths: [1], word: a }
tasks:
  one: { step: m.wasm#a, parameters: { depth: '{{ depth }}', name: 'x-{{ word }}' } }
  two: { step: m.wasm#a, for_each: { depth: '{{ depths }}' }, parameters: { depth: '{{ depth }}' } }
  three: { program: m.wasm, args: ['{{ word }}'], values: { size: '{{ depth }}' } }
  four: { pipeline: p.yaml, parameters: { depth: '{{ depth }}' } }
";
        let pipeline = Pipeline::parse(Path::new("p.yaml"), text.to_owned()).unwrap();
        let told: Vec<String> = pipeline
            .uses()
            .iter()
            .map(|one| format!("{} {} {:?}", one.task, one.parameter, one.role))
            .collect();
        assert_eq!(
            told,
            [
                "four depth Other",
                "one depth Parameter(\"depth\")",
                "one word Other",
                "three depth Value(\"size\")",
                "three word Other",
                "two depths Other",
            ]
        );
    }
}
