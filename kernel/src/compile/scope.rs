use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::Artifact;
use serde::{Deserialize, Serialize};

use crate::cell::{self, Item, Rust};

/// All that a session knows: the cells that were executed, and the variables that they left.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Scope {
    #[serde(with = "versions")]
    versions: Vec<Arc<Version>>,
    /// The versions whose items and variables are gone, each with the number of versions that there were when they went: the cell was
    /// executed again, or deleted. Variables of other cells may still be derived from them.
    retired: BTreeMap<usize, usize>,
    #[serde(skip)]
    variables: BTreeMap<String, Variable>,
}

mod versions {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Arc, Version};

    pub fn serialize<S: Serializer>(versions: &[Arc<Version>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(versions.iter().map(Arc::as_ref))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Version>>, D::Error> {
        Ok(Vec::<Version>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
    }
}

/// A cell as it was executed once. Never changes; a later execution of the same cell is another version.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Version {
    /// The front end's id of the cell, or one of ours.
    pub id: String,
    /// The execution number that people know it by.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// Its Rust; none if this is what a directive did, but for `:use`, whose text is what it stands for.
    #[serde(skip)]
    pub rust: Rust,
    /// Whether it has Rust.
    pub has_rust: bool,
    /// The variables that it read, as they were.
    pub reads: BTreeMap<String, Variable>,
    /// The variables that it made or changed.
    pub makes: BTreeMap<String, Variable>,
    /// The items of earlier versions that its source holds.
    pub uses: BTreeSet<Used>,
    /// The record of its run; none if nothing was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
    /// The inputs of that run that are variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Maker>,
    /// The outputs of that run that are not called as the variables that they became.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// The modules whose steps its items call, by the names that they go by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Digest>,
    /// What it took in from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

/// The variable that an input is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Maker {
    /// its name
    pub variable: String,
    /// the version that made it, as an index into the scope
    pub version: usize,
}

/// A file or directory of the machine that was taken in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// As it was typed.
    pub path: String,
    /// What was taken in; of a crate, the module that it was built to.
    pub digest: Digest,
    /// Another one tells that something may have changed.
    pub stamp: Digest,
    /// Whether it is a crate that is built to a module, and not taken in as it is.
    pub is_crate: bool,
}

/// An item: the version that it is of, and its place in the version's text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Used {
    /// the version
    pub version: usize,
    /// from this byte
    pub start: usize,
    /// to before this one
    pub end: usize,
}

impl Used {
    fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A variable as a cell left it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// Whether the version's items and variables are gone.
    pub fn is_retired(&self, version: usize) -> bool {
        self.retired.contains_key(&version)
    }

    /// The versions that are in force, oldest first.
    pub fn living(&self) -> impl DoubleEndedIterator<Item = (usize, &Version)> {
        let all = self.versions.iter().map(Arc::as_ref).enumerate();
        all.filter(|(index, _)| !self.is_retired(*index))
    }

