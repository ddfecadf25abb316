use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray, UInt32Array, UInt64Array,
};

/// The values of a column: made of a `Vec` of numbers, texts, booleans or `Option`s of them, or of an Arrow array.
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
