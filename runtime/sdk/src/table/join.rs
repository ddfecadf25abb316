use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UInt64Array, new_null_array};
use arrow_schema::{DataType, Field};
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::keys::{Keys, Map, map};
use super::values::plain;
use super::{Table, column};
use crate::{Context, Result, bail};

/// Which rows a join returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    /// The pairs of rows that match.
    Inner,
    /// Also the rows of the left table without a match.
    Left,
    /// Also the rows of the right table without a match.
    Right,
    /// Also the rows of both tables without a match.
    Full,
    /// The rows of the left table with a match, each once, without columns of the right table.
    Semi,
    /// The rows of the left table without a match.
    Anti,
}

/// A pair of columns that must be equal: `"id"`, or `("id", "number")` if they have different names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct On {
    left: String,
    right: String,
}

impl From<&str> for On {
    fn from(name: &str) -> Self {
        (name, name).into()
    }
}

impl From<&String> for On {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl From<String> for On {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl<L: Into<String>, R: Into<String>> From<(L, R)> for On {
    fn from((left, right): (L, R)) -> Self {
        Self {
            left: left.into(),
            right: right.into(),
        }
    }
}

impl Table {
    /// Joins the rows with those of `other` that have equal values in the columns `on`.
    ///
    /// The rows have the order of this table, and the matches of a row that of `other`; rows of `other` without a match come last. A null matches
    /// nothing. The result has the columns of this table and then those of `other`, without its key columns: their values are in those of this table.
    ///
    /// ```
    /// use lockstep::prelude::*;
    /// use lockstep::table::*;
    ///
    /// let flights = Table::new([("carrier", vec!["UA", "DL", "XX"])])?;
    /// let airlines = Table::new([("code", vec!["DL", "UA"])])?.with("name", vec!["Delta", "United"])?;
    /// let named = flights.join(&airlines, [("carrier", "code")], Join::Left)?;
    /// assert_eq!(named.columns(), ["carrier", "name"]);
    /// assert_eq!(named.str("name")?.iter().collect::<Vec<_>>(), [Some("United"), Some("Delta"), None]);
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn join<O: Into<On>>(&self, other: &Self, on: impl IntoIterator<Item = O>, join: Join) -> Result<Self> {
        let on: Vec<On> = on.into_iter().map(Into::into).collect();
        if on.is_empty() {
            bail!("a join needs at least one column");
        }
        let (left, right) = aligned(self, other, &on)?;
        let matches = Matches::of(&left, &right);
        if let Join::Semi | Join::Anti = join {
            let kept = (0..self.rows()).filter(|row| matches.of_left(*row).is_empty() == (join == Join::Anti));
            return self.pick(&kept.collect::<Vec<_>>());
        }
        let (mut from_left, mut from_right) = (Vec::new(), Vec::new());
        let mut is_matched = vec![false; other.rows()];
        for row in 0..self.rows() {
            let found = matches.of_left(row);
            for other in found {
                from_left.push(Some(row as u64));
                from_right.push(Some(*other as u64));
                is_matched[*other] = true;
            }
            if found.is_empty() && matches!(join, Join::Left | Join::Full) {
                from_left.push(Some(row as u64));
                from_right.push(None);
            }
        }
        if let Join::Right | Join::Full = join {
            for row in (0..other.rows()).filter(|row| !is_matched[*row]) {
                from_left.push(None);
                from_right.push(Some(row as u64));
            }
        }
        self.joined(other, &on, join, &from_left, &from_right)
    }

