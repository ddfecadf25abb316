//! The values of columns as one of a few types, so that operations need not know each type of Arrow.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow_schema::{DataType, TimeUnit};

use super::column;
use crate::Result;

/// The values of a column.
pub(super) enum Values {
    /// Only nulls.
    Null,
    Boolean(BooleanArray),
    /// Integers of up to 64 bits, except `UInt64`.
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Text(StringArray),
    Date(Date32Array),
    /// Times as counts of a unit, and whether they have a zone.
    Time(Int64Array, TimeUnit, bool),
    Other(ArrayRef),
}

impl Values {
    pub(super) fn of(array: &ArrayRef) -> Result<Self> {
        fn each<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> Int64Array {
            array.as_primitive::<T>().unary(Into::into)
        }
        let array = plain(array)?;
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int8 => Self::Integer(each::<Int8Type>(&array)),
            DataType::Int16 => Self::Integer(each::<Int16Type>(&array)),
            DataType::Int32 => Self::Integer(each::<Int32Type>(&array)),
            DataType::Int64 => Self::Integer(array.as_primitive().clone()),
            DataType::UInt8 => Self::Integer(each::<UInt8Type>(&array)),
            DataType::UInt16 => Self::Integer(each::<UInt16Type>(&array)),
            DataType::UInt32 => Self::Integer(each::<UInt32Type>(&array)),
            DataType::UInt64 => Self::Unsigned(array.as_primitive().clone()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float(column::numbers(&array)?),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text(column::texts(&array)?),
            DataType::Date32 => Self::Date(array.as_primitive().clone()),
            DataType::Timestamp(unit, zone) => {
                let counts = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().reinterpret_cast(),
                    TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().reinterpret_cast(),
                    TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(),
                    TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().reinterpret_cast(),
                };
                Self::Time(counts, *unit, zone.is_some())
            }
            _ => Self::Other(array),
        })
    }
}

/// Returns the values of a dictionary, and other arrays as they are.
pub(super) fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    match array.as_any_dictionary_opt() {
        Some(dictionary) => plain(&arrow_select::take::take(dictionary.values(), dictionary.keys(), None)?),
        None => Ok(array.clone()),
    }
}

/// Compares two floats. `-0.0` and `0.0` are equal, and so are all NaNs, which are greater than all other numbers.
pub(super) fn order(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Returns the number of nanoseconds in a unit.
pub(super) fn nanoseconds(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}
