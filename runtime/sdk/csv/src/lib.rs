//! The loops of the SDK's CSV reader. They are in a crate of their own, because the SDK is compiled for size and they are compiled for
//! speed.

mod number;
mod records;

pub use number::{float, integer};
pub use records::{Column, Records};

/// The values of a column.
#[derive(Debug, Default)]
pub struct Values<T> {
    /// The values; the default of their type for nulls.
    pub values: Vec<T>,
    /// Whether each value is none; empty if no value is a null.
    pub is_null: Vec<bool>,
}

/// The texts of a column.
#[derive(Debug)]
pub struct Texts {
    /// The bytes of all texts, which need not be UTF-8.
    pub bytes: Vec<u8>,
    /// The start of each text in these bytes, and the end of the last one.
    pub offsets: Vec<i32>,
    /// Whether each text is a null; empty if none is.
    pub is_null: Vec<bool>,
}
