//! Rows and named, typed columns, and what can be done with them.
//!
//! `use lockstep::table::*` imports the functions and types that expressions, orders, joins, groups and windows are written with.

mod aggregate;
mod cast;
mod column;
mod csv;
mod display;
mod evaluate;
mod expression;
mod group;
mod join;
mod keys;
#[cfg(feature = "parquet")]
mod parquet;
mod read;
mod reshape;
mod rows;
mod show;
mod sort;
#[cfg(test)]
mod tests;
mod values;
mod window;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, StringArray, UInt64Array};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field, Schema};

pub use aggregate::{Aggregate, count, first, last, max, mean, median, min, not_null, quantile, std, sum, unique};
pub use column::Column;
pub use csv::{ColumnType, CsvOptions};
pub use evaluate::{Condition, IntoColumn};
pub use expression::{Expr, col, lit};
pub use group::Groups;
pub use join::{Join, On};
#[cfg(feature = "parquet")]
pub use parquet::Parquet;
pub use read::TableReader;
pub(crate) use read::from_csv;
pub use rows::Rows;
pub use sort::{Order, desc};
pub use window::{Window, dense_rank, lag, lead, rank, rolling, row_number, running};

use crate::artifact::{create, media_type};
use crate::{Artifact, Context, Result, bail};
use keys::Keys;

/// Rows and named, typed columns, in Arrow's memory format. Cloning is cheap.
///
/// It is written as an Arrow IPC stream. It is read from an Arrow IPC stream or file (Feather), from Parquet or from CSV, detected
/// by content. In CSV, empty fields and `NA` are nulls; use [`Csv`](crate::Csv) to choose other ones.
///
/// ```
/// use lockstep::prelude::*;
///
/// let table = Table::new([("size", vec![3.0, 1.0, 2.0])])?.with("name", vec!["c", "a", "b"])?;
/// let large: Vec<bool> = table.f64("size")?.iter().map(|size| size > Some(1.5)).collect();
/// assert_eq!(table.filter(&large)?.str("name")?.value(1), "b");
/// # Ok::<(), lockstep::Error>(())
/// ```
///
/// Operations such as [`filter`](Self::filter), [`sort`](Self::sort), [`join`](Self::join), [`group_by`](Self::group_by) and [`window`](Self::window)
/// return a new table. The functions and types that they are written with are in the module [`table`](crate::table).
#[derive(Clone, PartialEq, Debug)]
pub struct Table(RecordBatch);

