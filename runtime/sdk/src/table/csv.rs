//! Reads CSV (RFC 4180) as tables. Infers the types of the columns from their fields.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, SeekFrom};
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, NullBuilder, StringBuilder,
    TimestampMicrosecondBuilder, TimestampMillisecondBuilder, TimestampNanosecondBuilder, TimestampSecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};
use csv::{ByteRecord, Position, Reader, ReaderBuilder};

use super::{Table, TableReader};
use crate::artifact::is_utf16;
use crate::{Context, Error, Result, bail};

/// Number of rows per table.
const BATCH: usize = 8192;

/// The type of a column: all of its fields can be read as this type.
///
/// A field is a number only if the conversion loses nothing: `007`, `+1` and integers beyond 64 bits are text. So are invalid
/// dates, and times with a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Type {
    /// Only nulls.
    Null,
    Boolean,
    Integer,
    Float,
    Date,
    Time(TimeUnit),
    Text,
}

impl Type {
    fn of(field: &str) -> Self {
        if boolean(field).is_some() {
            Self::Boolean
        } else if integer(field).is_some() {
            Self::Integer
        } else if float(field).is_some() {
            Self::Float
        } else if date(field).is_some() {
            Self::Date
        } else if let Some(unit) = unit(field) {
            Self::Time(unit)
        } else {
            Self::Text
        }
    }

    /// Returns the narrowest type that contains both.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Null, of) | (of, Self::Null) => of,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            (Self::Date, Self::Time(unit)) | (Self::Time(unit), Self::Date) => Self::Time(unit),
            (Self::Time(a), Self::Time(b)) => Self::Time(a.max(b)),
            _ => Self::Text,
        }
    }

    /// Returns the name, with an article.
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Float => "a float",
            Self::Date => "a date",
            Self::Time(_) => "a time",
            Self::Text => "text",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time(unit) => DataType::Timestamp(unit, None),
            Self::Text => DataType::Utf8,
        }
    }
}