    /// Returns the rows of both tables side by side.
    fn joined(
        &self,
        other: &Self,
        on: &[On],
        join: Join,
        from_left: &[Option<u64>],
        from_right: &[Option<u64>],
    ) -> Result<Self> {
        let (left, right) = (UInt64Array::from(from_left.to_vec()), UInt64Array::from(from_right.to_vec()));
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for (field, array) in self.0.schema_ref().fields().iter().zip(self.0.columns()) {
            let array = match on.iter().find(|on| on.left == *field.name()) {
                Some(on) if matches!(join, Join::Right | Join::Full) => {
                    either(array, other.column(&on.right)?, from_left, from_right)?
                }
                _ => take(array, &left, None)?,
            };
            let field = Field::clone(field).with_nullable(true);
            fields.push(Arc::new(field.with_data_type(array.data_type().clone())));
            arrays.push(array);
        }
        for (field, array) in other.0.schema_ref().fields().iter().zip(other.0.columns()) {
            if on.iter().any(|on| on.right == *field.name()) {
                continue;
            }
            if self.index(field.name()).is_ok() {
                bail!(
                    "both tables have a column `{name}`: use Table::rename or Table::drop for one of them, or join on it",
                    name = field.name()
                );
            }
            fields.push(Arc::new(Field::clone(field).with_nullable(true)));
            arrays.push(take(array, &right, None)?);
        }
        Self::of_rows(fields, arrays, from_left.len())
    }
}

/// Returns the values of a key column: those of the left table, or where it has no row those of the right table.
fn either(left: &ArrayRef, right: &ArrayRef, from_left: &[Option<u64>], from_right: &[Option<u64>]) -> Result<ArrayRef> {
    let both = match left.data_type() == right.data_type() {
        true => concat(&[left, right])?,
        false => {
            let (left, right) = (plain(left)?, plain(right)?);
            let of = |array: &ArrayRef, other: &ArrayRef| match array.data_type() {
                DataType::Null => new_null_array(other.data_type(), array.len()),
                _ => array.clone(),
            };
            let (left, right) = (of(&left, &right), of(&right, &left));
            match left.data_type() == right.data_type() {
                true => concat(&[&left, &right])?,
                // kinds of text
                false => concat(&[&column::texts(&left)?, &column::texts(&right)?])?,
            }
        }
    };
    let offset = left.len() as u64;
    let rows = from_left
        .iter()
        .zip(from_right)
        .map(|(left, right)| left.or(right.map(|right| offset + right)));
    Ok(take(&both, &rows.collect::<UInt64Array>(), None)?)
}

/// Returns the keys of both tables.
fn aligned(left: &Table, right: &Table, on: &[On]) -> Result<(Keys, Keys)> {
    for (index, pair) in on.iter().enumerate() {
        for earlier in &on[..index] {
            if earlier.left == pair.left || earlier.right == pair.right {
                bail!("a join can't use a column twice: {earlier:?} and {pair:?}");
            }
        }
        let of = |table: &Table, name: &str| Ok::<_, crate::Error>(plain(table.column(name)?)?.data_type().clone());
        let a = of(left, &pair.left).context("the left table")?;
        let b = of(right, &pair.right).context("the right table")?;
        let is_text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let agree = a == b || a == DataType::Null || b == DataType::Null || is_text(&a) && is_text(&b);
        if !agree {
            bail!(
                "column `{}` of the left table holds {a}, but column `{}` of the right table {b}: convert one of them with Table::cast",
                pair.left,
                pair.right
            );
        }
    }
    let left = Keys::new(left, on.iter().map(|on| (on.left.as_str(), false)))?;
    let right = Keys::new(right, on.iter().map(|on| (on.right.as_str(), false)))?;
    Ok((left, right))
}

/// The rows of the right table for each row of the left table.
struct Matches {
    /// The number of each left row's key, if the right table has it.
    of_left: Vec<Option<usize>>,
    /// Where the rows of each key start in `rows`.
    starts: Vec<usize>,
    rows: Vec<usize>,
}

impl Matches {
    fn of(left: &Keys, right: &Keys) -> Self {
        let mut numbers: Map<&[u8], usize> = map();
        let (mut of_right, mut counts) = (vec![None; right.len()], Vec::new());
        for row in (0..right.len()).filter(|row| right.is_whole(*row)) {
            let number = *numbers.entry(right.get(row)).or_insert(counts.len());
            if number == counts.len() {
                counts.push(0);
            }
            counts[number] += 1;
            of_right[row] = Some(number);
        }
        let mut starts = vec![0];
        for count in counts {
            starts.push(starts[starts.len() - 1] + count);
        }
        let (mut next, mut rows) = (starts.clone(), vec![0; starts[starts.len() - 1]]);
        for (row, number) in of_right.into_iter().enumerate() {
            if let Some(number) = number {
                rows[next[number]] = row;
                next[number] += 1;
            }
        }
        let number = |row: usize| left.is_whole(row).then(|| numbers.get(left.get(row)).copied()).flatten();
        Self {
            of_left: (0..left.len()).map(number).collect(),
            starts,
            rows,
        }
    }

    fn of_left(&self, row: usize) -> &[usize] {
        match self.of_left[row] {
            Some(number) => &self.rows[self.starts[number]..self.starts[number + 1]],
            None => &[],
        }
    }
}