impl Table {
    /// Creates a table of columns of the same length.
    pub fn new<N: Into<String>, C: Into<Column>>(columns: impl IntoIterator<Item = (N, C)>) -> Result<Self> {
        let (fields, arrays): (Vec<_>, Vec<_>) = columns
            .into_iter()
            .map(|(name, column)| (name.into(), column.into().0))
            .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array))
            .unzip();
        Self::of(fields, arrays)
    }

    fn of(fields: Vec<impl Into<Arc<Field>>>, arrays: Vec<ArrayRef>) -> Result<Self> {
        let fields: Vec<Arc<Field>> = fields.into_iter().map(Into::into).collect();
        let lengths: Vec<usize> = arrays.iter().map(|array| array.len()).collect();
        if let Some(index) = lengths.iter().position(|length| *length != lengths[0]) {
            let (first, other) = (fields[0].name(), fields[index].name());
            bail!(
                "column `{other}` has {} rows, but `{first}` has {}",
                lengths[index],
                lengths[0]
            );
        }
        Self::of_rows(fields, arrays, lengths.first().copied().unwrap_or(0))
    }

    /// Creates a table of columns with `rows` rows, even if there are no columns.
    fn of_rows(fields: Vec<Arc<Field>>, arrays: Vec<ArrayRef>, rows: usize) -> Result<Self> {
        check_names(fields.iter().map(|field| field.name().as_str()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(fields));
        Ok(Self(RecordBatch::try_new_with_options(schema, arrays, &options)?))
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// Returns the names of the columns.
    pub fn columns(&self) -> Vec<&str> {
        self.0
            .schema_ref()
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect()
    }

    /// Returns the column `name`.
    pub fn column(&self, name: &str) -> Result<&ArrayRef> {
        Ok(self.0.column(self.index(name)?))
    }

    /// Returns the column `name` as numbers. Converts integers, booleans and strings that are numbers.
    pub fn f64(&self, name: &str) -> Result<Float64Array> {
        column::numbers(self.column(name)?).with_context(|| format!("column `{name}`"))
    }

    /// Returns the column `name` as strings. Formats values of other types.
    pub fn str(&self, name: &str) -> Result<StringArray> {
        column::texts(self.column(name)?).with_context(|| format!("column `{name}`"))
    }

    fn index(&self, name: &str) -> Result<usize> {
        match self.0.schema_ref().fields().iter().position(|field| field.name() == name) {
            Some(index) => Ok(index),
            None => bail!("there is no column `{name}`; the columns are {}", self.columns().join(", ")),
        }
    }

    /// Returns the columns `names`, in that order.
    pub fn select<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<Self> {
        let indices: Vec<usize> = names
            .into_iter()
            .map(|name| self.index(name.as_ref()))
            .collect::<Result<_>>()?;
        Ok(Self(self.0.project(&indices)?))
    }

    /// Returns the table without the columns `names`.
    pub fn drop<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<Self> {
        let dropped: Vec<usize> = names
            .into_iter()
            .map(|name| self.index(name.as_ref()))
            .collect::<Result<_>>()?;
        let kept: Vec<usize> = (0..self.0.num_columns()).filter(|index| !dropped.contains(index)).collect();
        Ok(Self(self.0.project(&kept)?))
    }

    /// Returns the table with other names of columns: pairs of an old and a new name.
    pub fn rename<O: AsRef<str>, N: Into<String>>(&self, names: impl IntoIterator<Item = (O, N)>) -> Result<Self> {
        let mut renamed = BTreeMap::new();
        for (old, new) in names {
            if renamed.insert(self.index(old.as_ref())?, new.into()).is_some() {
                bail!("column `{}` is renamed twice", old.as_ref());
            }
        }
        let fields = self.0.schema_ref().fields().iter().enumerate();
        let fields = fields.map(|(index, field)| match renamed.remove(&index) {
            Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
            None => field.clone(),
        });
        Self::of_rows(fields.collect(), self.0.columns().to_vec(), self.rows())
    }

    /// Returns the table with an additional column: values, or an [`Expr`]. Replaces a column of the same name.
    pub fn with(&self, name: &str, column: impl IntoColumn) -> Result<Self> {
        let array = column.into_column(self).with_context(|| format!("column `{name}`"))?.0;
        let field = Arc::new(Field::new(name, array.data_type().clone(), true));
        let (mut fields, mut arrays) = (self.0.schema_ref().fields().to_vec(), self.0.columns().to_vec());
        match fields.iter().position(|field| field.name() == name) {
            Some(index) => (fields[index], arrays[index]) = (field, array),
            None => {
                fields.push(field);
                arrays.push(array);
            }
        }
        Self::of(fields, arrays)
    }

    /// Returns the rows where `condition` is true: an [`Expr`], or one boolean per row.
    pub fn filter(&self, condition: impl Condition) -> Result<Self> {
        let keep = condition.keep(self)?;
        if keep.len() != self.rows() {
            bail!("a filter of {} can't be used on {} rows", keep.len(), self.rows());
        }
        Ok(Self(arrow_select::filter::filter_record_batch(&self.0, &keep)?))
    }

    /// Returns the rows at `indices`, in that order. An index may occur more than once.
    pub fn take(&self, indices: &[usize]) -> Result<Self> {
        if let Some(index) = indices.iter().find(|index| **index >= self.rows()) {
            bail!("there is no row {index}: the table has {} rows, counted from 0", self.rows());
        }
        self.pick(indices)
    }

    /// Returns the rows at `indices`, which exist.
    fn pick(&self, indices: &[usize]) -> Result<Self> {
        let indices = UInt64Array::from_iter_values(indices.iter().map(|index| *index as u64));
        let arrays = arrow_select::take::take_arrays(self.0.columns(), &indices, None)?;
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        Ok(Self(RecordBatch::try_new_with_options(self.0.schema(), arrays, &options)?))
    }

    /// Returns the first `count` rows, or all if there are fewer.
    pub fn head(&self, count: usize) -> Self {
        Self(self.0.slice(0, count.min(self.rows())))
    }

    /// Returns the last `count` rows, or all if there are fewer.
    pub fn tail(&self, count: usize) -> Self {
        let count = count.min(self.rows());
        Self(self.0.slice(self.rows() - count, count))
    }

    /// Returns each different row once, in the order of their first occurrence.
    pub fn distinct(&self) -> Result<Self> {
        let keys = Keys::new(self, self.columns().into_iter().map(|name| (name, false)))?;
        self.pick(&keys.numbered().first)
    }

    /// Concatenates the rows of all `tables`. They must have the same columns.
    pub fn concat<'a>(tables: impl IntoIterator<Item = &'a Self>) -> Result<Self> {
        let batches: Vec<&RecordBatch> = tables.into_iter().map(|table| &table.0).collect();
        let Some(first) = batches.first() else {
            bail!("no tables to concatenate");
        };
        for other in &batches {
            same_columns(first.schema_ref(), other.schema_ref())?;
        }
        Ok(Self(arrow_select::concat::concat_batches(first.schema_ref(), batches)?))
    }
}

/// Checks that every column has a name of its own.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut places = BTreeMap::new();
    for (column, name) in names.enumerate() {
        if name.is_empty() {
            bail!("column {} has no name", column + 1);
        }
        if let Some(first) = places.insert(name, column) {
            bail!("columns {} and {} are both called `{name}`", first + 1, column + 1);
        }
    }
    Ok(())
}

/// Checks that two tables have the same columns: names, types and order.
fn same_columns(a: &Schema, b: &Schema) -> Result<()> {
    let columns = |schema: &Schema| {
        let fields = schema.fields().iter();
        fields
            .map(|field| (field.name().clone(), field.data_type().clone()))
            .collect::<Vec<_>>()
    };
    if columns(a) == columns(b) {
        return Ok(());
    }
    let list = |schema: &Schema| {
        let columns = columns(schema).into_iter().map(|(name, of)| format!("{name}: {of}"));
        columns.collect::<Vec<_>>().join(", ")
    };
    bail!("the tables have different columns: ({}) and ({})", list(a), list(b))
}

impl From<RecordBatch> for Table {
    fn from(batch: RecordBatch) -> Self {
        Self(batch)
    }
}

impl From<Table> for RecordBatch {
    fn from(table: Table) -> Self {
        table.0
    }
}

impl AsRef<RecordBatch> for Table {
    fn as_ref(&self) -> &RecordBatch {
        &self.0
    }
}

impl Artifact for Table {
    const MEDIA_TYPE: &'static str = media_type::TABLE;

    fn read(path: &Path) -> Result<Self> {
        let tables = TableReader::whole(path)?.collect::<Result<Vec<_>>>()?;
        match tables.as_slice() {
            [table] => Ok(table.clone()),
            tables => Self::concat(tables),
        }
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        create(path, |file| {
            let mut writer =
                StreamWriter::try_new(file, self.0.schema_ref()).context("not an Arrow schema that can be written")?;
            writer.write(&self.0)?;
            Ok(writer.finish()?)
        })
    }
}
