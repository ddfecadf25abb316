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

    /// Returns whether an automatic implementation, given by type and trait, is left out. What needs no serde is written as serde writes it, so
    /// it is left out with serde's traits.
    pub fn has(&self, derived: &(String, String)) -> bool {
        let (of, implements) = derived;
        let is_out = |implements: &str| self.derived.contains(&(of.clone(), implements.to_owned()));
        let needs_serde = matches!(implements.as_str(), "Bulk" | "NotNull");
        is_out(implements) || needs_serde && (is_out("Serialize") || is_out("Deserialize"))
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
