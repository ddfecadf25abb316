//! The fields of CSV: their types and values.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{ArrayRef, NullArray, PrimitiveArray, StringArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};
use lockstep_csv::{Column, Values, float, integer};

/// The type of a column: all of its fields can be read as this type.
///
/// A field is a number only if the conversion loses nothing: `007`, `+1` and integers beyond 64 bits are text. So are invalid
/// dates, and times with a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
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
    fn of(field: &[u8]) -> Self {
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

    /// Returns whether the type of the field is contained in this type. May be wrong only in that it returns `false`.
    fn holds(self) -> fn(&[u8]) -> bool {
        match self {
            Self::Integer => |field| integer(field).is_some(),
            Self::Float => |field| float(field).is_some(),
            Self::Date => |field| date(field).is_some(),
            _ => |_| false,
        }
    }

    /// Returns the narrowest type that contains this type and all fields of a column that are not nulls.
    pub(super) fn join_column(self, column: &Column<'_>) -> Self {
        let (mut of, mut row) = (self, 0);
        while of != Self::Text
            && let Some(found) = column.first(row, of.holds())
        {
            of = of.join(Self::of(column.field(found)));
            row = found + 1;
        }
        of
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
    pub(super) fn name(self) -> &'static str {
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

    pub(super) fn data_type(self) -> DataType {
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

    /// Returns the array of a column. The error is the row of the first field that does not have this type.
    pub(super) fn array(self, column: &Column<'_>) -> Result<ArrayRef, usize> {
        let utc = |field: &[u8]| Some(time(field)?.and_utc());
        match self {
            Self::Null => match column.first(0, |_| false) {
                Some(row) => Err(row),
                None => Ok(Arc::new(NullArray::new(column.fields().count()))),
            },
            Self::Boolean => {
                let mut values = BooleanBuilder::new();
                for (row, field) in column.fields().enumerate() {
                    values.append_option(field.map(|field| boolean(field).ok_or(row)).transpose()?);
                }
                Ok(Arc::new(values.finish()))
            }
            Self::Integer => column.integers().map(array_of::<Int64Type>),
            Self::Float => column.floats().map(array_of::<Float64Type>),
            Self::Date => primitive::<Date32Type>(column, |field| Some(date(field)?.to_epoch_days())),
            Self::Time(TimeUnit::Second) => primitive::<TimestampSecondType>(column, |field| Some(utc(field)?.timestamp())),
            Self::Time(TimeUnit::Millisecond) => {
                primitive::<TimestampMillisecondType>(column, |field| Some(utc(field)?.timestamp_millis()))
            }
            Self::Time(TimeUnit::Microsecond) => {
                primitive::<TimestampMicrosecondType>(column, |field| Some(utc(field)?.timestamp_micros()))
            }
            Self::Time(TimeUnit::Nanosecond) => {
                primitive::<TimestampNanosecondType>(column, |field| utc(field)?.timestamp_nanos_opt())
            }
            Self::Text => {
                let texts = column.texts();
                // validates all texts at once
                let array = StringArray::try_new(
                    OffsetBuffer::new(texts.offsets.into()),
                    texts.bytes.into(),
                    nulls(&texts.is_null),
                );
                match array {
                    Ok(array) => Ok(Arc::new(array)),
                    Err(_) => Err(column
                        .first(0, |field| std::str::from_utf8(field).is_ok())
                        .unwrap_or_default()),
                }
            }
        }
    }
}

fn array_of<T: ArrowPrimitiveType>(values: Values<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.values.into(), nulls(&values.is_null)))
}

fn nulls(is_null: &[bool]) -> Option<NullBuffer> {
    (!is_null.is_empty()).then(|| is_null.iter().map(|is_null| !is_null).collect())
}

fn primitive<T: ArrowPrimitiveType>(
    column: &Column<'_>,
    parse: impl Fn(&[u8]) -> Option<T::Native>,
) -> Result<ArrayRef, usize> {
    let mut values = PrimitiveBuilder::<T>::new();
    for (row, field) in column.fields().enumerate() {
        values.append_option(field.map(|field| parse(field).ok_or(row)).transpose()?);
    }
    Ok(Arc::new(values.finish()))
}

pub(in super::super) fn boolean(field: &[u8]) -> Option<bool> {
    match field {
        _ if field.eq_ignore_ascii_case(b"true") => Some(true),
        _ if field.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// Parses digits of a fixed width.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
    })
}

/// Parses a date: `2024-05-01`.
pub(in super::super) fn date(field: &[u8]) -> Option<NaiveDate> {
    match field {
        [year @ .., b'-', m1, m2, b'-', d1, d2] if year.len() == 4 => {
            NaiveDate::from_ymd_opt(number(year)? as i32, number(&[*m1, *m2])?, number(&[*d1, *d2])?)
        }
        _ => None,
    }
}

/// Parses a time: `2024-05-01T12:30:00` or `2024-05-01 12:30:00.25`, or a date alone.
pub(in super::super) fn time(field: &[u8]) -> Option<NaiveDateTime> {
    let (day, rest) = field.split_at_checked(10)?;
    let day = date(day)?;
    let (clock, fraction) = fraction(rest);
    match clock {
        [] if rest.is_empty() => day.and_hms_opt(0, 0, 0),
        [b'T' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] if (1..=9).contains(&fraction.len()) => {
            let nanoseconds = number(fraction)? * 10_u32.pow(9 - fraction.len() as u32);
            day.and_hms_nano_opt(number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?, nanoseconds)
        }
        _ => None,
    }
}

/// Splits a time at its point. Without one, the fraction is `0`.
fn fraction(time: &[u8]) -> (&[u8], &[u8]) {
    match time.iter().position(|byte| *byte == b'.') {
        Some(point) => (&time[..point], &time[point + 1..]),
        None => (time, b"0"),
    }
}

/// Returns the unit of a time's precision, if the time can be represented in it.
fn unit(field: &[u8]) -> Option<TimeUnit> {
    let unit = match field
        .iter()
        .position(|byte| *byte == b'.')
        .map_or(0, |point| field.len() - point - 1)
    {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    };
    let time = time(field)?.and_utc();
    (unit != TimeUnit::Nanosecond || time.timestamp_nanos_opt().is_some()).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_number_only_if_the_number_says_all_of_it() {
        let types = |fields: &[&str]| fields.iter().map(|field| Type::of(field.as_bytes())).collect::<Vec<_>>();
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
        assert_eq!(Type::of(b"2024-05-01"), Type::Date);
        let of = |field: &str| Type::of(field.as_bytes());
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
