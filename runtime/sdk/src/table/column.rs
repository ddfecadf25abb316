use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray, UInt32Array, UInt64Array,
};
use arrow_schema::DataType;

use super::display::{Shown, has_text};
use crate::{Context, Result, bail};

/// The values of a column: created from a `Vec` of numbers, strings, booleans or `Option`s of these, or from an Arrow array.
#[derive(Clone, Debug)]
pub struct Column(pub(super) ArrayRef);

impl From<ArrayRef> for Column {
    fn from(array: ArrayRef) -> Self {
        Self(array)
    }
}

macro_rules! columns {
    ($($array:ident: $($value:ty),+;)+) => {$(
        impl From<$array> for Column {
            fn from(array: $array) -> Self {
                Self(Arc::new(array) as Arc<dyn Array>)
            }
        }

        $(
            impl From<Vec<$value>> for Column {
                fn from(values: Vec<$value>) -> Self {
                    $array::from(values).into()
                }
            }
        )+
    )+};
}

columns! {
    Float64Array: f64, Option<f64>;
    Float32Array: f32, Option<f32>;
    Int64Array: i64, Option<i64>;
    Int32Array: i32, Option<i32>;
    UInt64Array: u64, Option<u64>;
    UInt32Array: u32, Option<u32>;
    BooleanArray: bool, Option<bool>;
    StringArray: String, Option<String>, &str, Option<&str>;
}

/// Converts the values to numbers. (The general cast of `arrow-cast` would add megabytes to a module.)
pub(super) fn numbers(array: &ArrayRef) -> Result<Float64Array> {
    fn each<T: ArrowPrimitiveType>(array: &ArrayRef, number: impl Fn(T::Native) -> f64) -> Float64Array {
        array.as_primitive::<T>().unary(number)
    }
    Ok(match array.data_type() {
        DataType::Float64 => array.as_primitive::<Float64Type>().clone(),
        DataType::Float32 => each::<Float32Type>(array, f64::from),
        DataType::Float16 => each::<Float16Type>(array, f64::from),
        DataType::Int8 => each::<Int8Type>(array, f64::from),
        DataType::Int16 => each::<Int16Type>(array, f64::from),
        DataType::Int32 => each::<Int32Type>(array, f64::from),
        DataType::Int64 => each::<Int64Type>(array, |number| number as f64),
        DataType::UInt8 => each::<UInt8Type>(array, f64::from),
        DataType::UInt16 => each::<UInt16Type>(array, f64::from),
        DataType::UInt32 => each::<UInt32Type>(array, f64::from),
        DataType::UInt64 => each::<UInt64Type>(array, |number| number as f64),
        DataType::Boolean => array.as_boolean().iter().map(|flag| flag.map(f64::from)).collect(),
        DataType::Null => Float64Array::new_null(array.len()),
        DataType::Utf8 => {
            let number = |text: &str| {
                text.trim()
                    .parse::<f64>()
                    .ok()
                    .with_context(|| format!("`{text}` is not a number"))
            };
            array
                .as_string::<i32>()
                .iter()
                .map(|text| text.map(number).transpose())
                .collect::<Result<_>>()?
        }
        other => bail!("it holds {other}, not numbers"),
    })
}

/// Converts the values to strings.
pub(super) fn texts(array: &ArrayRef) -> Result<StringArray> {
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Ok(texts.clone());
    }
    if !has_text(array.data_type()) {
        bail!("it holds {}, which has no text", array.data_type());
    }
    // a null may be that of a dictionary's value, or the type's
    let nulls = array.logical_nulls();
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    let text = |row: usize| Shown { array, row, null: "" }.to_string();
    Ok((0..array.len()).map(|row| (!is_null(row)).then(|| text(row))).collect())
}
