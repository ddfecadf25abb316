use std::io::Cursor;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use super::{Found, Location, VALUE};
use crate::columns::{exact, fit};
use crate::content::are_plausible;
use crate::guard::guarded;

/// Returns the first cell that differs in two Arrow tables, or `None` if their rows are equal or unreadable.
pub fn of_arrow(a: Bytes, b: Bytes) -> Option<Found> {
    if !are_plausible(&a) || !are_plausible(&b) {
        return None;
    }
    guarded(|| difference(a, b)).flatten()
}

fn difference(a: Bytes, b: Bytes) -> Option<Found> {
    let (mut a, mut b) = (Rows::open(a).ok()?, Rows::open(b).ok()?);
    if a.schema.fields() != b.schema.fields() {
        return Some((Location::Columns, Some(a.columns()), Some(b.columns())));
    }
    let mut row = 0;
    loop {
        match (a.next().ok()?, b.next().ok()?) {
            (None, None) => return None,
            (Some(left), Some(right)) => {
                let count = left.num_rows().min(right.num_rows());
                if let Some(found) = in_batches(&left.slice(0, count), &right.slice(0, count), row) {
                    return Some(found);
                }
                a.rest = Some(left.slice(count, left.num_rows() - count));
                b.rest = Some(right.slice(count, right.num_rows() - count));
                row += count as u64;
            }
            (left, right) => {
                let column = String::new();
                let there = |batch: Option<RecordBatch>| batch.map(|batch| cells(&batch));
                return Some((Location::Cell { row: row + 1, column }, there(left), there(right)));
            }
        }
    }
}

/// The rows of a table, batch by batch.
struct Rows {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
    /// The rest of the last batch.
    rest: Option<RecordBatch>,
}

impl Rows {
    fn open(bytes: Bytes) -> Result<Self, ArrowError> {
        let is_file = bytes.starts_with(b"ARROW1");
        let cursor = Cursor::new(bytes);
        let (schema, batches): (_, Box<dyn Iterator<Item = _>>) = if is_file {
            let reader = FileReader::try_new(cursor, None)?;
            (reader.schema(), Box::new(reader))
        } else {
            let reader = StreamReader::try_new(cursor, None)?;
            (reader.schema(), Box::new(reader))
        };
        Ok(Self {
            schema,
            batches,
            rest: None,
        })
    }

    /// Returns the next rows, at least one.
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        loop {
            let batch = match self.rest.take() {
                Some(batch) => Some(batch),
                None => self.batches.next().transpose()?,
            };
            match batch {
                Some(batch) if batch.num_rows() == 0 => {}
                other => return Ok(other),
            }
        }
    }

    fn columns(&self) -> String {
        let column = |field: &arrow_schema::FieldRef| format!("{} {}", field.name(), field.data_type());
        let columns: Vec<String> = self.schema.fields().iter().map(column).collect();
        fit(&columns.join(", "), 4 * VALUE)
    }
}

/// Returns the first cell that differs, by row, in two batches of the same number of rows.
fn in_batches(a: &RecordBatch, b: &RecordBatch, before: u64) -> Option<Found> {
    let columns = a.columns().iter().zip(b.columns()).enumerate();
    let first = columns.filter_map(|(at, (a, b))| Some((first_row(a, b)?, at))).min()?;
    let (row, at) = first;
    let place = Location::Cell {
        row: before + row as u64 + 1,
        column: a.schema().field(at).name().clone(),
    };
    Some((place, Some(cell(a.column(at), row)), Some(cell(b.column(at), row))))
}

/// Returns the first row in which two columns differ. Uses bisection, because comparing equal columns is fast.
fn first_row(a: &ArrayRef, b: &ArrayRef) -> Option<usize> {
    let (mut start, mut count) = (0, a.len());
    let is_equal = |start, count| a.slice(start, count).to_data() == b.slice(start, count).to_data();
    if is_equal(start, count) {
        return None;
    }
    while count > 1 {
        let half = count / 2;
        if is_equal(start, half) {
            (start, count) = (start + half, count - half);
        } else {
            count = half;
        }
    }
    Some(start)
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "∅".to_owned();
    }
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(column.as_ref(), &options).and_then(|cells| cells.value(row).try_to_string());
    text.map_or_else(|_| "?".to_owned(), |text| fit(&exact(&text), VALUE))
}

