use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::Artifact;
use serde::{Deserialize, Serialize};

use crate::cell::{self, Item, Kind, Macros, Rust};

/// The state of a session: the executed cells and their variables.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Scope {
    #[serde(with = "versions")]
    versions: Vec<Arc<Version>>,
    /// Versions whose cell was executed again or deleted, each with the number of versions at that time. Their items and
    /// variables are gone, but variables of other cells may still be derived from them.
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

/// One execution of a cell. It never changes; a later execution of the same cell is another version.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Version {
    /// The front end's id of the cell, or a generated one.
    pub id: String,
    /// The displayed execution number.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// Its Rust; empty for the result of a directive. A version of `:use` holds the generated functions.
    #[serde(skip)]
    pub rust: Rust,
    /// Whether it has Rust.
    pub has_rust: bool,
    /// The variables that it read, as of then.
    pub reads: BTreeMap<String, Variable>,
    /// The variables that it defined or changed.
    pub makes: BTreeMap<String, Variable>,
    /// The items of earlier versions in its source.
    pub uses: BTreeSet<Used>,
    /// The implementations of earlier versions that do not fit its definitions and are out of use, as text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unfit: BTreeSet<String>,
    /// The ids of its displays, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub displays: Vec<String>,
    /// The record of its run; `None` if nothing was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
    /// The inputs of that run that are variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Maker>,
    /// The outputs of that run whose names differ from their variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// The modules whose steps its items call, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Digest>,
    /// The files that it imported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

/// The variable behind an input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Maker {
    /// its name
    pub variable: String,
    /// the version that defined it, as an index into the scope
    pub version: usize,
}

/// A file or directory that a cell imported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The path as typed.
    pub path: String,
    /// The digest of its content; for a crate, of the built module.
    pub digest: Digest,
    /// A stamp of its metadata. If it differs, the content may have changed.
    pub stamp: Digest,
    /// Whether it is a crate that was built to a module.
    pub is_crate: bool,
}

/// An item: its version, and its place in the version's text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Used {
    /// the version
    pub version: usize,
    /// the first byte
    pub start: usize,
    /// the byte after the last
    pub end: usize,
}

impl Used {
    fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A variable as of the end of a cell.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its type, as given by `std::any::type_name`.
    pub type_name: String,
    /// Whether it is declared `mut`.
    pub mutable: bool,
    /// Its value.
    pub held: Held,
    /// The version that defined it, as an index into the scope.
    pub made_by: usize,
}

/// How later cells get the value of a variable.
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
    /// By running the defining cell again, inside the cell that needs the value.
    Remade,
}

/// How a type's values are encoded. The guest decides by type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A type with its own media type.
    Artifact,
    /// Any serde type, in CBOR.
    Value,
    /// A reference; the value behind it is stored.
    Reference,
}

impl Variable {
    /// Returns the artifact from which later cells can read the variable. A value that borrows (`Vec<&str>`) can be written
    /// but not read.
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
    /// Returns the versions, oldest first.
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// Returns whether the version's items and variables are gone.
    pub fn is_retired(&self, version: usize) -> bool {
        self.retired.contains_key(&version)
    }

    /// Returns the active versions, oldest first.
    pub fn living(&self) -> impl DoubleEndedIterator<Item = (usize, &Version)> {
        let all = self.versions.iter().map(Arc::as_ref).enumerate();
        all.filter(|(index, _)| !self.is_retired(*index))
    }

    /// Returns the variables by name.
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// Returns the active items with their versions, oldest first. A later item replaces an earlier one of the same name.
    pub fn items(&self) -> Vec<(usize, &Item)> {
        let mut live: Vec<(usize, &Item)> = Vec::new();
        let mut unfit = BTreeSet::new();
        for (index, version) in self.living().rev() {
            for item in version.rust.items.iter().rev() {
                let replaced = |name| live.iter().flat_map(|(_, l)| &l.names).any(|later| later.clashes(name));
                let is_impl = matches!(item.kind, Kind::Impl { .. });
                let is_unfit = is_impl && !unfit.is_empty() && unfit.contains(&item.source(&version.text));
                if !is_unfit && (item.names.is_empty() || !item.names.iter().any(replaced)) {
                    live.push((index, item));
                }
            }
            unfit.extend(&version.unfit);
        }
        live.reverse();
        live
    }

    /// Returns the macros that a new cell can call.
    pub fn macros(&self) -> Macros {
        self.macros_at(self.versions.len())
    }

    /// Returns the macros that the cell of version `index` could call.
    fn macros_at(&self, index: usize) -> Macros {
        let mut macros = Macros::default();
        for (earlier, version) in self.versions[..index].iter().enumerate() {
            if self.retired.get(&earlier).is_none_or(|at| *at > index) {
                version.rust.add_macros(&version.text, &mut macros);
            }
        }
        macros
    }

    /// Returns the scope for an execution of the cell `id`: without its earlier versions.
    pub fn before(&self, id: Option<&str>) -> Self {
        let mut scope = self.clone();
        if let Some(id) = id {
            scope.retire(|version| version.id == id);
        }
        scope
    }

    /// Returns the scope without the versions of all cells. [`undo`](Self::undo) restores them.
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

    /// Adds an executed version.
    pub fn push(&mut self, version: Version) {
        self.variables
            .extend(version.makes.iter().map(|(name, variable)| (name.clone(), variable.clone())));
        self.versions.push(Arc::new(version));
    }

    /// Sets the ids of the displays of the last version.
    pub fn shown(&mut self, displays: Vec<String>) {
        if let Some(last) = self.versions.last_mut() {
            Arc::make_mut(last).displays = displays;
        }
    }

    /// Replaces a version by another one of the same cell.
    pub fn replace(&mut self, old: usize, new: Version) {
        self.retired.insert(old, self.versions.len());
        self.push(new);
        self.variables = self.visible();
    }

    /// Returns the scope before the last executed cell; `None` if there is none.
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

    /// Returns this scope followed by `later`. Definitions in `later` replace those in this scope.
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

    /// Completes a deserialized scope: parses the cells and finds the variables. Cells that can't be parsed count as deleted.
    pub fn revive(&mut self) {
        for index in 0..self.versions.len() {
            if !self.versions[index].has_rust {
                continue;
            }
            let macros = self.macros_at(index);
            let parsed = cell::parse(&self.versions[index].text)
                .ok()
                .and_then(|parsed| Rust::parse_with(&parsed.rust, &macros).ok());
            match parsed {
                Some(rust) => Arc::make_mut(&mut self.versions[index]).rust = rust,
                None => drop(self.retired.entry(index).or_insert(index)),
            }
        }
        self.variables = self.visible();
    }

    /// Returns whether the indices in a deserialized scope are valid.
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

    /// Calls `with` on each variable that a version read or defined.
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
