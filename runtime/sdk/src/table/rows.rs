use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use serde_json::{Map, Value};

use super::Table;
use crate::{Error, Result, bail};

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
        let read = |table: &Self| serde_arrow::from_record_batch::<Vec<T>>(&table.0);
        read(self).map_err(|error| {
            let one = |row: usize| read(&Self(self.0.slice(row, 1))).err().map(|error| (row, error));
            let (row, error) = (0..self.rows()).find_map(one).unwrap_or((0, error));
            explained(row, error)
        })
    }
}

fn write<T: Serialize>(rows: &[T]) -> Result<Table, serde_arrow::Error> {
    let options = TracingOptions::default()
        .allow_null_fields(true)
        .enums_without_data_as_strings(true)
        .sequence_as_large_list(false)
        .strings_as_large_utf8(false)
        .bytes_as_large_binary(false);
    let fields = Vec::<FieldRef>::from_samples(rows, options)?;
    let field = |field: &FieldRef| {
        let of = match field.data_type() {
            // of enums
            DataType::Dictionary(..) => &DataType::Utf8,
            of => of,
        };
        Arc::new(Field::clone(field).with_data_type(of.clone()).with_nullable(true))
    };
    let fields: Vec<FieldRef> = fields.iter().map(field).collect();
    serde_arrow::to_record_batch(&fields, &rows).map(Table)
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
