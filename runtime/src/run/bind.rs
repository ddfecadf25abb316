use std::collections::BTreeMap;

use serde_json::Value;

use super::built_in::{UnknownBuiltIn, built_in};
use super::{Entry, Input, Run};
use crate::digest::Digest;
use crate::step::{Artifact, Interface, Parameter, ParameterError};

/// The error of binding inputs and parameters to a step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BindError {
    /// The step has no input of this name.
    #[error("step `{step}` has no input `{name}`; it has {known}")]
    UnknownInput {
        /// the step
        step: String,
        /// the unknown name
        name: String,
        /// its inputs
        known: Names,
    },
    /// The step has no parameter of this name.
    #[error("step `{step}` has no parameter `{name}`; it has {known}")]
    UnknownParameter {
        /// the step
        step: String,
        /// the unknown name
        name: String,
        /// its parameters
        known: Names,
    },
    /// The step has no output of this name.
    #[error("step `{step}` has no output `{name}`; it has {known}")]
    UnknownOutput {
        /// the step
        step: String,
        /// the unknown name
        name: String,
        /// its outputs
        known: Names,
    },
    /// The module has no step of this name.
    #[error("the module has no step `{name}`; it has {known}")]
    UnknownStep {
        /// the unknown name
        name: String,
        /// its steps
        known: Names,
    },
    /// A required input is missing.
    #[error("step `{step}` needs its input `{name}` ({what}): give it")]
    MissingInput {
        /// the step
        step: String,
        /// the input
        name: String,
        /// its media type
        what: String,
    },
    /// A parameter has an invalid value or none.
    #[error("step `{step}`: {source}")]
    Parameter {
        /// the step
        step: String,
        /// the cause
        source: ParameterError,
    },
    /// Its module calls an unknown built-in module.
    #[error("step `{step}` {source}")]
    BuiltIn {
        /// the step
        step: String,
        /// the module
        source: UnknownBuiltIn,
    },
}

/// A list of valid names, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// Creates a list of `names`.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// Returns whether the list contains `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Creates the run of a step with these inputs, parameters and seed. Checks that every name is known, that nothing required is missing
/// and that parameters have the right kind, and fills in defaults.
pub fn bind(
    module: Digest,
    interface: &Interface,
    inputs: BTreeMap<String, Artifact>,
    parameters: &BTreeMap<String, Value>,
    seed: u64,
) -> Result<Run, BindError> {
    let step = || interface.step.clone();
    if let Some(name) = inputs
        .keys()
        .find(|name| interface.inputs.iter().all(|port| port.name != **name))
    {
        let known = Names::of(interface.inputs.iter().map(|port| port.name.as_str()));
        return Err(BindError::UnknownInput {
            step: step(),
            name: name.clone(),
            known,
        });
    }
    if let Some(port) = interface.inputs.iter().find(|port| !inputs.contains_key(&port.name)) {
        let what = port.media_type.to_string();
        return Err(BindError::MissingInput {
            step: step(),
            name: port.name.clone(),
            what,
        });
    }
    for name in parameters.keys() {
        parameter(interface, name)?;
    }
    let mut values = BTreeMap::new();
    for parameter in &interface.parameters {
        let value = parameter
            .value(parameters.get(&parameter.name))
            .map_err(|source| BindError::Parameter { step: step(), source })?;
        values.insert(parameter.name.clone(), value);
    }
    Ok(Run {
        module,
        entry: Entry::Step {
            name: step(),
            parameters: values,
        },
        inputs: inputs
            .into_iter()
            .map(|(name, artifact)| (name, Input::from(artifact)))
            .collect(),
        outputs: interface
            .outputs
            .iter()
            .map(|port| (port.name.clone(), port.media_type.clone()))
            .collect(),
        modules: built_in(&interface.calls).map_err(|source| BindError::BuiltIn { step: step(), source })?,
        seed,
    })
}

