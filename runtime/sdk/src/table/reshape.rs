use std::sync::Arc;

use arrow_array::{Array, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow_schema::Field;
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::keys::Keys;
use super::values::Values;
use super::{Aggregate, Table, column, max, mean, median, min, quantile, std};
use crate::{Context, Result, bail};

impl Table {
    /// Returns a row for each key in the columns `index`, and a column for each value in `columns`, with a function of the rows that have both. It
    /// is null where there are no such rows. Rows and columns are in the order of their first occurrence.
    ///
    /// ```
    /// use lockstep::prelude::*;
    /// use lockstep::table::*;
    ///
    /// let long = Table::new([("day", vec![1, 1, 2])])?.with("shop", vec!["a", "b", "a"])?.with("sold", vec![5, 7, 3])?;
    /// let wide = long.pivot(["day"], "shop", sum("sold"))?;
    /// assert_eq!(wide.columns(), ["day", "a", "b"]);
    /// let again = wide.unpivot(["day"], "shop", "sold")?;
    /// assert_eq!(again.rows(), 4);
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn pivot<N: AsRef<str>>(&self, index: impl IntoIterator<Item = N>, columns: &str, function: Aggregate) -> Result<Self> {
        let index: Vec<N> = index.into_iter().collect();
        let keys: Vec<&str> = index.iter().map(AsRef::as_ref).collect();
        if keys.contains(&columns) {
            bail!("column `{columns}` can't be both an index and the names of columns");
        }
        if let Some(row) = self
            .column(columns)?
            .logical_nulls()
            .and_then(|nulls| (0..self.rows()).find(|row| nulls.is_null(*row)))
        {
            bail!(
                "column `{columns}`, row {row}: a null can't name a column: use `.filter(col(\"{columns}\").is_not_null())` before"
            );
        }
        let groups = self
            .group_by(keys.iter().copied().chain([columns]))?
            .aggregate([function.name(VALUE)])?;
        let rows = Keys::new(&groups, keys.iter().map(|name| (*name, false)))?.numbered();
        let names = Keys::new(&groups, [(columns, false)])?.numbered();
        let mut places = vec![vec![None; rows.first.len()]; names.first.len()];
        for group in 0..groups.rows() {
            places[names.of_row[group]][rows.of_row[group]] = Some(group as u64);
        }
        let (texts, values) = (groups.str(columns)?, groups.column(VALUE)?);
        let table = groups.select(&keys)?.pick(&rows.first)?;
        let (mut fields, mut arrays) = (table.0.schema_ref().fields().to_vec(), table.0.columns().to_vec());
        for (places, first) in places.into_iter().zip(&names.first) {
            fields.push(Arc::new(Field::new(texts.value(*first), values.data_type().clone(), true)));
            arrays.push(take(values, &UInt64Array::from(places), None)?);
        }
        Self::of_rows(fields, arrays, rows.first.len())
            .with_context(|| format!("the values of column `{columns}` can't name columns"))
    }

    /// Returns a row for each value that is not in the columns `keep`: with these, its column as `name`, and itself as `value`. The rows of the first
    /// such column come first. The reverse of [`Table::pivot`].
    pub fn unpivot<N: AsRef<str>>(&self, keep: impl IntoIterator<Item = N>, name: &str, value: &str) -> Result<Self> {
        let kept = self.select(keep)?;
        let others = self.columns().into_iter().filter(|name| kept.index(name).is_err());
        let others: Vec<&str> = others.collect();
        let Some(first) = others.first() else {
            bail!("there is no column other than {}", kept.columns().join(", "));
        };
        let arrays: Vec<&dyn Array> = others
            .iter()
            .map(|name| self.column(name).map(|array| array.as_ref() as &dyn Array))
            .collect::<Result<_>>()?;
        if let Some(other) = arrays.iter().position(|array| array.data_type() != arrays[0].data_type()) {
            bail!(
                "column `{first}` holds {}, but column `{}` {}: keep one of them, or convert it with Table::cast",
                arrays[0].data_type(),
                others[other],
                arrays[other].data_type()
            );
        }
        let rows: Vec<usize> = others.iter().flat_map(|_| 0..self.rows()).collect();
        let kept = kept.pick(&rows)?;
        let names = others.iter().flat_map(|name| std::iter::repeat_n(*name, self.rows()));
        let (mut fields, mut columns) = (kept.0.schema_ref().fields().to_vec(), kept.0.columns().to_vec());
        let values = concat(&arrays)?;
        fields.push(Arc::new(Field::new(name, arrow_schema::DataType::Utf8, true)));
        fields.push(Arc::new(Field::new(value, values.data_type().clone(), true)));
        columns.push(Arc::new(StringArray::from_iter_values(names)));
        columns.push(values);
        Self::of_rows(fields, columns, rows.len())
    }

    /// Returns a row for each column with what its values are like: their type, how many are null, and for numbers the mean, the standard deviation and
    /// the quartiles. The least and the greatest value are texts, because columns have different types.
    pub fn describe(&self) -> Result<Self> {
        let names = self.columns();
        let mut numbers: [Vec<Option<f64>>; 5] = Default::default();
        let (mut types, mut nulls, mut least, mut greatest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            let array = self.0.column(index);
            types.push(array.data_type().to_string());
            nulls.push(array.logical_null_count() as i64);
            let is_number = matches!(
                Values::of(array)?,
                Values::Integer(_) | Values::Unsigned(_) | Values::Float(_)
            );
            let functions = [
                mean(*name),
                std(*name),
                quantile(*name, 0.25),
                median(*name),
                quantile(*name, 0.75),
            ];
            for (column, function) in numbers.iter_mut().zip(functions) {
                column.push(match is_number {
                    true => self.aggregate([function.name(VALUE)])?.f64(VALUE)?.iter().next().flatten(),
                    false => None,
                });
            }
            for (column, function) in [(&mut least, min(*name)), (&mut greatest, max(*name))] {
                // values that can't be compared have neither
                let found = Keys::of_column(array).is_ok() && super::display::has_text(array.data_type());
                column.push(match found {
                    true => column::texts(self.aggregate([function.name(VALUE)])?.column(VALUE)?)?
                        .iter()
                        .next()
                        .flatten()
                        .map(str::to_owned),
                    false => None,
                });
            }
        }
        let values: Vec<i64> = nulls.iter().map(|nulls| self.rows() as i64 - nulls).collect();
        let [means, deviations, low, middle, high] = numbers.map(Float64Array::from);
        Self::new([("column", names)])?
            .with("type", types)?
            .with("not_null", Int64Array::from(values))?
            .with("nulls", nulls)?
            .with("mean", means)?
            .with("std", deviations)?
            .with("min", least)?
            .with("q25", low)?
            .with("median", middle)?
            .with("q75", high)?
            .with("max", greatest)
    }
}

/// The name of a column that is not shown.
const VALUE: &str = "\0value";
