//! Numbers in texts. `1.10` is a number as a value, but a text that uses it shows how it was written. A number does not keep that, so
//! it is refused where a text would show something else.

use std::collections::BTreeSet;

use super::reference::only_name;
use super::yaml::{Content, Entry, Fault, Node};

/// The names of parameters and items that the texts of a file use.
#[derive(Debug)]
pub(super) struct Shown(BTreeSet<String>);

impl Shown {
    /// Returns the names that the tasks of a pipeline file use in texts, or pass to other pipelines.
    pub(super) fn of(file: &Node) -> Self {
        let mut names = BTreeSet::new();
        for task in tasks(file) {
            for Entry { key, value, .. } in task.entries() {
                let are_texts = match key.as_str() {
                    "args" | "env" | "inputs" => true,
                    "parameters" => task.get("pipeline").is_some(),
                    _ => false,
                };
                add(value, are_texts, &mut names);
            }
        }
        Self(names)
    }

    /// Whether a text uses the parameter or item.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Checks the values in a pipeline file that its texts use.
    pub(super) fn check(&self, file: &Node) -> Result<(), Fault> {
        self.check_values(file.get("parameters"))?;
        for task in tasks(file) {
            self.check_values(task.get("for_each"))?;
            if task.get("pipeline").is_some() {
                task.get("parameters").map_or(Ok(()), check)?;
            }
        }
        Ok(())
    }

    /// Checks the values of a mapping whose keys are the names.
    pub(super) fn check_values(&self, values: Option<&Node>) -> Result<(), Fault> {
        let entries = values.into_iter().flat_map(Node::entries);
        entries
            .filter(|entry| self.contains(&entry.key))
            .try_for_each(|entry| check(&entry.value))
    }
}

fn tasks(file: &Node) -> impl Iterator<Item = &Node> {
    let tasks = file.get("tasks").into_iter().flat_map(Node::entries);
    tasks.map(|entry| &entry.value)
}

fn add(node: &Node, is_text: bool, names: &mut BTreeSet<String>) {
    match &node.content {
        Content::List(items) => items.iter().for_each(|item| add(item, is_text, names)),
        Content::Map(entries) => entries.iter().for_each(|entry| add(&entry.value, is_text, names)),
        Content::Scalar { text, .. } if is_text || only_name(text).is_none() => {
            for piece in text.split("{{").skip(1) {
                let name = piece.split("}}").next().unwrap_or_default();
                names.insert(name.split('.').next().unwrap_or_default().trim().to_owned());
            }
        }
        Content::Scalar { .. } => (),
    }
}

fn check(node: &Node) -> Result<(), Fault> {
    match &node.content {
        Content::List(items) => items.iter().try_for_each(check),
        Content::Map(entries) => entries.iter().try_for_each(|entry| check(&entry.value)),
        Content::Scalar { text, .. } => match node.number().map(|number| number.to_string()) {
            Some(shown) if shown != *text => Err(Fault::new(
                node.mark,
                format!(
                    "`{text}` becomes `{shown}` in the text that uses it: write it in quotes if it is text, or as {shown} if it is a number"
                ),
            )),
            _ => Ok(()),
        },
    }
}