/// Parses parameters from the command line, by the kinds that the step declares.
pub fn parse_parameters(interface: &Interface, typed: &BTreeMap<String, String>) -> Result<BTreeMap<String, Value>, BindError> {
    let parse = |(name, text): (&String, &String)| {
        let value = parameter(interface, name)?
            .parse(text)
            .map_err(|source| BindError::Parameter {
                step: interface.step.clone(),
                source,
            })?;
        Ok((name.clone(), value))
    };
    typed.iter().map(parse).collect()
}

/// Returns the interface of the step `name`.
pub fn choose<'a>(interfaces: &'a [Interface], name: &str) -> Result<&'a Interface, BindError> {
    interfaces
        .iter()
        .find(|interface| interface.step == name)
        .ok_or_else(|| BindError::UnknownStep {
            name: name.to_owned(),
            known: Names::of(interfaces.iter().map(|interface| interface.step.as_str())),
        })
}

fn parameter<'a>(interface: &'a Interface, name: &str) -> Result<&'a Parameter, BindError> {
    interface
        .parameters
        .iter()
        .find(|parameter| parameter.name == name)
        .ok_or_else(|| BindError::UnknownParameter {
            step: interface.step.clone(),
            name: name.to_owned(),
            known: Names::of(interface.parameters.iter().map(|parameter| parameter.name.as_str())),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clean() -> Interface {
        serde_json::from_value(json!({
            "lockstep": 1, "step": "clean",
            "inputs": [{"name": "raw", "media_type": "text/csv"}],
            "parameters": [{"name": "column", "kind": "string", "default": "species"}, {"name": "share", "kind": "number"}],
            "outputs": [{"name": "rows", "media_type": "text/csv"}],
        }))
        .unwrap()
    }

    fn try_bind(inputs: &[&str], parameters: &[(&str, &str)]) -> Result<Run, String> {
        let artifact = Artifact {
            digest: Digest::of("x"),
            media_type: Default::default(),
            size: 1,
        };
        let inputs = inputs.iter().map(|name| (name.to_string(), artifact.clone())).collect();
        let typed = parameters
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .collect();
        let parameters = parse_parameters(&clean(), &typed).map_err(|e| e.to_string())?;
        bind(Digest::of("m"), &clean(), inputs, &parameters, 0).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_filled_in() {
        let run = try_bind(&["raw"], &[("share", "1")]).unwrap();
        let Entry::Step { parameters, .. } = run.entry else {
            panic!("not a step")
        };
        assert_eq!(json!(parameters), json!({"column": "species", "share": 1.0}));
        assert_eq!(run.outputs.keys().collect::<Vec<_>>(), ["rows"]);
    }

    #[test]
    fn a_step_gets_the_built_in_modules_that_its_module_calls() {
        let calling = |name: &str| {
            let interface = Interface {
                calls: vec![name.to_owned()],
                ..serde_json::from_value(json!({"lockstep": 1, "step": "query"})).unwrap()
            };
            bind(Digest::of("m"), &interface, BTreeMap::new(), &BTreeMap::new(), 0).map_err(|error| error.to_string())
        };
        assert!(calling("lockstep:sql").unwrap().modules.contains_key("lockstep:sql"));
        let text = "step `query` calls the built-in module `lockstep:later`, which this version of lockstep does not have: install the version that built it";
        assert_eq!(calling("lockstep:later"), Err(text.to_owned()));
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        let share = ("share", "0.5");
        let error = |inputs: &[&str], parameters: &[(&str, &str)]| try_bind(inputs, parameters).unwrap_err();
        assert_eq!(error(&["row"], &[share]), "step `clean` has no input `row`; it has `raw`");
        assert_eq!(error(&[], &[share]), "step `clean` needs its input `raw` (text/csv): give it");
        assert_eq!(
            error(&["raw"], &[("colum", "a")]),
            "step `clean` has no parameter `colum`; it has `column`, `share`"
        );
        assert_eq!(
            error(&["raw"], &[("share", "half")]),
            "step `clean`: parameter `share` takes a value of kind number, not \"half\""
        );
        assert_eq!(
            error(&["raw"], &[]),
            "step `clean`: parameter `share` (number) has no default and was not given"
        );
    }
}
