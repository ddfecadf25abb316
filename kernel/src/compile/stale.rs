use std::collections::{BTreeMap, BTreeSet};

use super::scope::{Held, Scope, Used, Variable, Version};

/// Whether what a cell came to is still what it would come to.
impl Scope {
    /// The versions that read a variable or use an item of a cell that was executed again or deleted since, with another result; and
    /// those that read what such a version made. Oldest first.
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

    /// The first of [`stale`](Self::stale) whose own inputs have changed.
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

    /// Whether the item is not the same any more.
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

    /// What would be different in a run of the notebook from top to bottom: a cell, a variable that it reads, and the cell that the
    /// variable would be of (none if no cell above makes it). `places` are the cells' ids and where they stand.
    pub fn out_of_order(&self, places: &BTreeMap<&str, usize>) -> BTreeSet<(usize, String, Option<usize>)> {
        let place = |version: &Version| places.get(version.id.as_str()).copied();
        let mut found = BTreeSet::new();
        for (index, version) in self.living() {
            let Some(here) = place(version) else { continue };
            for read in version.reads.values().filter(|read| !self.is_retired(read.made_by)) {
                let makers = self.living().filter(|(_, other)| other.makes.contains_key(&read.name));
                let above = makers.filter_map(|(maker, other)| Some((place(other)?, maker)));
                let expected = above.filter(|(there, _)| *there < here).max().map(|(_, maker)| maker);
                // A cell that has no place was deleted or not saved yet.
                let known = place(&self.versions()[read.made_by]).is_some();
                if known && read.made_by != index && expected != Some(read.made_by) {
                    found.insert((index, read.name.clone(), expected));
                }
            }
        }
        found
    }
}
