//! Write Lockstep steps in Rust.
//!
//! A step is a function in a plain library crate:
//!
//! ```
//! use lockstep::prelude::*;
//!
//! /// Keep the first rows.
//! #[step(output = "rows")]
//! fn top(
//!     /// the table to cut
//!     raw: Table,
//!     /// how many rows to keep
//!     #[default = 10]
//!     count: Param<usize>,
//! ) -> Result<Table> {
//!     Ok(raw.head(*count))
//! }
//!
//! // the step is still a function
//! let table = Table::new([("x", vec![1.0, 2.0, 3.0])])?;
//! assert_eq!(top(table, 2.into())?.rows(), 2);
//! # Ok::<(), lockstep::Error>(())
//! ```
//!
//! `cargo rustc --release --lib --crate-type cdylib --target wasm32-wasip1` builds a module with all steps of the crate. Their
//! interfaces are in the custom section `lockstep:interface`.
//!
//! - **Inputs** are arguments whose type is an [`Artifact`] (or an [`Input`]): [`Table`], [`Csv`], [`Text`], [`Bytes`],
//!   [`Json`], [`Metrics`], [`Figure`], [`Directory`], any type that is `Serialize + DeserializeOwned`; for inputs larger than
//!   memory, [`TableReader`] and [`Reader`]; for the entries of a directory, [`Parts<T>`](Parts).
//! - **Parameters** are arguments of type [`Param<T>`], optionally with `#[default = ...]`.
//! - **Outputs** are what the function returns: one artifact, a struct with `#[derive(Outputs)]` for several, or `()`.
//! - A returned error ends the step with exit code 1, and prints `error: ...` with its causes to stderr.

mod artifact;
pub mod call;
pub mod cell;
mod directory;
mod encoding;
mod figure;
mod metrics;
mod outputs;
mod parameter;
mod parts;
mod plain;
mod progress;
mod reader;
pub mod show;
pub mod sql;
mod start;
pub mod step;
pub mod table;

extern crate lockstep_start as _;

/// Takes half the time per value of the `malloc` of WASI's C library: it gets the size of freed memory, and it is compiled
/// together with its callers.
#[cfg(all(target_os = "wasi", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

pub use anyhow::{Context, Error, bail, ensure};
#[cfg(feature = "plotters")]
pub use figure::Area;
pub use lockstep_macros::{Outputs, sql, step};
#[cfg(feature = "plotters")]
pub use plotters;
pub use serde;
pub use serde_json;

/// The result of a fallible step. `?` converts any standard error into an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub use artifact::{Artifact, Input, media_type};
pub use directory::Directory;
pub use figure::Figure;
pub use metrics::Metrics;
pub use outputs::Outputs;
pub use parameter::{Kind, Param, Parameter};
pub use parts::Parts;
pub use plain::{Bytes, Csv, Json, Text};
pub use progress::progress;
pub use reader::Reader;
pub use start::{Io, main};
#[cfg(feature = "parquet")]
pub use table::Parquet;
pub use table::{Column, ColumnType, CsvOptions, Rows, Table, TableReader};

/// The parts of arrow that [`Table`] uses.
pub mod arrow {
    pub use arrow_array as array;
    pub use arrow_schema as schema;
    pub use arrow_select as select;
}

/// Everything that a step needs.
pub mod prelude {
    #[cfg(feature = "parquet")]
    pub use crate::Parquet;
    pub use crate::{
        Artifact, Bytes, Column, Context, Csv, Directory, Error, Figure, Json, Metrics, Outputs, Param, Parts, Reader, Result,
        Rows, Table, TableReader, Text, bail, ensure, progress, sql, step,
    };
    // the derives, which need no dependency on serde, and the traits
    pub use lockstep_macros::{Deserialize, Serialize};
    pub use serde::de::Deserialize;
    pub use serde::ser::Serialize;
}
