//! Functions of the values of several rows: for groups, pivots and windows.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, UInt64Array};
use arrow_buffer::NullBuffer;
use arrow_select::take::take;

use super::keys::{Keys, Map, map};
use super::values::{Values, order, plain};
use super::{Table, column};
use crate::{Context, Error, Result, bail};

/// A function of the values of several rows, such as [`mean`].
///
/// Nulls are skipped. Without any values, counts are 0 and all others null. Its column in the result is called `COLUMN_FUNCTION`, such as
/// `mass_mean`, or [`name`](Self::name).
#[derive(Clone, PartialEq, Debug)]
pub struct Aggregate {
    function: Function,
    column: Option<String>,
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Function {
    Count,
    NotNull,
    Unique,
    Sum,
    Mean,
    Std,
    Quantile(f64),
    Median,
    Min,
    Max,
    First,
    Last,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::NotNull => "not_null",
            Self::Unique => "unique",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Quantile(_) => "quantile",
            Self::Median => "median",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

fn of(function: Function, column: impl Into<String>) -> Aggregate {
    Aggregate {
        function,
        column: Some(column.into()),
        name: None,
    }
}

/// The number of rows.
pub fn count() -> Aggregate {
    Aggregate {
        function: Function::Count,
        column: None,
        name: None,
    }
}

/// The number of values that are not null.
pub fn not_null(column: impl Into<String>) -> Aggregate {
    of(Function::NotNull, column)
}

/// The number of different values that are not null.
pub fn unique(column: impl Into<String>) -> Aggregate {
    of(Function::Unique, column)
}

/// The sum: `Int64` or `UInt64` of integers, `Int64` of booleans (the number of those that are true), `Float64` of floats, added in the order of the
/// rows. An overflow is an error.
pub fn sum(column: impl Into<String>) -> Aggregate {
    of(Function::Sum, column)
}

/// The mean of numbers, or the share of booleans that are true.
pub fn mean(column: impl Into<String>) -> Aggregate {
    of(Function::Mean, column)
}

/// The standard deviation of a sample (with n - 1 in the denominator); null for fewer than two values.
pub fn std(column: impl Into<String>) -> Aggregate {
    of(Function::Std, column)
}

/// The value below which the share `q` of the numbers lies, from 0 to 1, interpolated linearly between two numbers.
pub fn quantile(column: impl Into<String>, q: f64) -> Aggregate {
    of(Function::Quantile(q), column)
}

/// The number in the middle, or the mean of the two in the middle.
pub fn median(column: impl Into<String>) -> Aggregate {
    of(Function::Median, column)
}

/// The least value: of numbers, texts, dates and all other values that can be sorted.
pub fn min(column: impl Into<String>) -> Aggregate {
    of(Function::Min, column)
}

/// The greatest value: of numbers, texts, dates and all other values that can be sorted. NaN is greater than all other numbers.
pub fn max(column: impl Into<String>) -> Aggregate {
    of(Function::Max, column)
}

/// The first value that is not null.
pub fn first(column: impl Into<String>) -> Aggregate {
    of(Function::First, column)
}

/// The last value that is not null.
pub fn last(column: impl Into<String>) -> Aggregate {
    of(Function::Last, column)
}

impl Aggregate {
    /// Gives its column in the result another name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Returns the name of its column, with a prefix if none was given.
    pub(super) fn named(&self, prefix: &str) -> String {
        match (&self.name, &self.column) {
            (Some(name), _) => name.clone(),
            (None, Some(column)) => format!("{column}_{prefix}{}", self.function.name()),
            (None, None) => format!("{prefix}{}", self.function.name()),
        }
    }

    /// Prepares the function for the rows of a table.
    pub(super) fn of(&self, table: &Table) -> Result<Prepared> {
        let Some(name) = &self.column else {
            return Ok(Prepared {
                label: String::new(),
                nulls: None,
                over: Over::Rows,
            });
        };
        let column = table.column(name)?;
        let label = format!("{} of column `{name}`", self.function.name());
        Ok(Prepared {
            over: over(self.function, column).context(label.clone())?,
            nulls: column.logical_nulls(),
            label,
        })
    }
}

/// A function with the values that it is computed from.
pub(super) struct Prepared {
    /// What messages call it.
    label: String,
    /// The rows to skip.
    nulls: Option<NullBuffer>,
    over: Over,
}

enum Over {
    Rows,
    /// The number of the value in each row.
    Different(Vec<usize>),
    Sum(Integers),
    SumOfFloats(Float64Array),
    Mean(Integers),
    MeanOfFloats(Float64Array),
    Deviation(Float64Array),
    Share(Float64Array, f64),
    Pick(ArrayRef, Pick),
    /// There are only nulls.
    Nothing,
}

enum Integers {
    Signed(Int64Array),
    Unsigned(UInt64Array),
}

impl Integers {
    fn get(&self, row: usize) -> i128 {
        match self {
            Self::Signed(array) => array.value(row).into(),
            Self::Unsigned(array) => array.value(row).into(),
        }
    }
}

enum Pick {
    Least(Keys),
    Greatest(Keys),
    First,
    Last,
}

fn over(function: Function, column: &ArrayRef) -> Result<Over> {
    let of_booleans = |array: &BooleanArray| -> Int64Array { array.iter().map(|value| value.map(i64::from)).collect() };
    let no_numbers = || {
        Error::msg(format!(
            "it holds {}, not numbers: convert it with Table::cast",
            column.data_type()
        ))
    };
    let floats = || match Values::of(column)? {
        Values::Boolean(_) | Values::Integer(_) | Values::Unsigned(_) | Values::Float(_) | Values::Null => {
            column::numbers(&plain(column)?)
        }
        _ => Err(no_numbers()),
    };
    Ok(match function {
        Function::Count | Function::NotNull => Over::Rows,
        Function::Unique => Over::Different(Keys::of_column(column)?.numbered().of_row),
        Function::Sum => match Values::of(column)? {
            Values::Null => Over::Nothing,
            Values::Boolean(array) => Over::Sum(Integers::Signed(of_booleans(&array))),
            Values::Integer(array) if plain(column)?.data_type().is_unsigned_integer() => {
                Over::Sum(Integers::Unsigned(array.unary(|value| value as u64)))
            }
            Values::Integer(array) => Over::Sum(Integers::Signed(array)),
            Values::Unsigned(array) => Over::Sum(Integers::Unsigned(array)),
            Values::Float(array) => Over::SumOfFloats(array),
            _ => return Err(no_numbers()),
        },
        Function::Mean => match Values::of(column)? {
            Values::Boolean(array) => Over::Mean(Integers::Signed(of_booleans(&array))),
            Values::Integer(array) => Over::Mean(Integers::Signed(array)),
            Values::Unsigned(array) => Over::Mean(Integers::Unsigned(array)),
            _ => Over::MeanOfFloats(floats()?),
        },
        Function::Std => Over::Deviation(floats()?),
        Function::Median => Over::Share(floats()?, 0.5),
        Function::Quantile(q) if (0.0..=1.0).contains(&q) => Over::Share(floats()?, q),
        Function::Quantile(q) => bail!("a quantile must be from 0 to 1, not {q}"),
        Function::Min => Over::Pick(column.clone(), Pick::Least(Keys::of_column(column)?)),
        Function::Max => Over::Pick(column.clone(), Pick::Greatest(Keys::of_column(column)?)),
        Function::First => Over::Pick(column.clone(), Pick::First),
        Function::Last => Over::Pick(column.clone(), Pick::Last),
    })
}

/// What is known of the rows so far.
pub(super) enum State {
    Count(i64),
    Different(Map<usize, ()>),
    Integers(i128, usize),
    Floats(f64, usize),
    /// The mean, the sum of the squares of the distances from it, and the number of values (Welford's method).
    Spread(f64, f64, usize),
    Values(Vec<f64>),
    Row(Option<usize>),
}

/// A result.
pub(super) enum Cell {
    Integer(Option<i128>),
    Float(Option<f64>),
    Row(Option<usize>),
}

impl Prepared {
    /// Returns the result of each group: `of_row` is the group of each row.
    pub(super) fn grouped(&self, of_row: &[usize], groups: usize) -> Result<ArrayRef> {
        let mut states: Vec<State> = (0..groups).map(|_| self.start()).collect();
        for (row, group) in of_row.iter().enumerate() {
            self.push(&mut states[*group], row);
        }
        self.column(states.iter_mut().map(|state| self.cell(state)))
    }

    pub(super) fn start(&self) -> State {
        match &self.over {
            Over::Rows => State::Count(0),
            Over::Different(_) => State::Different(map()),
            Over::Sum(_) | Over::Mean(_) => State::Integers(0, 0),
            Over::SumOfFloats(_) | Over::MeanOfFloats(_) => State::Floats(0.0, 0),
            Over::Deviation(_) => State::Spread(0.0, 0.0, 0),
            Over::Share(..) => State::Values(Vec::new()),
            Over::Pick(..) | Over::Nothing => State::Row(None),
        }
    }

    pub(super) fn push(&self, state: &mut State, row: usize) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return;
        }
        match (&self.over, state) {
            (Over::Rows, State::Count(count)) => *count += 1,
            (Over::Different(numbers), State::Different(known)) => {
                known.insert(numbers[row], ());
            }
            (Over::Sum(values) | Over::Mean(values), State::Integers(sum, count)) => {
                *sum += values.get(row);
                *count += 1;
            }
            (Over::SumOfFloats(values) | Over::MeanOfFloats(values), State::Floats(sum, count)) => {
                *sum += values.value(row);
                *count += 1;
            }
            (Over::Deviation(values), State::Spread(mean, squares, count)) => {
                *count += 1;
                let distance = values.value(row) - *mean;
                *mean += distance / *count as f64;
                *squares += distance * (values.value(row) - *mean);
            }
            (Over::Share(values, _), State::Values(known)) => known.push(values.value(row)),
            (Over::Pick(_, pick), State::Row(best)) => {
                let is_better = |best: usize| match pick {
                    Pick::Least(keys) => keys.get(row) < keys.get(best),
                    Pick::Greatest(keys) => keys.get(row) > keys.get(best),
                    Pick::First => false,
                    Pick::Last => true,
                };
                if best.is_none_or(is_better) {
                    *best = Some(row);
                }
            }
            // `start` returns the state of the function
            _ => {}
        }
    }