pub(super) fn boolean(field: &str) -> Option<bool> {
    match field {
        _ if field.eq_ignore_ascii_case("true") => Some(true),
        _ if field.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn integer(field: &str) -> Option<i64> {
    let digits = field.strip_prefix('-').unwrap_or(field).as_bytes();
    let canonical = match digits {
        [b'0'] => field.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    canonical.then(|| field.parse().ok()).flatten()
}

fn float(field: &str) -> Option<f64> {
    if matches!(field, "NaN" | "nan" | "inf" | "-inf") {
        return field.parse().ok();
    }
    let number = field.strip_prefix('-').unwrap_or(field);
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (number, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = |text: &str| !text.is_empty() && are_digits(text);
    let is_number = are_digits(whole)
        && (!whole.starts_with('0') || whole == "0")
        && fraction.is_none_or(are_digits)
        && (!whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty()))
        && exponent.is_none_or(|exponent| plain(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
        // an integer is a float only if it is `-0`, or in a column with floats if it is within 64 bits
        && (fraction.is_some() || exponent.is_some() || field == "-0" || integer(field).is_some());
    is_number.then(|| field.parse().ok()).flatten()
}

/// Parses digits of a fixed width.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
    })
}

/// Parses a date: `2024-05-01`.
pub(super) fn date(field: &str) -> Option<NaiveDate> {
    match field.as_bytes() {
        [year @ .., b'-', m1, m2, b'-', d1, d2] if year.len() == 4 => {
            NaiveDate::from_ymd_opt(number(year)? as i32, number(&[*m1, *m2])?, number(&[*d1, *d2])?)
        }
        _ => None,
    }
}

/// Parses a time: `2024-05-01T12:30:00` or `2024-05-01 12:30:00.25`, or a date alone.
pub(super) fn time(field: &str) -> Option<NaiveDateTime> {
    let (day, rest) = field.split_at_checked(10)?;
    let day = date(day)?;
    let (clock, fraction) = match rest.split_once('.') {
        Some((clock, fraction)) => (clock, fraction),
        None => (rest, "0"),
    };
    match clock.as_bytes() {
        [] if rest.is_empty() => day.and_hms_opt(0, 0, 0),
        [b'T' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] if (1..=9).contains(&fraction.len()) => {
            let nanoseconds = number(fraction.as_bytes())? * 10_u32.pow(9 - fraction.len() as u32);
            day.and_hms_nano_opt(number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?, nanoseconds)
        }
        _ => None,
    }
}

/// Returns the unit of a time's precision, if the time can be represented in it.
fn unit(field: &str) -> Option<TimeUnit> {
    let unit = match field.split_once('.').map_or(0, |(_, fraction)| fraction.len()) {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    };
    let time = time(field)?.and_utc();
    (unit != TimeUnit::Nanosecond || time.timestamp_nanos_opt().is_some()).then_some(unit)
}

/// The values of a column while it is read.
enum Values {
    Null(NullBuilder),
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Date(Date32Builder),
    Second(TimestampSecondBuilder),
    Millisecond(TimestampMillisecondBuilder),
    Microsecond(TimestampMicrosecondBuilder),
    Nanosecond(TimestampNanosecondBuilder),
    Text(StringBuilder),
}

impl Values {
    fn new(of: Type) -> Self {
        match of {
            Type::Null => Self::Null(NullBuilder::new()),
            Type::Boolean => Self::Boolean(BooleanBuilder::new()),
            Type::Integer => Self::Integer(Int64Builder::new()),
            Type::Float => Self::Float(Float64Builder::new()),
            Type::Date => Self::Date(Date32Builder::new()),
            Type::Time(TimeUnit::Second) => Self::Second(TimestampSecondBuilder::new()),
            Type::Time(TimeUnit::Millisecond) => Self::Millisecond(TimestampMillisecondBuilder::new()),
            Type::Time(TimeUnit::Microsecond) => Self::Microsecond(TimestampMicrosecondBuilder::new()),
            Type::Time(TimeUnit::Nanosecond) => Self::Nanosecond(TimestampNanosecondBuilder::new()),
            Type::Text => Self::Text(StringBuilder::new()),
        }
    }

    fn null(&mut self) {
        match self {
            Self::Null(values) => values.append_null(),
            Self::Boolean(values) => values.append_null(),
            Self::Integer(values) => values.append_null(),
            Self::Float(values) => values.append_null(),
            Self::Date(values) => values.append_null(),
            Self::Second(values) => values.append_null(),
            Self::Millisecond(values) => values.append_null(),
            Self::Microsecond(values) => values.append_null(),
            Self::Nanosecond(values) => values.append_null(),
            Self::Text(values) => values.append_null(),
        }
    }

    /// Appends the value of a field; `None` if the field does not have this type.
    fn push(&mut self, field: &str) -> Option<()> {
        let utc = |field: &str| Some(time(field)?.and_utc());
        match self {
            Self::Null(_) => return None,
            Self::Boolean(values) => values.append_value(boolean(field)?),
            Self::Integer(values) => values.append_value(integer(field)?),
            Self::Float(values) => values.append_value(float(field)?),
            Self::Date(values) => values.append_value(date(field)?.to_epoch_days()),
            Self::Second(values) => values.append_value(utc(field)?.timestamp()),
            Self::Millisecond(values) => values.append_value(utc(field)?.timestamp_millis()),
            Self::Microsecond(values) => values.append_value(utc(field)?.timestamp_micros()),
            Self::Nanosecond(values) => values.append_value(utc(field)?.timestamp_nanos_opt()?),
            Self::Text(values) => values.append_value(field),
        }
        Some(())
    }

    fn finish(&mut self) -> ArrayRef {
        let values: &mut dyn ArrayBuilder = match self {
            Self::Null(values) => values,
            Self::Boolean(values) => values,
            Self::Integer(values) => values,
            Self::Float(values) => values,
            Self::Date(values) => values,
            Self::Second(values) => values,
            Self::Millisecond(values) => values,
            Self::Microsecond(values) => values,
            Self::Nanosecond(values) => values,
            Self::Text(values) => values,
        };
        values.finish()
    }
}

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

    fn is_null(&self, field: &[u8]) -> bool {
        self.nulls.iter().any(|null| null == field)
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

/// The source of CSV. In a table of one column, a blank line is a null: it becomes an empty quoted field, because the reader skips it.
struct Source<R> {
    source: R,
    /// Where the source is in its line, if there is one column.
    one_column: Option<Place>,
    /// The line that is being read, counted from 1.
    line: u64,
    /// Bytes to return next.
    ready: VecDeque<u8>,
}

/// A place in a line of one field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    /// After a carriage return.
    Returned,
    Plain,
    /// In a field whose quote is in this line.
    Quoted(u64),
    /// After a quote in a quoted field.
    Closing(u64),
}

impl<R: Read> Source<R> {
    fn fill(&mut self, mut place: Place) -> std::io::Result<Place> {
        let mut piece = [0; 16 * 1024];
        let count = self.source.read(&mut piece)?;
        for byte in &piece[..count] {
            if *byte == b'\n' {
                self.line += 1;
            }
            let is_blank = place == Place::Start && matches!(byte, b'\r' | b'\n') || place == Place::Returned && *byte == b'\r';
            if is_blank {
                self.ready.extend(b"\"\"");
            }
            self.ready.push_back(*byte);
            place = match (place, byte) {
                (Place::Quoted(line), b'"') => Place::Closing(line),
                (Place::Quoted(line), _) | (Place::Closing(line), b'"') => Place::Quoted(line),
                (Place::Start | Place::Returned, b'"') => Place::Quoted(self.line),
                (_, b'\n') => Place::Start,
                (_, b'\r') => Place::Returned,
                _ => Place::Plain,
            };
        }
        Ok(place)
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(place) = self.one_column else {
            return self.source.read(buffer);
        };
        if self.ready.is_empty() {
            self.one_column = Some(self.fill(place)?);
        }
        self.ready.read(buffer)
    }
}

/// The rows of CSV with a header line.
struct Rows<R> {
    reader: Reader<Source<R>>,
    names: Vec<String>,
    record: ByteRecord,
    separator: u8,
    /// The position of the last record.
    last: Position,
}

impl<R: Read + Seek> Rows<R> {
    /// Reads the header.
    fn open(mut source: R, separator: u8) -> Result<Self> {
        let mut start = Vec::new();
        source.rewind()?;
        source.by_ref().take(4).read_to_end(&mut start)?;
        if is_utf16(&start) || start.contains(&0) {
            bail!("it is not UTF-8 text: convert it, for example with `iconv -f UTF-16 -t UTF-8`");
        }
        source.rewind()?;
        let source = Source {
            source,
            one_column: None,
            line: 1,
            ready: VecDeque::new(),
        };
        let mut reader = ReaderBuilder::new().delimiter(separator).from_reader(source);
        let header = reader.byte_headers().map_err(malformed)?.clone();
        if header.is_empty() {
            bail!("there is no header line with the names of the columns");
        }
        let name = |(column, name): (usize, &[u8])| {
            let name = std::str::from_utf8(name).ok().map(str::to_owned);
            name.with_context(|| format!("the name of column {} is not UTF-8 text: {ENCODING}", column + 1))
        };
        let names: Vec<String> = header.iter().enumerate().map(name).collect::<Result<_>>()?;
        super::check_names(names.iter().map(String::as_str))?;
        if names.len() == 1 {
            let mut source = reader.into_inner();
            source.source.rewind()?;
            source.one_column = Some(Place::Plain);
            reader = ReaderBuilder::new().delimiter(separator).from_reader(source);
            reader.byte_headers().map_err(malformed)?;
        }
        Ok(Self {
            reader,
            names,
            record: ByteRecord::new(),
            separator,
            last: Position::new(),
        })
    }

    /// Reads the next row; `false` at the end.
    fn next(&mut self) -> Result<bool> {
        if self.reader.read_byte_record(&mut self.record).map_err(malformed)? {
            if let Some(position) = self.record.position() {
                self.last = position.clone();
            }
            return Ok(true);
        }
        match self.unclosed()? {
            Some(line) => bail!("line {line}: the field that starts with `\"` has no closing `\"`"),
            None => Ok(false),
        }
    }

    /// Returns the line of a quote that is not closed at the end.
    fn unclosed(&mut self) -> Result<Option<u64>> {
        let source = self.reader.get_mut();
        if let Some(place) = source.one_column {
            return Ok(match place {
                Place::Quoted(line) => Some(line),
                _ => None,
            });
        }
        let mut record = Vec::new();
        source.source.seek(SeekFrom::Start(self.last.byte()))?;
        source.source.read_to_end(&mut record)?;
        let (mut line, mut opened, mut at_start, mut is_closing) = (self.last.line(), None, true, false);
        for byte in record {
            match (opened, byte) {
                (Some(_), b'"') => is_closing = !is_closing,
                (Some(_), _) if !is_closing => {}
                (None, b'"') if at_start => opened = Some(line),
                _ => (opened, is_closing, at_start) = (None, false, byte == self.separator || byte == b'\n' || byte == b'\r'),
            }
            line += u64::from(byte == b'\n');
        }
        Ok(opened.filter(|_| !is_closing))
    }

    /// Returns the field of a column as text.
    fn text(&self, column: usize) -> Result<&str> {
        std::str::from_utf8(&self.record[column]).ok().with_context(|| {
            let line = self.line();
            format!("line {line}, column `{}`: not UTF-8 text: {ENCODING}", self.names[column])
        })
    }

    fn line(&self) -> u64 {
        self.record.position().map_or(0, Position::line)
    }
}

/// What to do about text in another encoding.
const ENCODING: &str = "convert the file, for example with `iconv -f LATIN1 -t UTF-8`";

fn malformed(error: csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => Error::msg(format!(
            "line {} has {len} {}, but the header has {expected_len}",
            pos.as_ref().map_or(0, Position::line),
            if *len == 1 { "field" } else { "fields" },
        )),
        _ => Error::from(error).context("the CSV can't be read"),
    }
}

/// Reads the tables in CSV with a header line. A field that does not have the type of its column is an error that names the line.
pub(super) fn read(mut source: impl Read + Seek + 'static, options: CsvOptions) -> Result<TableReader> {
    let (names, types) = infer(&mut source, &options).context("not a table: neither Arrow, Parquet nor CSV")?;
    if let Some(unknown) = options.types.keys().find(|name| !names.contains(name)) {
        bail!("there is no column `{unknown}`; the columns are {}", names.join(", "));
    }
    let fields: Vec<Field> = names
        .iter()
        .zip(&types)
        .map(|(name, of)| Field::new(name, of.data_type(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let mut rows = Rows::open(source, options.separator)?;
    let mut ended = false;
    let mut empty = Some(Table(RecordBatch::new_empty(schema.clone())));
    let mut batch = move || -> Result<Option<Table>> {
        let mut columns: Vec<Values> = types.iter().map(|of| Values::new(*of)).collect();
        let mut count = 0;
        while count < BATCH && !ended {
            if !rows.next()? {
                ended = true;
                break;
            }
            for (column, values) in columns.iter_mut().enumerate() {
                if options.is_null(&rows.record[column]) {
                    values.null();
                    continue;
                }
                let field = rows.text(column)?;
                if values.push(field).is_none() {
                    return Err(surprise(field, &names[column], types[column], rows.line(), &options));
                }
            }
            count += 1;
        }
        let first = empty.take();
        if count == 0 {
            return Ok(first);
        }
        let arrays = columns.iter_mut().map(Values::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(Some(Table(RecordBatch::try_new_with_options(
            schema.clone(),
            arrays,
            &options,
        )?)))
    };
    let mut failed = false;
    Ok(TableReader::new(std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let next = batch().transpose();
        failed = matches!(next, Some(Err(_)));
        next
    })))
}

fn surprise(field: &str, column: &str, of: Type, line: u64, options: &CsvOptions) -> Error {
    let of = of.name();
    Error::msg(match options.type_of(column).is_some() {
        true => format!("line {line}, column `{column}`: `{field}` is not {of}"),
        false => format!(
            "line {line}, column `{column}`: `{field}` is not {of}, as the rows before it are; read the input as `Csv` and give the column \
             a type with CsvOptions::column"
        ),
    })
}

/// Returns the names of the columns and their types.
fn infer(source: &mut (impl Read + Seek), options: &CsvOptions) -> Result<(Vec<String>, Vec<Type>)> {
    let mut rows = Rows::open(source, options.separator)?;
    let given = |name: &String| options.type_of(name).map(ColumnType::inner);
    let given: Vec<Option<Type>> = rows.names.iter().map(given).collect();
    let mut types: Vec<Type> = given.iter().map(|of| of.unwrap_or(Type::Null)).collect();
    let mut count = 0;
    while count < options.sample && rows.next()? {
        for (column, of) in types.iter_mut().enumerate() {
            if given[column].is_none() && *of != Type::Text && !options.is_null(&rows.record[column]) {
                *of = of.join(Type::of(rows.text(column)?));
            }
        }
        count += 1;
    }
    Ok((rows.names, types))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_number_only_if_the_number_says_all_of_it() {
        let types = |fields: &[&str]| fields.iter().map(|field| Type::of(field)).collect::<Vec<_>>();
        assert_eq!(types(&["0", "-7", "9223372036854775807"]), [Type::Integer; 3]);
        assert_eq!(
            types(&["1.5", ".5", "5.", "-0", "1e5", "2.5E-3", "NaN", "-inf"]),
            [Type::Float; 8]
        );
        assert_eq!(types(&["True", "false"]), [Type::Boolean; 2]);
        let texts = [
            "007",
            "+1",
            "00.5",
            "9223372036854775808",
            "1_000",
            ".",
            "-",
            "1e",
            "e5",
            "0x10",
            " 1",
            "2024-02-30",
            "2024-01-01T25:00:00",
            "2024-01-01T10:00:00Z",
            "2024-01-01T10:00:00+02:00",
        ];
        assert_eq!(types(&texts), [Type::Text; 15]);
    }

    #[test]
    fn times_have_the_unit_that_they_are_written_in() {
        assert_eq!(Type::of("2024-05-01"), Type::Date);
        let of = |field| Type::of(field);
        assert_eq!(of("2024-05-01T12:30:00"), Type::Time(TimeUnit::Second));
        assert_eq!(of("2024-05-01 12:30:00.25"), Type::Time(TimeUnit::Millisecond));
        assert_eq!(of("2024-05-01T12:30:00.123456"), Type::Time(TimeUnit::Microsecond));
        assert_eq!(of("2024-05-01T12:30:00.123456789"), Type::Time(TimeUnit::Nanosecond));
        assert_eq!(of("9999-05-01T12:30:00.123456789"), Type::Text);
        let joined = of("2024-05-01").join(of("2024-05-01T12:30:00.25"));
        assert_eq!(joined, Type::Time(TimeUnit::Millisecond));
        assert_eq!(joined.join(Type::Integer), Type::Text);
        assert_eq!(Type::Null.join(Type::Integer).join(Type::Float), Type::Float);
    }
}
