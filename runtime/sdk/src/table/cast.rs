use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, TimestampMicrosecondArray, TimestampNanosecondArray,
    new_null_array,
};
use arrow_schema::DataType;
use chrono::Timelike;

use super::display::Shown;
use super::values::{Values, nanoseconds, plain};
use super::{Column, ColumnType, Table, column, csv};
use crate::{Context, Error, Result};

/// The seconds of a day.
const DAY: i64 = 86_400;

impl Table {
    /// Returns the table with the column `name` as another type. A value that the type can't hold exactly is an error with its row.
    ///
    /// Texts are parsed, and dates are at midnight. A time keeps its unit; a text becomes a time in microseconds, or nanoseconds if one needs
    /// them.
    ///
    /// ```
    /// use lockstep::prelude::*;
    /// use lockstep::ColumnType;
    ///
    /// let table = Table::new([("n", vec!["7", "008"])])?.cast("n", ColumnType::Integer)?;
    /// assert_eq!(table.str("n")?.value(1), "8");
    /// assert!(Table::new([("x", vec![1.5])])?.cast("x", ColumnType::Integer).is_err());
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn cast(&self, name: &str, to: ColumnType) -> Result<Self> {
        let array = cast(self.column(name)?, to).with_context(|| format!("column `{name}`"))?;
        self.with(name, Column(array))
    }
}

fn cast(array: &ArrayRef, to: ColumnType) -> Result<ArrayRef> {
    let array = &plain(array)?;
    let values = Values::of(array)?;
    if let Values::Null = values {
        return Ok(new_null_array(&to.data_type(), array.len()));
    }
    match to {
        ColumnType::Boolean => boolean(array, &values),
        ColumnType::Integer => integer(array, &values),
        ColumnType::Float => float(array, &values),
        ColumnType::Date => date(array, &values),
        ColumnType::Time => time(array, &values),
        ColumnType::Text => Ok(Arc::new(column::texts(array)?)),
    }
}

/// Converts each value. A value that can't be converted is an error with its row.
fn each<V>(array: &ArrayRef, to: &str, value: impl Fn(usize) -> Option<V>) -> Result<Vec<Option<V>>> {
    let convert = |row: usize| match array.is_null(row) {
        true => Ok(None),
        false => value(row).map(Some).with_context(|| unfit(array, row, to)),
    };
    (0..array.len()).map(convert).collect()
}

fn unfit(array: &ArrayRef, row: usize, to: &str) -> String {
    let text = Shown { array, row, null: "" };
    format!("row {row}: `{text}` is not {to}")
}

fn no_cast(array: &ArrayRef, to: &str) -> Error {
    Error::msg(format!("{} can't be converted to {to}", array.data_type()))
}

fn boolean(array: &ArrayRef, values: &Values) -> Result<ArrayRef> {
    let to = "a boolean";
    let of_number = |number: f64| (number == 0.0 || number == 1.0).then_some(number == 1.0);
    let found: Vec<Option<bool>> = match values {
        Values::Boolean(_) => return Ok(array.clone()),
        Values::Integer(from) => each(array, to, |row| of_number(from.value(row) as f64))?,
        Values::Unsigned(from) => each(array, to, |row| of_number(from.value(row) as f64))?,
        Values::Float(from) => each(array, to, |row| of_number(from.value(row)))?,
        Values::Text(from) => each(array, to, |row| csv::boolean(from.value(row).trim().as_bytes()))?,
        _ => return Err(no_cast(array, to)),
    };
    Ok(Arc::new(BooleanArray::from(found)))
}

