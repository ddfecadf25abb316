//! A session as tasks of a pipeline that computes the same results as its cells.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Run;
use lockstep_runtime::step::value;
use serde_json::Value;

use super::{Session, SessionError};
use crate::compile::{Held, Maker, Scope, Version, Via};

/// The tasks of a notebook, in the order of its cells.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tasks {
    /// The variables of the parameter cells, with their values.
    pub parameters: BTreeMap<String, Value>,
    /// A task for each cell, or part of a cell, that defines variables.
    pub tasks: Vec<CellTask>,
    /// The paths of imported files, as typed.
    pub files: BTreeMap<Digest, String>,
}

/// The task of a cell, or of one `:run` in it.
#[derive(Clone, PartialEq, Debug)]
pub struct CellTask {
    /// The unique name: from the cell's line `//! name: ...`, else from its variables.
    pub name: String,
    /// The execution number of the cell.
    pub cell: u32,
    /// The text of the cell.
    pub text: String,
    /// The cell's run.
    pub run: Run,
    /// The sources of inputs that are not fixed.
    pub from: BTreeMap<String, InputFrom>,
}

/// The source of an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InputFrom {
    /// An output of another task.
    Output {
        /// the task
        task: String,
        /// its output
        output: String,
    },
    /// A parameter of the notebook.
    Parameter(String),
    /// A file or download that a directive bound to this variable.
    Outside(String),
}

impl Session {
    /// Returns the cells as tasks. `parameters` are the ids of the parameter cells.
    pub fn tasks(&self, parameters: &BTreeSet<String>) -> Result<Tasks, SessionError> {
        let mut all = Tasks::default();
        let mut known = Known::default();
        for (index, version) in self.scope.living() {
            let files = version.grants.iter().filter(|grant| !grant.is_crate);
            all.files.extend(files.map(|grant| (grant.digest, grant.path.clone())));
            if let Some(values) = self.values(version, parameters)? {
                all.parameters.extend(values);
                known.parameters.insert(index);
            } else if let Some(record) = version.record.filter(|_| !version.makes.is_empty()) {
                let name = known.free_name(version);
                let from = version
                    .inputs
                    .iter()
                    .map(|(input, maker)| (input.clone(), known.from(&self.scope, maker)));
                all.tasks.push(CellTask {
                    from: from.collect(),
                    name: name.clone(),
                    cell: version.number,
                    text: version.text.clone(),
                    run: self.run_of(&record)?,
                });
                known.tasks.insert(index, name);
            }
        }
        Ok(all)
    }

    fn run_of(&self, record: &Digest) -> Result<Run, SessionError> {
        let found = self.setup.runtime.record(record)?;
        found.map(|(record, _)| record.run).ok_or(SessionError::NoRecord(*record))
    }

    /// Returns the values of a parameter cell, if JSON can represent all of them.
    fn values(
        &self,
        version: &Version,
        parameters: &BTreeSet<String>,
    ) -> Result<Option<BTreeMap<String, Value>>, SessionError> {
        if !parameters.contains(&version.id) || !version.reads.is_empty() {
            return Ok(None);
        }
        let mut values = BTreeMap::new();
        for (name, variable) in &version.makes {
            let Held::Artifact { artifact, via } = &variable.held else {
                return Ok(None);
            };
            let bytes = self.setup.runtime.store.get(&artifact.digest)?;
            match value::decode(&bytes).filter(|_| *via != Via::Artifact) {
                Some(value) => values.insert(name.clone(), value),
                None => return Ok(None),
            };
        }
        Ok(Some(values))
    }
}

/// The versions processed so far.
#[derive(Default)]
struct Known {
    parameters: BTreeSet<usize>,
    tasks: BTreeMap<usize, String>,
}

impl Known {
    fn from(&self, scope: &Scope, maker: &Maker) -> InputFrom {
        let variable = &maker.variable;
        match self.tasks.get(&maker.version) {
            Some(task) => InputFrom::Output {
                task: task.clone(),
                output: scope.versions()[maker.version]
                    .outputs
                    .get(variable)
                    .unwrap_or(variable)
                    .clone(),
            },
            None if self.parameters.contains(&maker.version) => InputFrom::Parameter(variable.clone()),
            None => InputFrom::Outside(variable.clone()),
        }
    }

    fn free_name(&self, version: &Version) -> String {
        let name = named(&version.text).unwrap_or_else(|| {
            let makes: Vec<&str> = version.makes.keys().take(3).map(String::as_str).collect();
            makes.join("-")
        });
        let is_free = |name: &String| self.tasks.values().all(|other| other != name);
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
    }
}

/// Returns the name in a line `//! name: clean`, if it is valid for a task.
fn named(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix("//! name:"));
    let name = lines.next()?.trim();
    (!name.is_empty() && name.chars().all(is_part)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Variable;

    #[test]
    fn a_task_is_named_by_its_line_or_its_variables() {
        let version = |text: &str, makes: &[&str]| Version {
            text: text.to_owned(),
            makes: makes
                .iter()
                .map(|name| {
                    let variable = Variable {
                        name: name.to_string(),
                        type_name: "i64".into(),
                        mutable: false,
                        held: Held::Remade,
                        made_by: 0,
                    };
                    (name.to_string(), variable)
                })
                .collect(),
            ..Version::default()
        };
        let mut known = Known::default();
        assert_eq!(known.free_name(&version("//! name: clean\nlet x = 1;", &["x"])), "clean");
        assert_eq!(known.free_name(&version("//! name: a b\nlet x = 1;", &["x", "y"])), "x-y");
        known.tasks.insert(0, "x".into());
        assert_eq!(known.free_name(&version("", &["x"])), "x-2");
    }
}