    /// The variables, by name.
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// The items that are in force, oldest first, with the version that each is of: a later item replaces an earlier one of
    /// the same name.
    pub fn items(&self) -> Vec<(usize, &Item)> {
        let mut live: Vec<(usize, &Item)> = Vec::new();
        for (index, version) in self.living().rev() {
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

    /// The scope that an execution of the cell `id` sees: without its earlier versions.
    pub fn before(&self, id: Option<&str>) -> Self {
        let mut scope = self.clone();
        if let Some(id) = id {
            scope.retire(|version| version.id == id);
        }
        scope
    }

    /// The scope without the versions of all cells; they can be had back by [`undo`](Self::undo).
    pub fn cleared(&self) -> Self {
        let mut scope = self.clone();
        scope.retire(|_| true);
        scope
    }

    fn retire(&mut self, which: impl Fn(&Version) -> bool) {
        let at = self.versions.len();
        for (index, version) in self.versions.iter().enumerate() {
            if which(version) {
                self.retired.entry(index).or_insert(at);
            }
        }
        self.variables = self.visible();
    }

    /// Takes in a version that was executed.
    pub fn push(&mut self, version: Version) {
        self.variables
            .extend(version.makes.iter().map(|(name, variable)| (name.clone(), variable.clone())));
        self.versions.push(Arc::new(version));
    }

    /// Puts a version in the place of another of the same cell.
    pub fn replace(&mut self, old: usize, new: Version) {
        self.retired.insert(old, self.versions.len());
        self.push(new);
        self.variables = self.visible();
    }

    /// The scope before the cell that was executed last; `None` if there is none.
    pub fn undo(&self) -> Option<Self> {
        let last = self.versions.last()?;
        let other = |version: &Arc<Version>| version.number != last.number || version.id != last.id;
        let first = self.versions.iter().rposition(other);
        let mut scope = self.clone();
        scope.versions.truncate(first.map_or(0, |index| index + 1));
        let left = scope.versions.len();
        scope.retired.retain(|version, at| *version < left && *at < left);
        scope.variables = scope.visible();
        Some(scope)
    }

    /// This scope, and then `later`: what both have is as `later` has it.
    pub fn followed_by(&self, later: &Self) -> Self {
        let offset = self.versions.len();
        let moved = |variables: &BTreeMap<String, Variable>| {
            let moved = variables.iter().map(|(name, variable)| {
                let made_by = variable.made_by + offset;
                (
                    name.clone(),
                    Variable {
                        made_by,
                        ..variable.clone()
                    },
                )
            });
            moved.collect()
        };
        let mut scope = self.clone();
        for (index, version) in later.versions.iter().enumerate() {
            scope = scope.before(Some(&version.id));
            let uses = version.uses.iter().map(|used| Used {
                version: used.version + offset,
                ..used.clone()
            });
            let inputs = version.inputs.iter().map(|(input, maker)| {
                let version = maker.version + offset;
                let variable = maker.variable.clone();
                (input.clone(), Maker { variable, version })
            });
            scope.push(Version {
                inputs: inputs.collect(),
                reads: moved(&version.reads),
                makes: moved(&version.makes),
                uses: uses.collect(),
                ..(**version).clone()
            });
            if later.is_retired(index) {
                scope.retired.insert(offset + index, scope.versions.len());
            }
        }
        scope.variables = scope.visible();
        scope
    }

    /// After reading: parses again what is not kept, and finds the variables. Cells that this `lockstep` can't parse are as if they
    /// were deleted.
    pub fn revive(&mut self) {
        for (index, version) in self.versions.iter_mut().enumerate().filter(|(_, v)| v.has_rust) {
            let parsed = cell::parse(&version.text)
                .ok()
                .and_then(|parsed| Rust::parse(&parsed.rust).ok());
            match parsed {
                Some(rust) => Arc::make_mut(version).rust = rust,
                None => drop(self.retired.entry(index).or_insert(index)),
            }
        }
        self.variables = self.visible();
    }

    /// Whether the indices in it make sense; a file may say anything.
    pub fn is_sound(&self) -> bool {
        let sound = |(index, version): (usize, &Arc<Version>)| {
            let variables = version.reads.values().chain(version.makes.values());
            variables.into_iter().all(|variable| variable.made_by <= index)
                && version.inputs.values().all(|maker| maker.version <= index)
                && version.uses.iter().all(|used| {
                    let of = self.versions.get(used.version);
                    used.version <= index && of.is_some_and(|of| of.text.get(used.range()).is_some())
                })
        };
        self.versions.iter().enumerate().all(sound)
    }

    /// Calls `with` on each variable that a version read or made.
    pub fn for_each_variable(&mut self, mut with: impl FnMut(&mut Variable)) {
        for version in &mut self.versions {
            let version = Arc::make_mut(version);
            version
                .reads
                .values_mut()
                .chain(version.makes.values_mut())
                .for_each(&mut with);
        }
        self.variables = self.visible();
    }

    fn visible(&self) -> BTreeMap<String, Variable> {
        self.living().flat_map(|(_, version)| version.makes.clone()).collect()
    }
}
