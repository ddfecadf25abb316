use std::collections::BTreeMap;

use lockstep_runtime::step::Artifact;

use crate::cell::{Item, Rust};

/// All that a session knows: the cells that were executed, and the variables that they left.
#[derive(Clone, Default, Debug)]
pub struct Scope {
    versions: Vec<Version>,
    variables: BTreeMap<String, Variable>,
}

/// A cell as it was executed once. Never changes; a later execution of the same cell is another version.
#[derive(Clone, Debug)]
pub struct Version {
    /// The front end's id of the cell.
    pub id: Option<String>,
    /// The execution number that people know it by.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// Its Rust.
    pub rust: Rust,
    /// The variables that it read, as they were.
    pub reads: BTreeMap<String, Variable>,
    /// The variables that it made or changed.
    pub makes: BTreeMap<String, Variable>,
    /// Whether a later execution of the same cell has replaced it. Its items and variables are gone then; variables of
    /// other cells may still be derived from it.
    pub retired: bool,
}

/// A variable as a cell left it.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its type, as `std::any::type_name` says it.
    pub type_name: String,
    /// Whether it is declared `mut`.
    pub mutable: bool,
    /// Its value.
    pub held: Held,
    /// The version that made it, as an index into the scope.
    pub made_by: usize,
}

/// How the value of a variable is had in a later cell.
#[derive(Clone, PartialEq, Debug)]
pub enum Held {
    /// From an artifact.
    Artifact {
        /// the artifact
        artifact: Artifact,
        /// how it is read
        via: Via,
    },
    /// By running the cell that made it again, inside the cell that needs it.
    Remade,
}

/// How a type's values become bytes and back; decided by the type, in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A type with a media type of its own.
    Artifact,
    /// Any serde type, in CBOR.
    Value,
    /// It refers to one; what it refers to is kept.
    Reference,
}

impl Variable {
    /// The artifact that a later cell can read the variable from. A value that borrows (`Vec<&str>`) can be written but not
    /// read.
    pub fn readable(&self) -> Option<(&Artifact, Via)> {
        let Held::Artifact { artifact, via } = &self.held else {
            return None;
        };
        let owned = match via {
            Via::Reference => self.type_name.trim_start_matches('&'),
            Via::Artifact | Via::Value => &self.type_name,
        };
        (!owned.contains('&')).then_some((artifact, *via))
    }
}

impl Scope {
    /// The versions, oldest first.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The variables, by name.
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// The items that are in force, oldest first, with the version that each is of: a later item replaces an earlier one of
    /// the same name.
    pub fn items(&self) -> Vec<(usize, &Item)> {
        let mut live: Vec<(usize, &Item)> = Vec::new();
        for (index, version) in self.versions.iter().enumerate().rev().filter(|(_, v)| !v.retired) {
            for item in version.rust.items.iter().rev() {
                let replaced = |name| live.iter().flat_map(|(_, l)| &l.names).any(|later| later.clashes(name));
                if item.names.is_empty() || !item.names.iter().any(replaced) {
                    live.push((index, item));
                }
            }
        }
        live.reverse();
        live
    }

    /// The scope that an execution of the cell `id` sees: without its earlier version.
    pub fn before(&self, id: Option<&str>) -> Self {
        let mut scope = self.clone();
        if let Some(id) = id {
            for version in &mut scope.versions {
                version.retired |= version.id.as_deref() == Some(id);
            }
            scope.variables = scope.visible();
        }
        scope
    }

    /// The execution numbers of the cells that read a variable whose cell was executed again since, with another value.
    pub fn stale(&self) -> Vec<u32> {
        let is_old = |read: &Variable| {
            let now = self.variables.get(&read.name);
            self.versions[read.made_by].retired && now.is_none_or(|now| now.held != read.held || now.held == Held::Remade)
        };
        let living = self.versions.iter().filter(|v| !v.retired);
        living.filter(|v| v.reads.values().any(is_old)).map(|v| v.number).collect()
    }

    /// Takes in a version that was executed.
    pub fn push(&mut self, version: Version) {
        self.variables
            .extend(version.makes.iter().map(|(name, variable)| (name.clone(), variable.clone())));
        self.versions.push(version);
    }

    fn visible(&self) -> BTreeMap<String, Variable> {
        let living = self.versions.iter().filter(|v| !v.retired);
        living.flat_map(|v| v.makes.clone()).collect()
    }
}