/// Returns the first row of a batch.
fn cells(batch: &RecordBatch) -> String {
    let cells: Vec<String> = batch.columns().iter().map(|column| cell(column, 0)).collect();
    fit(&cells.join(", "), VALUE)
}

/// Returns the first cell that differs in two CSV files, or `None` if their cells are equal or unreadable.
pub fn of_csv(a: &[u8], b: &[u8]) -> Option<Found> {
    let reader = |bytes| csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let (mut a, mut b) = (reader(a), reader(b));
    let text = |field: &[u8]| fit(&exact(&String::from_utf8_lossy(field)), VALUE);
    let joined = |record: &csv::ByteRecord| fit(&record.iter().map(text).collect::<Vec<_>>().join(", "), 4 * VALUE);
    let header = a.byte_headers().ok()?.clone();
    if header != *b.byte_headers().ok()? {
        return Some((Location::Columns, Some(joined(&header)), Some(joined(b.byte_headers().ok()?))));
    }
    let (mut left, mut right) = (csv::ByteRecord::new(), csv::ByteRecord::new());
    for row in 1.. {
        let (in_left, in_right) = (a.read_byte_record(&mut left).ok()?, b.read_byte_record(&mut right).ok()?);
        if !in_left && !in_right {
            break;
        }
        if !in_left || !in_right {
            let column = String::new();
            let there = |is: bool, record| is.then(|| joined(record));
            return Some((Location::Cell { row, column }, there(in_left, &left), there(in_right, &right)));
        }
        if let Some(at) = (0..left.len().max(right.len())).find(|at| left.get(*at) != right.get(*at)) {
            let column = header.get(at).map_or_else(|| (at + 1).to_string(), text);
            return Some((
                Location::Cell { row, column },
                left.get(at).map(text),
                right.get(at).map(text),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use arrow_ipc::writer::StreamWriter;

    use super::*;

    fn told(found: Option<Found>) -> String {
        let (place, left, right) = found.unwrap();
        format!("{place}: {left:?} {right:?}")
    }

    #[test]
    fn csv_tells_row_and_column() {
        let told = |a: &str, b: &str| told(of_csv(a.as_bytes(), b.as_bytes()));
        assert_eq!(
            told("a,b\n1,2\n3,4\n", "a,b\n1,2\n3,5\n"),
            "row 2, column b: Some(\"4\") Some(\"5\")"
        );
        assert_eq!(told("a\n1\n", "a\n1\n2\n"), "row 2: None Some(\"2\")");
        assert_eq!(told("a\n1\n", "b\n1\n"), "the columns: Some(\"a\") Some(\"b\")");
        assert_eq!(told("a\n1,2\n", "a\n1\n"), "row 1, column 2: Some(\"2\") None");
        assert_eq!(of_csv(b"a\n\"1\"\n", b"a\n1\n"), None);
    }

    /// Returns a table with batches that end at `cuts`.
    fn table(masses: &[Option<i64>], cuts: &[usize]) -> Bytes {
        let names: StringArray = masses.iter().map(|_| Some("Adelie")).collect();
        let columns: [(&str, ArrayRef); 2] = [
            ("name", Arc::new(names)),
            ("mass", Arc::new(masses.iter().copied().collect::<Int64Array>())),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        let mut start = 0;
        for end in cuts.iter().copied().chain([masses.len()]) {
            writer.write(&batch.slice(start, end - start)).unwrap();
            start = end;
        }
        writer.into_inner().unwrap().into()
    }

    #[test]
    fn arrow_tells_row_and_column_however_the_batches_are_cut() {
        let masses: Vec<Option<i64>> = (0..100).map(Some).collect();
        let mut other = masses.clone();
        other[77] = None;
        assert_eq!(of_arrow(table(&masses, &[]), table(&masses, &[10, 10, 64])), None);
        let found = told(of_arrow(table(&masses, &[50]), table(&other, &[7])));
        assert_eq!(found, "row 78, column mass: Some(\"77\") Some(\"∅\")");
        let found = told(of_arrow(table(&masses, &[]), table(&masses[..99], &[])));
        assert_eq!(found, "row 100: Some(\"Adelie, 99\") None");
        assert_eq!(of_arrow(Bytes::from_static(b"ARROW1"), table(&masses, &[])), None);
    }
}
