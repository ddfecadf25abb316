//! Reads CSV (RFC 4180) as tables. Infers the types of the columns from their fields.

mod field;

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use lockstep_csv::{Column, Records};

use self::field::Type;
pub(super) use self::field::{boolean, date, time};
use super::{Table, TableReader};
use crate::artifact::is_utf16;
use crate::{Context, Error, Result, bail};

/// Number of rows per table.
const BATCH: usize = 8192;

/// How CSV is read: the separator, the fields that are nulls, and the types of columns.
///
/// Without these, the separator is a comma, empty fields and `NA` are nulls, and each column has the narrowest type that holds all its
/// fields without a loss: `007`, `+1` and integers beyond 64 bits are text.
///
/// ```
/// use lockstep::prelude::*;
/// use lockstep::{CsvOptions, ColumnType};
///
/// let csv = Csv::from("zip;price\n1010;3,5\n-;4,0\n");
/// let options = CsvOptions::default().separator(b';').nulls(["-"]).column("zip", ColumnType::Text);
/// assert_eq!(csv.table_with(&options)?.str("zip")?.value(0), "1010");
/// # Ok::<(), lockstep::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CsvOptions {
    separator: u8,
    nulls: Vec<Vec<u8>>,
    types: BTreeMap<String, ColumnType>,
    /// The types of columns that may be missing.
    expected: BTreeMap<String, ColumnType>,
    /// The number of rows from which types are inferred.
    sample: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            separator: b',',
            nulls: Vec::new(),
            types: BTreeMap::new(),
            expected: BTreeMap::new(),
            sample: usize::MAX,
        }
        .nulls(["", "NA"])
    }
}

impl CsvOptions {
    /// Fields are separated by this byte, such as `b';'` or `b'\t'`.
    pub fn separator(mut self, separator: u8) -> Self {
        self.separator = separator;
        self
    }

    /// Fields equal to one of these are nulls.
    pub fn nulls<N: AsRef<str>>(mut self, nulls: impl IntoIterator<Item = N>) -> Self {
        self.nulls = nulls.into_iter().map(|null| null.as_ref().as_bytes().to_vec()).collect();
        self
    }

    /// The column `name` has this type. A field that it can't hold is an error.
    pub fn column(mut self, name: &str, of: ColumnType) -> Self {
        self.types.insert(name.to_owned(), of);
        self
    }

    /// Like [`column`](Self::column), for a column that may be missing.
    pub(super) fn expect(mut self, name: &str, of: ColumnType) -> Self {
        self.expected.insert(name.to_owned(), of);
        self
    }

    fn type_of(&self, column: &str) -> Option<ColumnType> {
        self.types.get(column).or_else(|| self.expected.get(column)).copied()
    }

    /// Types are inferred from this number of rows, and not from all. A later field of another type is an error.
    pub fn sample(mut self, rows: usize) -> Self {
        self.sample = rows;
        self
    }
}

/// The type of a column, for CSV and [`Table::cast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnType {
    /// `true` or `false`, in any case.
    Boolean,
    /// An integer of 64 bits.
    Integer,
    /// A double.
    Float,
    /// A date: `2024-05-01`.
    Date,
    /// A time without a zone: `2024-05-01T12:30:00.25`. The column has the unit that its first field needs, at least microseconds.
    Time,
    /// Text.
    Text,
}

impl ColumnType {
    const ALL: [(&str, Self); 6] = [
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("float", Self::Float),
        ("date", Self::Date),
        ("time", Self::Time),
        ("text", Self::Text),
    ];

    pub(super) fn data_type(self) -> DataType {
        self.inner().data_type()
    }

    fn inner(self) -> Type {
        match self {
            Self::Boolean => Type::Boolean,
            Self::Integer => Type::Integer,
            Self::Float => Type::Float,
            Self::Date => Type::Date,
            Self::Time => Type::Time(TimeUnit::Microsecond),
            Self::Text => Type::Text,
        }
    }
}

impl FromStr for ColumnType {
    type Err = Error;

    /// Parses `boolean`, `integer`, `float`, `date`, `time` or `text`.
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        found
            .map(|(_, of)| *of)
            .with_context(|| format!("`{text}` is not a type; the types are {}", names()))
    }
}

/// What to do about text in another encoding.
const ENCODING: &str = "convert the file, for example with `iconv -f LATIN1 -t UTF-8`";

/// The rows of CSV with a header line.
struct Rows<'s> {
    records: Records<'s>,
    names: Vec<String>,
}

impl<'s> Rows<'s> {
    /// Reads the header.
    fn open(source: impl Read + Seek + 's, separator: u8) -> Result<Self> {
        let mut records = Records::new(source, separator)?;
        let start = &records.bytes()[..records.bytes().len().min(4)];
        if is_utf16(start) || start.contains(&0) {
            bail!("it is not UTF-8 text: convert it, for example with `iconv -f UTF-16 -t UTF-8`");
        }
        let columns = records.header()?;
        if columns == 0 {
            bail!("there is no header line with the names of the columns");
        }
        let name = |column: usize| {
            let name = records.column(column, columns, &[]).field(0);
            String::from_utf8(name.to_vec())
                .ok()
                .with_context(|| format!("the name of column {} is not UTF-8 text: {ENCODING}", column + 1))
        };
        let names: Vec<String> = (0..columns).map(name).collect::<Result<_>>()?;
        super::check_names(names.iter().map(String::as_str))?;
        Ok(Self { records, names })
    }

