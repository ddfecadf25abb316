//! SQL queries of tables: what [`sql!`](crate::sql!) expands to.
//!
//! A query is a call of the built-in module `lockstep:sql`, which contains DataFusion: a run of its own, which is cached.
//!
//! ```no_run
//! use lockstep::prelude::*;
//!
//! let penguins = Table::new([("mass", vec![3700.0, 5000.0])])?.with("species", vec!["Adelie", "Gentoo"])?;
//! let min = 4000;
//! let heavy = sql!("select species, avg(mass) as mass from {penguins} where mass > {min} group by species")?;
//! # Ok::<(), lockstep::Error>(())
//! ```

use std::fmt::Write as _;

use crate::call::Call;
use crate::table::Column;
use crate::{Artifact as _, Bytes, Context as _, Csv, Result, Table, Text, ensure};

/// The module that executes queries, and its step.
const QUERY: (&str, &str) = ("lockstep:sql", "query");

/// A part of a query.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// SQL
    Text(&'static str),
    /// The name of an argument.
    Name(&'static str),
}

/// Something that a query can contain in braces: a table ([`Table`], [`Csv`] or [`Bytes`]), or a value (a number, a boolean, a string,
/// or an `Option` of one).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be used in a query",
    label = "contains a `{Self}`",
    note = "a query can contain tables (`Table`, `Csv`), numbers, booleans and strings"
)]
pub trait Argument {
    /// Returns what the query gets.
    #[doc(hidden)]
    fn argument(&self) -> Result<Value>;
}

/// What a query gets for an argument.
#[doc(hidden)]
#[derive(Debug)]
pub enum Value {
    Table(Table),
    Scalar(Column),
}

impl Argument for Table {
    fn argument(&self) -> Result<Value> {
        Ok(Value::Table(self.clone()))
    }
}

impl Argument for Csv {
    fn argument(&self) -> Result<Value> {
        self.table().map(Value::Table)
    }
}

impl Argument for Bytes {
    fn argument(&self) -> Result<Value> {
        self.table().map(Value::Table)
    }
}

macro_rules! scalars {
    ($($type:ty as $column:ty),+ $(,)?) => {$(
        impl Argument for $type {
            fn argument(&self) -> Result<Value> {
                Ok(Value::Scalar(Column::from(vec![<$column>::from(self.clone())])))
            }
        }

        impl Argument for Option<$type> {
            fn argument(&self) -> Result<Value> {
                Ok(Value::Scalar(Column::from(vec![self.clone().map(<$column>::from)])))
            }
        }
    )+};
}

scalars! {
    bool as bool,
    i8 as i32, i16 as i32, i32 as i32, i64 as i64,
    u8 as u32, u16 as u32, u32 as u32, u64 as u64,
    f32 as f32, f64 as f64,
    String as String,
}

impl Argument for usize {
    fn argument(&self) -> Result<Value> {
        Ok(Value::Scalar(Column::from(vec![*self as u64])))
    }
}

impl Argument for str {
    fn argument(&self) -> Result<Value> {
        Ok(Value::Scalar(Column::from(vec![self])))
    }
}

impl<T: Argument + ?Sized> Argument for &T {
    fn argument(&self) -> Result<Value> {
        (**self).argument()
    }
}

impl<T: crate::Parameter + Argument> Argument for crate::Param<T> {
    fn argument(&self) -> Result<Value> {
        (**self).argument()
    }
}

/// Runs a query.
#[doc(hidden)]
pub fn run(parts: &[Part], arguments: &[(&'static str, &dyn Argument)]) -> Result<Table> {
    let (module, step) = QUERY;
    let mut call = Call::new(module, step);
    let tables = call.directory("tables")?;
    let mut values = Vec::new();
    for (name, argument) in arguments {
        match argument.argument().with_context(|| format!("`{name}`"))? {
            Value::Table(table) => table.write_artifact(&tables.join(name))?,
            Value::Scalar(column) => values.push((*name, column)),
        }
    }
    let is_value = |name: &str| values.iter().any(|(value, _)| *value == name);
    let mut query = String::new();
    for part in parts {
        match part {
            Part::Text(text) => query.push_str(text),
            Part::Name(name) if is_value(name) => write!(query, "${name}")?,
            Part::Name(name) => write!(query, "\"{name}\"")?,
        }
    }
    let called = call
        .input::<Table>("values", Table::new(values)?)?
        .parameter("query", query)?
        .run()?;
    let error: Text = called.output("error")?;
    ensure!(error.0.is_empty(), "{}", error.0);
    called.output("rows")
}
