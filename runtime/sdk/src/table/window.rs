use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, UInt64Array};
use arrow_schema::Field;
use arrow_select::take::take;

use super::aggregate::{Aggregate, Cell};
use super::keys::Keys;
use super::{Order, Table};
use crate::{Context, Result, bail};

/// A value for each row, computed from the rows of its partition, such as [`lag`]: for [`Table::window`]. An [`Aggregate`] is one too.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    function: Function,
    name: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
enum Function {
    RowNumber,
    Rank,
    DenseRank,
    Lag(String, usize),
    Lead(String, usize),
    Running(Aggregate),
    Rolling(usize, Aggregate),
    Whole(Aggregate),
}

impl From<Function> for Window {
    fn from(function: Function) -> Self {
        Self { function, name: None }
    }
}

impl From<Aggregate> for Window {
    fn from(function: Aggregate) -> Self {
        Function::Whole(function).into()
    }
}

/// The number of the row in its partition, from 1.
pub fn row_number() -> Window {
    Function::RowNumber.into()
}

/// The number of the first row with the same values in the order, from 1: 1, 2, 2, 4.
pub fn rank() -> Window {
    Function::Rank.into()
}

/// The number of the different values in the order up to the row's: 1, 2, 2, 3.
pub fn dense_rank() -> Window {
    Function::DenseRank.into()
}

/// The value `count` rows before, or null.
pub fn lag(column: impl Into<String>, count: usize) -> Window {
    Function::Lag(column.into(), count).into()
}

/// The value `count` rows later, or null.
pub fn lead(column: impl Into<String>, count: usize) -> Window {
    Function::Lead(column.into(), count).into()
}

/// A function of the rows up to this one.
pub fn running(function: Aggregate) -> Window {
    Function::Running(function).into()
}

/// A function of this row and those before it, `count` rows in all; null where there are fewer.
pub fn rolling(count: usize, function: Aggregate) -> Window {
    Function::Rolling(count, function).into()
}

impl Window {
    /// Gives its column another name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    fn named(&self) -> String {
        match (&self.name, &self.function) {
            (Some(name), _) => name.clone(),
            (None, Function::RowNumber) => "row_number".to_owned(),
            (None, Function::Rank) => "rank".to_owned(),
            (None, Function::DenseRank) => "dense_rank".to_owned(),
            (None, Function::Lag(column, _)) => format!("{column}_lag"),
            (None, Function::Lead(column, _)) => format!("{column}_lead"),
            (None, Function::Running(function)) => function.named("running_"),
            (None, Function::Rolling(_, function)) => function.named("rolling_"),
            (None, Function::Whole(function)) => function.named(""),
        }
    }
}

impl Table {
    /// Returns the table with a column for each function, such as `row_number` or `mass_lag`. The rows stay in their order.
    ///
    /// The functions see the rows with the same values in the columns `partition_by`, sorted by `order_by` as in [`Table::sort`]. Without columns, which is
    /// `[""; 0]`, all rows are one partition, in their order.
    ///
    /// ```
    /// use lockstep::prelude::*;
    /// use lockstep::table::*;
    ///
    /// let sales = Table::new([("shop", vec!["a", "b", "a"])])?.with("day", vec![2, 1, 1])?.with("sold", vec![5, 7, 3])?;
    /// let running = sales.window(["shop"], ["day"], [running(sum("sold")), lag("sold", 1)])?;
    /// assert_eq!(running.columns(), ["shop", "day", "sold", "sold_running_sum", "sold_lag"]);
    /// assert_eq!(running.f64("sold_running_sum")?.values(), &[8.0, 7.0, 3.0]);
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn window<N: AsRef<str>, O: Into<Order>, W: Into<Window>>(
        &self,
        partition_by: impl IntoIterator<Item = N>,
        order_by: impl IntoIterator<Item = O>,
        functions: impl IntoIterator<Item = W>,
    ) -> Result<Self> {
        let names: Vec<N> = partition_by.into_iter().collect();
        let order: Vec<Order> = order_by.into_iter().map(Into::into).collect();
        let partitions = Partitions::of(self, &names, &order)?;
        let (mut fields, mut arrays) = (self.0.schema_ref().fields().to_vec(), self.0.columns().to_vec());
        for function in functions.into_iter().map(Into::into) {
            let name = function.named();
            let array = partitions
                .compute(self, &function.function)
                .with_context(|| format!("column `{name}`"))?;
            fields.push(Arc::new(Field::new(name, array.data_type().clone(), true)));
            arrays.push(array);
        }
        Self::of_rows(fields, arrays, self.rows()).context("each function needs another name: use `.name(\"...\")`")
    }
}

