use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use serde_json::{Map, Value};

use super::{ColumnType, CsvOptions, Table, TableReader};
use crate::artifact::media_type;
use crate::{Artifact, Error, Result, bail};

/// A table as values with named fields, such as structs: one for each row. It is read and written as a [`Table`].
///
/// As an input of a step, it declares the columns that the step needs: a table that lacks one, or has other values in it, is an error of the
/// input. The columns of CSV have the types of the fields, so that a `String` can be `007`.
///
/// ```
/// use lockstep::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Sale {
///     zip: String,
///     price: Option<f64>,
/// }
///
/// #[step]
/// fn total(sales: Rows<Sale>) -> f64 {
///     sales.iter().filter_map(|sale| sale.price).sum()
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows<T>(pub Vec<T>);

impl<T> Deref for Rows<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for Rows<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> IntoIterator for Rows<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Rows<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T> FromIterator<T> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

impl<T: Serialize + DeserializeOwned> Artifact for Rows<T> {
    const MEDIA_TYPE: &'static str = media_type::TABLE;

    fn read(path: &Path) -> Result<Self> {
        let fields = fields_of::<T>().unwrap_or_default();
        let expected = fields
            .iter()
            .filter_map(|field| Some((field.name(), column_type(field.data_type())?)));
        let options = expected.fold(CsvOptions::default(), |options, (name, of)| options.expect(name, of));
        let mut rows = Vec::new();
        for table in TableReader::from_path(path, options)? {
            rows.extend(table?.rows_from(rows.len())?);
        }
        Ok(Self(rows))
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        let table = match fields_of::<T>().and_then(|fields| serde_arrow::to_record_batch(&fields, &self.0).ok()) {
            Some(batch) => Table(batch),
            None => Table::from_rows(&self.0)?,
        };
        table.write_artifact(path)
    }
}

/// Returns the columns for values of type `T`, if they depend on the type alone.
fn fields_of<T: DeserializeOwned>() -> Option<Vec<FieldRef>> {
    let fields = Vec::<FieldRef>::from_type::<T>(options()).ok()?;
    Some(columns(&fields))
}

fn column_type(of: &DataType) -> Option<ColumnType> {
    match of {
        DataType::Boolean => Some(ColumnType::Boolean),
        DataType::Utf8 => Some(ColumnType::Text),
        of if of.is_integer() => Some(ColumnType::Integer),
        of if of.is_floating() => Some(ColumnType::Float),
        _ => None,
    }
}

impl Table {
    /// Creates a table of values with named fields, such as structs: a row for each value, and a column for each field. There must be at least
    /// one, because the types of the columns are those of the values. Enums without data become texts, and `Option`s nulls.
    ///
    /// ```
    /// use lockstep::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize, PartialEq, Debug)]
    /// struct Animal {
    ///     name: String,
    ///     mass: Option<f64>,
    /// }
    ///
    /// let animals = [Animal { name: "Ada".into(), mass: Some(3.5) }, Animal { name: "Bo".into(), mass: None }];
    /// let table = Table::from_rows(&animals)?;
    /// assert_eq!(table.columns(), ["name", "mass"]);
    /// assert_eq!(table.to_rows::<Animal>()?, animals);
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn from_rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Self> {
        let rows: Vec<T> = rows.into_iter().collect();
        if rows.is_empty() {
            bail!("there are no rows, so the columns are unknown: use Table::new with empty columns");
        }
        if serde_json::to_value(&rows[0]).is_ok_and(|row| !row.is_object() && !row.is_array()) {
            bail!("a row must be a value with named fields, such as a struct");
        }
        write(&rows).map_err(|error| {
            // the first row that can't follow those before it
            let (mut good, mut bad) = (0, rows.len());
            while bad - good > 1 {
                let middle = good.midpoint(bad);
                match write(&rows[..middle]) {
                    Ok(_) => good = middle,
                    Err(_) => bad = middle,
                }
            }
            match culprit(&rows[..bad]) {
                Some(field) => Error::msg(format!("row {}, field `{field}`: {}", bad - 1, message(&error))),
                None => Error::msg(format!("row {}: {}", bad - 1, message(&error))),
            }
        })
    }

    /// Returns the rows as values with named fields, such as structs: each field has the value in the column of its name. A null is only read as an
    /// `Option`.
    pub fn to_rows<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.rows_from(0)
    }

    /// Returns the rows as values. The first row has this number in messages.
    fn rows_from<T: DeserializeOwned>(&self, first: usize) -> Result<Vec<T>> {
        let read = |table: &Self| serde_arrow::from_record_batch::<Vec<T>>(&table.0);
        read(self).map_err(|error| {
            let one = |row: usize| read(&Self(self.0.slice(row, 1))).err().map(|error| (row, error));
            let (row, error) = (0..self.rows()).find_map(one).unwrap_or((0, error));
            explained(first + row, error)
        })
    }
}

fn options() -> TracingOptions {
    TracingOptions::default()
        .allow_null_fields(true)
        .enums_without_data_as_strings(true)
        .sequence_as_large_list(false)
        .strings_as_large_utf8(false)
        .bytes_as_large_binary(false)
}

fn write<T: Serialize>(rows: &[T]) -> Result<Table, serde_arrow::Error> {
    let fields = columns(&Vec::<FieldRef>::from_samples(rows, options())?);
    serde_arrow::to_record_batch(&fields, &rows).map(Table)
}

/// Returns the columns for the fields of a type.
fn columns(fields: &[FieldRef]) -> Vec<FieldRef> {
    let field = |field: &FieldRef| {
        let of = match field.data_type() {
            // of enums
            DataType::Dictionary(..) => &DataType::Utf8,
            of => of,
        };
        Arc::new(Field::clone(field).with_data_type(of.clone()).with_nullable(true))
    };
    fields.iter().map(field).collect()
}

/// Returns the field because of which the last row can't follow those before it.
fn culprit<T: Serialize>(rows: &[T]) -> Option<String> {
    let rows: Vec<Map<String, Value>> = rows
        .iter()
        .map(|row| Some(serde_json::to_value(row).ok()?.as_object()?.clone()))
        .collect::<Option<_>>()?;
    let fails = |field: &&String| {
        let values = rows.iter().map(|row| BTreeMap::from([("value", row.get(*field))]));
        write(&values.collect::<Vec<_>>()).is_err()
    };
    rows.last()?.keys().find(fails).cloned()
}

fn explained(row: usize, error: serde_arrow::Error) -> Error {
    let text = error.to_string();
    let field = text.split_once("field: \"$.").and_then(|(_, rest)| rest.split_once('"'));
    Error::msg(match field {
        Some((field, _)) => format!("row {row}, field `{field}`: {}", message(&error)),
        None => format!("row {row}: {}", message(&error)),
    })
}

/// Returns the message without hints about serde_arrow's own options.
fn message(error: &serde_arrow::Error) -> &str {
    let text = error.message();
    text.split_once(" : consider ").map_or(text, |(text, _)| text)
}