    pub(super) fn cell(&self, state: &mut State) -> Cell {
        match state {
            State::Count(count) => Cell::Integer(Some((*count).into())),
            State::Different(known) => Cell::Integer(Some(known.len() as i128)),
            State::Integers(sum, count) => match &self.over {
                Over::Mean(_) => Cell::Float((*count > 0).then(|| *sum as f64 / *count as f64)),
                _ => Cell::Integer((*count > 0).then_some(*sum)),
            },
            State::Floats(sum, count) => match &self.over {
                Over::MeanOfFloats(_) => Cell::Float((*count > 0).then(|| *sum / *count as f64)),
                _ => Cell::Float((*count > 0).then_some(*sum)),
            },
            State::Spread(_, squares, count) => Cell::Float((*count > 1).then(|| (*squares / (*count - 1) as f64).sqrt())),
            State::Values(values) => Cell::Float(match &self.over {
                Over::Share(_, q) => share(values, *q),
                _ => None,
            }),
            State::Row(row) => Cell::Row(*row),
        }
    }

    /// Returns results as a column.
    pub(super) fn column(&self, cells: impl Iterator<Item = Cell>) -> Result<ArrayRef> {
        let (mut integers, mut floats, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for cell in cells {
            match cell {
                Cell::Integer(value) => integers.push(value),
                Cell::Float(value) => floats.push(value),
                Cell::Row(row) => rows.push(row.map(|row| row as u64)),
            }
        }
        let out_of_range = |of: &str| {
            format!(
                "{}: out of range of {of}: convert the column to floats with Table::cast",
                self.label
            )
        };
        match &self.over {
            Over::Sum(Integers::Unsigned(_)) => {
                let values = integers.into_iter().map(|value| value.map(u64::try_from).transpose());
                let values: Option<Vec<Option<u64>>> = values.collect::<Result<_, _>>().ok();
                let values = values.with_context(|| out_of_range("UInt64"))?;
                Ok(Arc::new(UInt64Array::from(values)))
            }
            Over::Rows | Over::Different(_) | Over::Sum(_) => {
                let values = integers.into_iter().map(|value| value.map(i64::try_from).transpose());
                let values: Option<Vec<Option<i64>>> = values.collect::<Result<_, _>>().ok();
                let values = values.with_context(|| out_of_range("Int64"))?;
                Ok(Arc::new(Int64Array::from(values)))
            }
            Over::SumOfFloats(_) | Over::Mean(_) | Over::MeanOfFloats(_) | Over::Deviation(_) | Over::Share(..) => {
                Ok(Arc::new(Float64Array::from(floats)))
            }
            Over::Pick(column, _) => Ok(take(column, &UInt64Array::from(rows), None)?),
            Over::Nothing => Ok(Arc::new(NullArray::new(rows.len()))),
        }
    }
}

/// Returns the value below which the share `q` of the values lies.
fn share(values: &mut [f64], q: f64) -> Option<f64> {
    values.sort_by(|a, b| order(*a, *b));
    let place = values.len().checked_sub(1)? as f64 * q;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    match low == high {
        true => Some(low),
        false => Some(low + (high - low) * place.fract()),
    }
}

impl Cell {
    /// Returns the null of the same kind.
    pub(super) fn nothing(self) -> Self {
        match self {
            Self::Integer(_) => Self::Integer(None),
            Self::Float(_) => Self::Float(None),
            Self::Row(_) => Self::Row(None),
        }
    }
}