struct Partitions {
    /// The partition of each row.
    of_row: Vec<usize>,
    /// The rows of each partition, in order.
    rows: Vec<Vec<usize>>,
    order: Keys,
}

impl Partitions {
    fn of(table: &Table, names: &[impl AsRef<str>], order: &[Order]) -> Result<Self> {
        let order = Keys::new(table, order.iter().map(|order| (order.column.as_str(), order.descending)))?;
        let numbered = Keys::new(table, names.iter().map(|name| (name.as_ref(), false)))?.numbered();
        let mut rows = vec![Vec::new(); numbered.first.len()];
        for row in order.sorted() {
            rows[numbered.of_row[row]].push(row);
        }
        Ok(Self {
            of_row: numbered.of_row,
            rows,
            order,
        })
    }

    fn compute(&self, table: &Table, function: &Function) -> Result<ArrayRef> {
        match function {
            Function::RowNumber => self.count(|place, _, _| place as i64 + 1),
            Function::Rank => self.count(|place, last, is_peer| if is_peer { last } else { place as i64 + 1 }),
            Function::DenseRank => self.count(|_, last, is_peer| last + i64::from(!is_peer)),
            Function::Lag(column, count) => self.shift(table.column(column)?, |place| place.checked_sub(*count)),
            Function::Lead(column, count) => self.shift(table.column(column)?, |place| place.checked_add(*count)),
            Function::Running(function) => {
                let prepared = function.of(table)?;
                let mut cells = Vec::with_capacity(table.rows());
                for rows in &self.rows {
                    let mut state = prepared.start();
                    for row in rows {
                        prepared.push(&mut state, *row);
                        cells.push(prepared.cell(&mut state));
                    }
                }
                self.unsort(&prepared.column(cells.into_iter())?)
            }
            Function::Rolling(0, _) => bail!("a rolling function needs at least one row"),
            Function::Rolling(count, function) => {
                let prepared = function.of(table)?;
                let cell = |rows: &[usize], place: usize| -> Cell {
                    let mut state = prepared.start();
                    let Some(start) = (place + 1).checked_sub(*count) else {
                        return prepared.cell(&mut state).nothing();
                    };
                    rows[start..=place].iter().for_each(|row| prepared.push(&mut state, *row));
                    prepared.cell(&mut state)
                };
                let cells = self
                    .rows
                    .iter()
                    .flat_map(|rows| (0..rows.len()).map(move |place| (rows, place)));
                self.unsort(&prepared.column(cells.map(|(rows, place)| cell(rows, place)))?)
            }
            Function::Whole(function) => {
                let found = function.of(table)?.grouped(&self.of_row, self.rows.len())?;
                let rows = self.of_row.iter().map(|partition| *partition as u64);
                Ok(take(&found, &UInt64Array::from_iter_values(rows), None)?)
            }
        }
    }

    /// Returns a number for each row, from its place, the number before and whether the row before has the same values in the order.
    fn count(&self, number: impl Fn(usize, i64, bool) -> i64) -> Result<ArrayRef> {
        let mut numbers = vec![0; self.of_row.len()];
        for rows in &self.rows {
            let mut last = 0;
            for (place, row) in rows.iter().enumerate() {
                let is_peer = place > 0 && self.order.get(rows[place - 1]) == self.order.get(*row);
                last = number(place, last, is_peer);
                numbers[*row] = last;
            }
        }
        Ok(Arc::new(Int64Array::from(numbers)))
    }

    /// Returns the value at another place of the partition for each row.
    fn shift(&self, column: &ArrayRef, other: impl Fn(usize) -> Option<usize>) -> Result<ArrayRef> {
        let mut from = vec![None; self.of_row.len()];
        for rows in &self.rows {
            for (place, row) in rows.iter().enumerate() {
                from[*row] = other(place).and_then(|place| rows.get(place)).map(|row| *row as u64);
            }
        }
        Ok(take(column, &UInt64Array::from(from), None)?)
    }

    /// Puts the values of the sorted partitions back in the order of the rows.
    fn unsort(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let mut places = vec![0; self.of_row.len()];
        for (place, row) in self.rows.iter().flatten().enumerate() {
            places[*row] = place as u64;
        }
        Ok(take(values, &UInt64Array::from(places), None)?)
    }
}
