//! The values of columns as bytes: what sorts, joins and groups go by.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{DataType, SortOptions};
use rustc_hash::FxBuildHasher;

use super::Table;
use super::values::plain;
use crate::{Context, Result, bail};

/// The rows of some columns, as bytes that are equal if the rows are, and in the same order.
///
/// `-0.0` and `0.0` are equal, and so are all NaNs, which are greater than all other numbers. Nulls are last. A dictionary is the same as its
/// values.
pub(super) struct Keys {
    rows: Rows,
    /// The number of rows: `rows` has none if there are no columns.
    len: usize,
    /// Which rows have no null; all of them if it is `None`.
    whole: Option<NullBuffer>,
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

    fn of(columns: Vec<(ArrayRef, bool)>, len: usize) -> Result<Self> {
        let whole = columns.iter().fold(None, |whole: Option<NullBuffer>, (column, _)| {
            NullBuffer::union(whole.as_ref(), column.logical_nulls().as_ref())
        });
        let field = |(column, descending): &(ArrayRef, bool)| {
            let options = SortOptions {
                descending: *descending,
                nulls_first: false,
            };
            SortField::new_with_options(column.data_type().clone(), options)
        };
        let converter = RowConverter::new(columns.iter().map(field).collect())?;
        let columns: Vec<ArrayRef> = columns.into_iter().map(|(column, _)| column).collect();
        let mut rows = converter.empty_rows(len, 0);
        if !columns.is_empty() {
            converter.append(&mut rows, &columns)?;
        }
        Ok(Self { rows, len, whole })
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
        self.whole.as_ref().is_none_or(|whole| whole.is_valid(row))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the rows in the order of their keys. Rows with the same key keep their order.
    pub(super) fn sorted(&self) -> Vec<usize> {
        let short = self.are_short();
        let mut rows: Vec<(Prefix, usize)> = (0..self.len()).map(|row| (prefix(self.get(row)), row)).collect();
        rows.sort_unstable_by(|(a, row_a), (b, row_b)| {
            let rest = || match short {
                true => Ordering::Equal,
                false => self.get(*row_a).cmp(self.get(*row_b)),
            };
            a.cmp(b).then_with(rest).then(row_a.cmp(row_b))
        });
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Numbers the different keys in the order of their first rows.
    pub(super) fn numbered(&self) -> Numbered {
        match self.are_short() {
            true => self.numbered_by(|row| prefix(self.get(row))),
            false => self.numbered_by(|row| self.get(row)),
        }
    }

    fn numbered_by<K: Hash + Eq>(&self, key: impl Fn(usize) -> K) -> Numbered {
        let (mut of_row, mut first) = (Vec::with_capacity(self.len()), Vec::new());
        let mut numbers: Map<K, usize> = map();
        for row in 0..self.len() {
            let number = *numbers.entry(key(row)).or_insert(first.len());
            if number == first.len() {
                first.push(row);
            }
            of_row.push(number);
        }
        Numbered { of_row, first }
    }

    /// Returns whether prefixes tell all keys apart. No key begins with another, so padding makes none equal.
    fn are_short(&self) -> bool {
        (0..self.len()).all(|row| self.get(row).len() <= size_of::<Prefix>())
    }
}

/// The first bytes of a key as big-endian words, padded with zeros, which compare as the bytes do and much faster.
type Prefix = [u64; 3];

fn prefix(key: &[u8]) -> Prefix {
    let mut bytes = [0; size_of::<Prefix>()];
    let len = key.len().min(bytes.len());
    bytes[..len].copy_from_slice(&key[..len]);
    let (words, _) = bytes.as_chunks();
    [words[0], words[1], words[2]].map(u64::from_be_bytes)
}

/// Different keys, numbered from 0.
pub(super) struct Numbered {
    /// The number of each row's key.
    pub of_row: Vec<usize>,
    /// The first row of each key.
    pub first: Vec<usize>,
}

/// A hash map without random seeds. Nothing may depend on its order.
pub(super) type Map<K, V> = HashMap<K, V, FxBuildHasher>;

pub(super) fn map<K, V>() -> Map<K, V> {
    HashMap::with_hasher(FxBuildHasher)
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