fn integer(array: &ArrayRef, values: &Values) -> Result<ArrayRef> {
    let to = "an integer of 64 bits";
    let found: Vec<Option<i64>> = match values {
        Values::Boolean(from) => each(array, to, |row| Some(from.value(row).into()))?,
        Values::Integer(from) => return Ok(Arc::new(from.clone())),
        Values::Unsigned(from) => each(array, to, |row| from.value(row).try_into().ok())?,
        // beyond 2^63 the conversion saturates, and it is no longer the same number
        Values::Float(from) => each(array, to, |row| {
            let value = from.value(row);
            (value as i128 as f64 == value)
                .then(|| (value as i128).try_into().ok())
                .flatten()
        })?,
        Values::Text(from) => each(array, to, |row| from.value(row).trim().parse().ok())?,
        Values::Other(from) if is_decimal(from.data_type()) => {
            let texts = column::texts(from)?;
            each(array, to, |row| {
                let text = texts.value(row);
                let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                fraction
                    .bytes()
                    .all(|digit| digit == b'0')
                    .then(|| whole.parse().ok())
                    .flatten()
            })?
        }
        _ => return Err(no_cast(array, to)),
    };
    Ok(Arc::new(Int64Array::from(found)))
}

fn float(array: &ArrayRef, values: &Values) -> Result<ArrayRef> {
    let to = "exactly a float of 64 bits";
    let exact = |integer: i128| Some(integer as f64).filter(|float| *float as i128 == integer);
    let found: Vec<Option<f64>> = match values {
        Values::Boolean(from) => each(array, to, |row| Some(from.value(row).into()))?,
        Values::Integer(from) => each(array, to, |row| exact(from.value(row).into()))?,
        Values::Unsigned(from) => each(array, to, |row| exact(from.value(row).into()))?,
        Values::Float(from) => return Ok(Arc::new(from.clone())),
        Values::Text(from) => each(array, "a float of 64 bits", |row| from.value(row).trim().parse().ok())?,
        Values::Other(from) if is_decimal(from.data_type()) => {
            let texts = column::texts(from)?;
            each(array, to, |row| texts.value(row).parse().ok())?
        }
        _ => return Err(no_cast(array, to)),
    };
    Ok(Arc::new(Float64Array::from(found)))
}

fn date(array: &ArrayRef, values: &Values) -> Result<ArrayRef> {
    let to = "a date";
    let found: Vec<Option<i32>> = match values {
        Values::Date(_) => return Ok(array.clone()),
        Values::Time(from, unit, false) => each(array, to, |row| {
            let day = DAY * (1_000_000_000 / nanoseconds(*unit));
            let value = from.value(row);
            (value.rem_euclid(day) == 0)
                .then(|| value.div_euclid(day).try_into().ok())
                .flatten()
        })?,
        Values::Text(from) => each(array, to, |row| {
            Some(csv::date(from.value(row).trim().as_bytes())?.to_epoch_days())
        })?,
        _ => return Err(no_cast(array, to)),
    };
    Ok(Arc::new(Date32Array::from(found)))
}

fn time(array: &ArrayRef, values: &Values) -> Result<ArrayRef> {
    let to = "a time without a zone";
    match values {
        Values::Time(_, _, false) => Ok(array.clone()),
        Values::Date(from) => {
            let found = each(array, to, |row| i64::from(from.value(row)).checked_mul(DAY * 1_000_000))?;
            Ok(Arc::new(TimestampMicrosecondArray::from(found)))
        }
        Values::Text(from) => {
            let times = each(array, to, |row| csv::time(from.value(row).trim().as_bytes()))?;
            if times.iter().flatten().any(|time| time.nanosecond() % 1_000 != 0) {
                let found = each(array, to, |row| times[row]?.and_utc().timestamp_nanos_opt())?;
                return Ok(Arc::new(TimestampNanosecondArray::from(found)));
            }
            let found = times.iter().map(|time| time.map(|time| time.and_utc().timestamp_micros()));
            Ok(Arc::new(TimestampMicrosecondArray::from(found.collect::<Vec<_>>())))
        }
        _ => Err(no_cast(array, to)),
    }
}

fn is_decimal(of: &DataType) -> bool {
    matches!(
        of,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}
