use std::collections::{BTreeMap, BTreeSet};

use super::scope::{Held, Scope, Used, Variable, Version};

/// Detection of stale cells, whose results would differ if they were re-run.
impl Scope {
    /// Returns the stale versions, oldest first: those that use a variable or item that has changed since, and those that
    /// read variables of a stale version.
    pub fn stale(&self) -> Vec<usize> {
        let mut stale = BTreeSet::new();
        for (index, version) in self.living() {
            let after_stale = version.reads.values().any(|read| stale.contains(&read.made_by));
            if after_stale || self.is_stale(version) {
                stale.insert(index);
            }
        }
        stale.into_iter().collect()
    }

    /// Returns the first of [`stale`](Self::stale) whose own inputs have changed.
    pub fn first_stale(&self) -> Option<usize> {
        self.living()
            .find(|(_, version)| self.is_stale(version))
            .map(|(index, _)| index)
    }

    fn is_stale(&self, version: &Version) -> bool {
        version.reads.values().any(|read| self.has_changed(read)) || version.uses.iter().any(|used| self.is_outdated(used))
    }

    fn has_changed(&self, read: &Variable) -> bool {
        let now = self.variables().get(&read.name);
        self.is_retired(read.made_by) && now.is_none_or(|now| now.held != read.held || now.held == Held::Remade)
    }

    /// Returns whether the item has changed.
    fn is_outdated(&self, used: &Used) -> bool {
        if !self.is_retired(used.version) {
            return false;
        }
        let of = &self.versions()[used.version];
        let range = used.start..used.end;
        let text = &of.text[range.clone()];
        let Some(item) = of.rust.items.iter().find(|item| item.range == range) else {
            return false;
        };
        let items = self.items();
        let mut same = items
            .iter()
            .filter(|(_, now)| now.names == item.names && now.kind == item.kind);
        !same.any(|(index, now)| {
            let version = &self.versions()[*index];
            &version.text[now.range.clone()] == text && version.modules == of.modules
        })
    }

    /// Returns what would differ in a run of the notebook from top to bottom: a cell, a variable that it reads, and the cell
    /// that would define the variable (`None` if no cell above does). `places` maps the cells' ids to their positions.
    pub fn out_of_order(&self, places: &BTreeMap<&str, usize>) -> BTreeSet<(usize, String, Option<usize>)> {
        let place = |version: &Version| places.get(version.id.as_str()).copied();
        let mut found = BTreeSet::new();
        for (index, version) in self.living() {
            let Some(here) = place(version) else { continue };
            for read in version.reads.values().filter(|read| !self.is_retired(read.made_by)) {
                let makers = self.living().filter(|(_, other)| other.makes.contains_key(&read.name));
                let above = makers.filter_map(|(maker, other)| Some((place(other)?, maker)));
                let expected = above.filter(|(there, _)| *there < here).max().map(|(_, maker)| maker);
                // A cell without a position was deleted or is not saved yet.
                let known = place(&self.versions()[read.made_by]).is_some();
                if known && read.made_by != index && expected != Some(read.made_by) {
                    found.insert((index, read.name.clone(), expected));
                }
            }
        }
        found
    }
}
