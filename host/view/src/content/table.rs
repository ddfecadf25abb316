use std::fmt;
use std::io::IsTerminal;
use std::ops::Range;

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, Field};
use bytes::Bytes;
use lockstep::{CsvOptions, TableReader};
use serde_json::{Value, json};

use super::are_plausible;
use crate::columns::{Align, Columns, fit};
use crate::quantity;

/// The rows of larger tables are not all counted.
const COUNTED: u64 = 256 << 20;

/// The types of the columns of larger CSV are inferred from this number of rows.
const SAMPLE: usize = 10_000;

/// The maximum width of a cell.
const CELL: usize = 40;

/// A part of the rows of a table.
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The cells; `None` for null.
    pub rows: Vec<Vec<Option<String>>>,
    /// The number of all rows; `None` if there are too many to count.
    pub total: Option<u64>,
}

/// A column of a table.
pub struct Column {
    pub name: String,
    /// The Arrow type.
    pub kind: String,
    /// Whether its cells are numbers.
    pub numeric: bool,
    /// Whether its cells are decimal numbers, which a number in JSON would round.
    decimal: bool,
}

impl Column {
    fn of(field: &Field) -> Self {
        Self {
            name: field.name().clone(),
            kind: field.data_type().to_string(),
            numeric: field.data_type().is_numeric(),
            decimal: field.data_type().is_decimal(),
        }
    }
}

impl Table {
    /// Reads rows of Arrow, Parquet or CSV, as a step reads them.
    pub fn read(bytes: Bytes, wanted: Range<usize>) -> Result<Self, lockstep::Error> {
        if !are_plausible(&bytes) {
            return Err(lockstep::Error::msg("the length of a buffer is wrong"));
        }
        let is_countable = bytes.len() as u64 <= COUNTED;
        let options = match is_countable {
            true => CsvOptions::default(),
            false => CsvOptions::default().sample(wanted.end.max(SAMPLE)),
        };
        let mut tables = TableReader::from_bytes(bytes, options)?.peekable();
        let mut read = Self {
            columns: Vec::new(),
            rows: Vec::new(),
            total: None,
        };
        let mut total = 0;
        while let Some(table) = tables.next().transpose()? {
            let batch = RecordBatch::from(table);
            if read.columns.is_empty() {
                read.columns = batch.schema_ref().fields().iter().map(|field| Column::of(field)).collect();
            }
            let within = |row: usize| row.clamp(total, total + batch.num_rows()) - total;
            read.take(&batch, within(wanted.start)..within(wanted.end))?;
            total += batch.num_rows();
            if total >= wanted.end && !is_countable && tables.peek().is_some() {
                return Ok(read);
            }
        }
        read.total = Some(total as u64);
        Ok(read)
    }

