//! Parameters of a pipeline that stay parameters in the export for Kubeflow.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::pipeline::{ParameterRole, Task, Use};
use lockstep_runtime::run::{Entry, Runtime};
use lockstep_runtime::step::{Parameter, ParameterKind};
use lockstep_view::error::Result;
use serde_json::Value;

use super::executor::{interface, of_value, value_of};
use super::told;

/// Parameters that tasks use unmodified, each with a single kind. All others determine the plan itself.
pub struct Live {
    pub parameters: BTreeMap<String, Parameter>,
    /// Their uses, by name of the task in the pipeline's file.
    uses: BTreeMap<String, Vec<(ParameterRole, String)>>,
}

impl Live {
    /// Finds these parameters among `uses`, in a plan of these tasks. Adds a note for each of the others.
    pub fn of(runtime: &Runtime, tasks: &[&Task], uses: &[Use], notes: &mut Vec<String>) -> Result<Self> {
        let mut live = Self {
            parameters: BTreeMap::new(),
            uses: BTreeMap::new(),
        };
        let names: BTreeSet<&String> = uses.iter().map(|one| &one.parameter).collect();
        for name in names {
            let own: Vec<&Use> = uses.iter().filter(|one| one.parameter == *name).collect();
            let Some(parameter) = common(runtime, tasks, &own)? else {
                notes.push(format!(
                    "parameter `{name}` is fixed to its current value: it is used for more than step parameters"
                ));
                continue;
            };
            live.parameters.insert(
                name.clone(),
                Parameter {
                    name: name.clone(),
                    ..parameter
                },
            );
            for one in own {
                let of_task = live.uses.entry(one.task.clone()).or_default();
                of_task.push((one.role.clone(), name.clone()));
            }
        }
        Ok(live)
    }

    /// Whether `task` uses any of them.
    pub fn is_for(&self, task: &Task) -> bool {
        self.uses.contains_key(file_name(task))
    }

    /// Returns the pipeline's parameter for the step's parameter `name`.
    pub fn parameter_of(&self, task: &Task, name: &str) -> Option<&str> {
        let uses = self.uses.get(file_name(task)).into_iter().flatten();
        let mut uses = uses.filter(|(role, _)| matches!(role, ParameterRole::Parameter(own) if own == name));
        uses.next().map(|(_, parameter)| parameter.as_str())
    }

    /// Returns the inputs of `task` that are parameters of the pipeline, with those.
    pub fn values_of<'a>(&'a self, task: &Task) -> impl Iterator<Item = (&'a str, &'a str)> {
        let uses = self.uses.get(file_name(task)).into_iter().flatten();
        uses.filter_map(|(role, parameter)| match role {
            ParameterRole::Value(input) => Some((input.as_str(), parameter.as_str())),
            _ => None,
        })
    }
}

/// Returns the name of a task in the pipeline's file: `train` for `train[3]`. Tasks of nested pipelines have a slash in their name, which
/// names in files do not have.
fn file_name(task: &Task) -> &str {
    task.name.split('[').next().unwrap_or_default()
}

/// Returns the kind and value that all uses of a parameter have in common; `None` if they differ.
fn common(runtime: &Runtime, tasks: &[&Task], uses: &[&Use]) -> Result<Option<Parameter>> {
    let mut found: Option<Parameter> = None;
    for one in uses {
        for task in tasks.iter().filter(|task| file_name(task) == one.task) {
            let Some(own) = used(runtime, task, &one.role)? else {
                return Ok(None);
            };
            let same = |other: &Parameter| (other.kind, &other.default) == (own.kind, &own.default);
            if found.as_ref().is_some_and(|found| !same(found)) {
                return Ok(None);
            }
            found = Some(own);
        }
    }
    Ok(found)
}

/// Returns a parameter with its kind and its value for a task, as the default; `None` if Kubeflow can't represent it.
fn used(runtime: &Runtime, task: &Task, role: &ParameterRole) -> Result<Option<Parameter>> {
    let parameter = match (role, &task.run.entry) {
        (ParameterRole::Parameter(name), Entry::Step { parameters, .. }) => {
            let declared = interface(runtime, &task.run)?
                .into_iter()
                .flat_map(|interface| interface.parameters);
            let declared = declared.into_iter().find(|one| one.name == *name);
            declared.zip(parameters.get(name)).map(|(declared, value)| Parameter {
                default: Some(value.clone()),
                ..declared
            })
        }
        (ParameterRole::Value(input), _) => match task.run.inputs.get(input) {
            Some(input_given) => value_of(runtime, input_given)?.map(|value| of_value(input, &value)),
            None => None,
        },
        _ => None,
    };
    Ok(parameter.filter(|one| {
        let value = one.default.as_ref().unwrap_or(&Value::Null);
        one.kind != ParameterKind::Any && told(one.kind, value).is_some()
    }))
}