    /// Reads at most `most` rows. Returns their number, 0 at the end.
    fn next(&mut self, most: usize) -> Result<usize> {
        self.records.batch(Some(self.names.len()), most)
    }

    fn column<'a>(&'a self, column: usize, options: &'a CsvOptions) -> Column<'a> {
        self.records.column(column, self.names.len(), &options.nulls)
    }

    /// Returns the error about a field that does not have the type of its column.
    fn surprise(&mut self, row: usize, column: usize, of: Type, options: &CsvOptions) -> Result<Error> {
        let line = self.records.line_of(row)?;
        let (field, name, of) = (self.column(column, options).field(row), &self.names[column], of.name());
        let Ok(field) = std::str::from_utf8(field) else {
            return Ok(Error::msg(format!(
                "line {line}, column `{name}`: not UTF-8 text: {ENCODING}"
            )));
        };
        Ok(Error::msg(match options.type_of(name).is_some() {
            true => format!("line {line}, column `{name}`: `{field}` is not {of}"),
            false => format!(
                "line {line}, column `{name}`: `{field}` is not {of}, as the rows before it are; read the input as `Csv` and give the column a \
                 type with CsvOptions::column"
            ),
        }))
    }
}

/// The tables in CSV.
struct Tables<'s> {
    rows: Rows<'s>,
    types: Vec<Type>,
    schema: SchemaRef,
    options: CsvOptions,
    /// Whether a table was read.
    has_begun: bool,
    has_failed: bool,
}

impl<'s> Tables<'s> {
    fn open(mut source: impl Read + Seek + 's, options: CsvOptions) -> Result<Self> {
        let (names, types) = infer(&mut source, &options).context("not a table: neither Arrow, Parquet nor CSV")?;
        if let Some(unknown) = options.types.keys().find(|name| !names.contains(name)) {
            bail!("there is no column `{unknown}`; the columns are {}", names.join(", "));
        }
        let fields = names.iter().zip(&types);
        let fields: Vec<Field> = fields.map(|(name, of)| Field::new(name, of.data_type(), true)).collect();
        Ok(Self {
            rows: Rows::open(source, options.separator)?,
            types,
            schema: Arc::new(Schema::new(fields)),
            options,
            has_begun: false,
            has_failed: false,
        })
    }

    fn table(&mut self) -> Result<Option<Table>> {
        let count = self.rows.next(BATCH)?;
        if count == 0 && self.has_begun {
            return Ok(None);
        }
        let mut arrays = Vec::new();
        // row and column of the first field that does not have its type
        let mut wrong: Option<(usize, usize)> = None;
        for (column, of) in self.types.iter().enumerate() {
            match of.array(&self.rows.column(column, &self.options)) {
                Ok(array) => arrays.push(array),
                Err(row) => wrong = Some(wrong.map_or((row, column), |wrong| wrong.min((row, column)))),
            }
        }
        if let Some((row, column)) = wrong {
            return Err(self.rows.surprise(row, column, self.types[column], &self.options)?);
        }
        self.has_begun = true;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        Ok(Some(Table(batch)))
    }
}

impl Iterator for Tables<'_> {
    type Item = Result<Table>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.table().transpose();
        self.has_failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Reads the tables in CSV with a header line. A field that does not have the type of its column is an error that names the line.
pub(super) fn read(source: impl Read + Seek + 'static, options: CsvOptions) -> Result<TableReader> {
    Ok(TableReader::new(Tables::open(source, options)?))
}

/// Reads CSV with a header line as one table.
pub(super) fn read_all(source: impl Read + Seek, options: CsvOptions) -> Result<Table> {
    Table::concat(&Tables::open(source, options)?.collect::<Result<Vec<_>>>()?)
}

/// Returns the names of the columns and their types.
fn infer(source: &mut (impl Read + Seek), options: &CsvOptions) -> Result<(Vec<String>, Vec<Type>)> {
    let mut rows = Rows::open(source, options.separator)?;
    let given = |name: &String| options.type_of(name).map(ColumnType::inner);
    let given: Vec<Option<Type>> = rows.names.iter().map(given).collect();
    let mut types: Vec<Type> = given.iter().map(|of| of.unwrap_or(Type::Null)).collect();
    let mut left = options.sample;
    loop {
        let count = rows.next(left.min(BATCH))?;
        if count == 0 {
            return Ok((rows.names, types));
        }
        for (column, of) in types.iter_mut().enumerate() {
            if given[column].is_none() {
                *of = of.join_column(&rows.column(column, options));
            }
        }
        left -= count;
    }
}