    fn take(&mut self, batch: &RecordBatch, rows: Range<usize>) -> Result<(), ArrowError> {
        let options = FormatOptions::default();
        let formatters: Vec<_> = batch
            .columns()
            .iter()
            .map(|array| ArrayFormatter::try_new(array, &options))
            .collect::<Result<_, _>>()?;
        for row in rows {
            let cells = batch.columns().iter().zip(&formatters);
            let cell = |(array, formatter): (&std::sync::Arc<dyn Array>, &ArrayFormatter)| {
                if array.data_type() == &DataType::Null || array.is_null(row) {
                    Ok(None)
                } else {
                    formatter.value(row).try_to_string().map(Some)
                }
            };
            self.rows.push(cells.map(cell).collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// Returns the number of rows and columns, and how many are shown.
    pub fn note(&self) -> String {
        let columns = match self.columns.len() {
            1 => "1 column".to_owned(),
            count => format!("{count} columns"),
        };
        let shown = self.rows.len() as u64;
        match self.total {
            Some(1) => format!("1 row, {columns}"),
            Some(total) if total == shown => format!("{} rows, {columns}", quantity::count(total)),
            Some(total) => format!("{} rows, {columns}; the first {shown} are shown", quantity::count(total)),
            None => format!("many rows, {columns}; the first {shown} are shown"),
        }
    }

    /// Converts the table to an object with `columns`, `rows` and `total_rows`. Decimal numbers become texts.
    pub fn to_json(&self) -> Value {
        let columns: Vec<Value> = self
            .columns
            .iter()
            .map(|column| json!({ "name": column.name, "type": column.kind }))
            .collect();
        let cell = |(at, cell): (usize, &Option<String>)| match cell {
            Some(text) if self.columns.get(at).is_some_and(|column| column.numeric && !column.decimal) => {
                serde_json::from_str(text)
                    .ok()
                    .filter(Value::is_number)
                    .unwrap_or_else(|| Value::from(text.as_str()))
            }
            other => json!(other),
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| row.iter().enumerate().map(cell).collect())
            .collect();
        json!({ "columns": columns, "rows": rows, "total_rows": self.total })
    }

    /// Returns how many columns fit into `width`, at least one.
    fn fitting(&self, width: usize) -> usize {
        let mut used = 0;
        for (at, column) in self.columns.iter().enumerate() {
            let cells = self.rows.iter().filter_map(|row| row.get(at)?.as_deref());
            let texts = cells.chain([column.name.as_str(), column.kind.as_str()]);
            used += 2 + texts.map(|text| text.chars().count().min(CELL)).max().unwrap_or(0);
            if used > width + 2 {
                return at.max(1);
            }
        }
        self.columns.len()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.fitting(terminal_width().unwrap_or(usize::MAX / 2));
        let columns = &self.columns[..shown];
        let names: Vec<String> = columns.iter().map(|column| fit(&column.name, CELL)).collect();
        let align = |column: &Column| if column.numeric { Align::Right } else { Align::Left };
        let mut text =
            Columns::headed(&names.iter().map(String::as_str).collect::<Vec<_>>()).aligned(columns.iter().map(align));
        if columns.iter().any(|column| !column.kind.is_empty()) {
            text = text.subheaded(columns.iter().map(|column| fit(&column.kind, CELL)));
        }
        for row in &self.rows {
            text.row(
                row.iter()
                    .take(shown)
                    .map(|cell| cell.as_deref().map_or("∅".to_owned(), |text| fit(text, CELL))),
            );
        }
        text.fmt(f)?;
        if shown < self.columns.len() {
            let hidden: Vec<&str> = self.columns[shown..].iter().map(|column| column.name.as_str()).collect();
            writeln!(f, "… and {}: {}", hidden.len(), fit(&hidden.join(", "), 200))?;
        }
        Ok(())
    }
}

fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    Some(terminal_size::terminal_size()?.0.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static [u8], wanted: Range<usize>) -> Result<Table, String> {
        Table::read(Bytes::from_static(text), wanted).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn csv_lines_up_and_says_what_is_left_out() {
        let table = read(b"name,mass\nAdelie,3750\n\"a,b\",\nx,1.5\n", 0..2).unwrap();
        let plain = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(plain, "name       mass\nUtf8    Float64\nAdelie   3750.0\na,b           ∅\n");
        assert_eq!(table.note(), "3 rows, 2 columns; the first 2 are shown");
        assert_eq!(table.to_json()["rows"], json!([["Adelie", 3750.0], ["a,b", null]]));
    }

    #[test]
    fn a_broken_table_is_an_error() {
        assert!(read(b"\xff\xff\xff\xff\x10\0\0\0junk", 0..5).is_err());
        assert!(read(b"ARROW1", 0..5).is_err());
        assert!(read(b"PAR1junkPAR1", 0..5).is_err());
        let error = read(b"a,b\n1,2\n3,4,5\n", 0..5).err().unwrap();
        assert!(error.ends_with("line 3 has 3 fields, but the header has 2"), "{error}");
    }
}
