use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What the source of a cell leaves out, because rustc rejects it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Without {
    /// Variables that can't be saved, because the cell moves them.
    pub saves: BTreeSet<String>,
    /// Automatic implementations that conflict with the user's: type and trait.
    pub derived: BTreeSet<(String, String)>,
    /// Items of earlier cells that don't fit a type or a trait that the cell defines again, as text.
    pub items: BTreeSet<String>,
}

impl Without {
    /// Returns whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what `other` leaves out. Returns whether that is more than before.
    pub fn extend(&mut self, other: Self) -> bool {
        let before = self.clone();
        self.saves.extend(other.saves);
        self.derived.extend(other.derived);
        self.items.extend(other.items);
        *self != before
    }
}
