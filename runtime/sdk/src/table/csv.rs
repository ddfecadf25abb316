//! Reads CSV (RFC 4180) as tables. Infers the types of the columns from their fields.

use std::io::{Read, Seek};
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, NullBuilder, StringBuilder,
    TimestampMicrosecondBuilder, TimestampMillisecondBuilder, TimestampNanosecondBuilder, TimestampSecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};
use csv::{ByteRecord, Position, Reader};

use super::{Table, TableReader};
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

fn boolean(field: &str) -> Option<bool> {
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
fn date(field: &str) -> Option<NaiveDate> {
    match field.as_bytes() {
        [year @ .., b'-', m1, m2, b'-', d1, d2] if year.len() == 4 => {
            NaiveDate::from_ymd_opt(number(year)? as i32, number(&[*m1, *m2])?, number(&[*d1, *d2])?)
        }
        _ => None,
    }
}

/// Parses a time: `2024-05-01T12:30:00` or `2024-05-01 12:30:00.25`, or a date alone.
fn time(field: &str) -> Option<NaiveDateTime> {
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

fn text<'a>(field: &'a [u8], names: &[String], column: usize, position: Option<&Position>) -> Result<&'a str> {
    std::str::from_utf8(field).with_context(|| {
        let line = position.map_or(0, Position::line);
        format!("column `{}` is not UTF-8 text in line {line}", names[column])
    })
}

/// Reads the next row; `false` at the end.
fn next(reader: &mut Reader<impl Read>, record: &mut ByteRecord) -> Result<bool> {
    reader.read_byte_record(record).context("the CSV is malformed")
}

/// Reads the tables in CSV with a header line. Fields equal to one of `nulls` are nulls. Types are inferred from the first `sample`
/// rows, or from all rows; a later field of another type is an error that names the line.
pub(super) fn read(mut source: impl Read + Seek + 'static, nulls: &[&str], sample: Option<usize>) -> Result<TableReader> {
    let nulls: Vec<Vec<u8>> = nulls.iter().map(|null| null.as_bytes().to_vec()).collect();
    let (names, types) =
        infer(&mut source, &nulls, sample.unwrap_or(usize::MAX)).context("not a table: neither Arrow, Parquet nor CSV")?;
    source.rewind()?;
    let fields: Vec<Field> = names
        .iter()
        .zip(&types)
        .map(|(name, of)| Field::new(name, of.data_type(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let mut reader = Reader::from_reader(source);
    let mut record = ByteRecord::new();
    let mut ended = false;
    let mut empty = Some(Table(RecordBatch::new_empty(schema.clone())));
    let mut batch = move || -> Result<Option<Table>> {
        let mut columns: Vec<Values> = types.iter().map(|of| Values::new(*of)).collect();
        let mut rows = 0;
        while rows < BATCH && !ended {
            if !next(&mut reader, &mut record)? {
                ended = true;
                break;
            }
            for (column, (values, field)) in columns.iter_mut().zip(&record).enumerate() {
                if nulls.iter().any(|null| null == field) {
                    values.null();
                    continue;
                }
                let field = text(field, &names, column, record.position())?;
                if values.push(field).is_none() {
                    return Err(surprise(field, &names[column], types[column], record.position()));
                }
            }
            rows += 1;
        }
        let first = empty.take();
        if rows == 0 {
            return Ok(first);
        }
        let arrays = columns.iter_mut().map(Values::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
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

fn surprise(field: &str, column: &str, of: Type, position: Option<&Position>) -> Error {
    Error::msg(format!(
        "line {}, column `{column}`: `{field}` is not {}, as the rows before it are; read the input as `Csv` to choose the types",
        position.map_or(0, Position::line),
        of.data_type()
    ))
}

/// Returns the names of the columns and their types.
fn infer(source: &mut impl Read, nulls: &[Vec<u8>], sample: usize) -> Result<(Vec<String>, Vec<Type>)> {
    let mut reader = Reader::from_reader(source);
    let header = reader.byte_headers().context("the CSV is malformed")?.clone();
    let names = header.iter().map(|name| Ok(std::str::from_utf8(name)?.to_owned()));
    let names: Vec<String> = names.collect::<Result<_>>().context("the header line is not UTF-8 text")?;
    let mut sorted: Vec<_> = names.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("two columns are called `{}`", pair[0]);
    }
    let mut types = vec![Type::Null; names.len()];
    let mut record = ByteRecord::new();
    let mut rows = 0;
    while rows < sample && next(&mut reader, &mut record)? {
        for (column, (of, field)) in types.iter_mut().zip(&record).enumerate() {
            if *of != Type::Text && !nulls.iter().any(|null| null == field) {
                *of = of.join(Type::of(text(field, &names, column, record.position())?));
            }
        }
        rows += 1;
    }
    Ok((names, types))
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
