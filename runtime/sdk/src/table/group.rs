use std::sync::Arc;

use arrow_schema::Field;

use super::aggregate::Aggregate;
use super::keys::{Keys, Numbered};
use super::{Table, check_names};
use crate::{Context, Result};

/// The rows of a table in groups, from [`Table::group_by`]. The groups are in the order of their first rows.
#[derive(Debug)]
pub struct Groups {
    table: Table,
    /// The keys of the groups, a row for each group.
    keys: Table,
    /// The group of each row.
    of_row: Vec<usize>,
}

impl Table {
    /// Groups the rows that have the same values in the columns `names`. A null is a value like others, `-0.0` and `0.0` are the same, and so are all
    /// NaNs.
    ///
    /// ```
    /// use lockstep::prelude::*;
    /// use lockstep::table::*;
    ///
    /// let animals = Table::new([("kind", vec!["cat", "dog", "cat"])])?.with("mass", vec![4.0, 20.0, 5.0])?;
    /// let kinds = animals.group_by(["kind"])?.aggregate([count(), mean("mass"), max("mass").name("heaviest")])?;
    /// assert_eq!(kinds.columns(), ["kind", "count", "mass_mean", "heaviest"]);
    /// assert_eq!(kinds.f64("mass_mean")?.value(0), 4.5);
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn group_by<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<Groups> {
        let names: Vec<N> = names.into_iter().collect();
        let keys = self.select(&names)?;
        check_names(keys.columns().into_iter())?;
        if names.is_empty() {
            return Ok(Groups {
                table: self.clone(),
                keys: Self::of_rows(Vec::new(), Vec::new(), 1)?,
                of_row: vec![0; self.rows()],
            });
        }
        let Numbered { of_row, first } = Keys::new(self, names.iter().map(|name| (name.as_ref(), false)))?.numbered();
        Ok(Groups {
            table: self.clone(),
            keys: keys.pick(&first)?,
            of_row,
        })
    }

    /// Returns one row with functions of all rows, such as `table.aggregate([mean("mass")])`.
    pub fn aggregate(&self, functions: impl IntoIterator<Item = Aggregate>) -> Result<Self> {
        self.group_by([""; 0])?.aggregate(functions)
    }
}

impl Groups {
    /// Returns a row for each group: its key and functions of its rows.
    pub fn aggregate(&self, functions: impl IntoIterator<Item = Aggregate>) -> Result<Table> {
        let (mut fields, mut arrays) = (self.keys.0.schema_ref().fields().to_vec(), self.keys.0.columns().to_vec());
        for function in functions {
            let prepared = function.of(&self.table)?;
            let name = function.named("");
            let array = prepared.grouped(&self.of_row, self.keys.rows())?;
            fields.push(Arc::new(Field::new(name, array.data_type().clone(), true)));
            arrays.push(array);
        }
        let table = Table::of_rows(fields, arrays, self.keys.rows());
        table.context("each function needs another name: use `.name(\"...\")`")
    }

    /// Returns for each group its key, as a table of one row, and its rows.
    pub fn tables(&self) -> Result<Vec<(Table, Table)>> {
        let mut rows = vec![Vec::new(); self.keys.rows()];
        for (row, group) in self.of_row.iter().enumerate() {
            rows[*group].push(row);
        }
        let table = |(group, rows): (usize, Vec<usize>)| Ok((Table(self.keys.0.slice(group, 1)), self.table.pick(&rows)?));
        rows.into_iter().enumerate().map(table).collect()
    }
}
