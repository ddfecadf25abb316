//! The values of columns as bytes: what sorts, joins and groups go by.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{DataType, SortOptions};

use super::Table;
use super::values::plain;
use crate::{Context, Result, bail};

/// The rows of some columns, as bytes that are equal if the rows are, and in the same order.
///
/// `-0.0` and `0.0` are equal, and so are all NaNs, which are greater than all other numbers. Nulls are last. A dictionary is the same as its
/// values.
pub(super) struct Keys {
    rows: Rows,
    /// The rows without a null.
    whole: Vec<bool>,
}

impl Keys {
    /// Returns the keys of the columns `names`, each with whether it is in descending order.
    pub(super) fn new<'a>(table: &Table, names: impl IntoIterator<Item = (&'a str, bool)>) -> Result<Self> {
        let mut columns = Vec::new();
        for (name, descending) in names {
            let column = table.column(name)?;
            columns.push((comparable(column).with_context(|| format!("column `{name}`"))?, descending));
        }
        Self::of(columns, table.rows())
    }

    /// Returns the keys of one column.
    pub(super) fn of_column(column: &ArrayRef) -> Result<Self> {
        Self::of(vec![(comparable(column)?, false)], column.len())
    }

    fn of(columns: Vec<(ArrayRef, bool)>, rows: usize) -> Result<Self> {
        let whole = (0..rows).map(|row| {
            columns
                .iter()
                .all(|(column, _)| column.is_valid(row) && *column.data_type() != DataType::Null)
        });
        let whole = whole.collect();
        let field = |(column, descending): &(ArrayRef, bool)| {
            let options = SortOptions {
                descending: *descending,
                nulls_first: false,
            };
            SortField::new_with_options(column.data_type().clone(), options)
        };
        let converter = RowConverter::new(columns.iter().map(field).collect())?;
        let columns: Vec<ArrayRef> = columns.into_iter().map(|(column, _)| column).collect();
        let mut found = converter.empty_rows(rows, 0);
        if !columns.is_empty() {
            converter.append(&mut found, &columns)?;
        }
        Ok(Self { rows: found, whole })
    }

    /// Returns the key of a row.
    pub(super) fn get(&self, row: usize) -> &[u8] {
        match self.rows.num_rows() {
            0 => &[],
            _ => self.rows.row(row).data(),
        }
    }

    /// Returns whether no value of the row's key is null.
    pub(super) fn is_whole(&self, row: usize) -> bool {
        self.whole[row]
    }

    pub(super) fn len(&self) -> usize {
        self.whole.len()
    }

    /// Returns the rows in the order of their keys. Rows with the same key keep their order.
    pub(super) fn sorted(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by(|a, b| self.get(*a).cmp(self.get(*b)));
        rows
    }

    /// Numbers the different keys in the order of their first rows.
    pub(super) fn numbered(&self) -> Numbered {
        let (mut of_row, mut first) = (Vec::with_capacity(self.len()), Vec::new());
        let mut numbers: Map<&[u8], usize> = map();
        for row in 0..self.len() {
            let number = *numbers.entry(self.get(row)).or_insert(first.len());
            if number == first.len() {
                first.push(row);
            }
            of_row.push(number);
        }
        Numbered { of_row, first }
    }
}

/// Different keys, numbered from 0.
pub(super) struct Numbered {
    /// The number of each row's key.
    pub of_row: Vec<usize>,
    /// The first row of each key.
    pub first: Vec<usize>,
}

/// A hash map with fixed seeds. Nothing may depend on its order.
pub(super) type Map<K, V> = HashMap<K, V, RandomState>;

pub(super) fn map<K, V>() -> Map<K, V> {
    HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4))
}

/// Returns an array whose values are equal if their bytes are.
fn comparable(column: &ArrayRef) -> Result<ArrayRef> {
    type Half = <Float16Type as ArrowPrimitiveType>::Native;
    let array = plain(column)?;
    Ok(match array.data_type() {
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(
            |value| match value.is_nan() {
                true => f64::NAN,
                false => value + 0.0,
            },
        )),
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(
            |value| match value.is_nan() {
                true => f32::NAN,
                false => value + 0.0,
            },
        )),
        DataType::Float16 => Arc::new(array.as_primitive::<Float16Type>().unary::<_, Float16Type>(
            |value| match value.is_nan() {
                true => Half::NAN,
                false => value + Half::from_f32_const(0.0),
            },
        )),
        of if of.is_nested() => bail!("it holds {of}, which can't be compared"),
        _ => array,
    })
}
