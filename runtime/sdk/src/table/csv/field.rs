//! The fields of CSV: their types and values.

use std::str::FromStr;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{ArrayRef, NullArray, StringArray};
use arrow_schema::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};

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
    fn holds(self, field: &[u8]) -> bool {
        match self {
            Self::Integer => integer(field).is_some(),
            Self::Float => float(field).is_some(),
            Self::Date => date(field).is_some(),
            Self::Text => true,
            _ => false,
        }
    }

    /// Returns the narrowest type that contains this type and all of the fields.
    pub(super) fn join_all<'a>(self, mut fields: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut of = self;
        while of != Self::Text
            && let Some(field) = fields.find(|field| !of.holds(field))
        {
            of = of.join(Self::of(field));
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

    /// Returns the array of the fields; `None` is a null. The error is the number of the first field that does not have this type.
    pub(super) fn array<'a>(self, fields: impl Iterator<Item = Option<&'a [u8]>> + Clone) -> Result<ArrayRef, usize> {
        let utc = |field: &[u8]| Some(time(field)?.and_utc());
        match self {
            Self::Null => match fields.clone().position(|field| field.is_some()) {
                Some(row) => Err(row),
                None => Ok(Arc::new(NullArray::new(fields.count()))),
            },
            Self::Boolean => {
                let mut values = BooleanBuilder::new();
                for (row, field) in fields.enumerate() {
                    values.append_option(field.map(|field| boolean(field).ok_or(row)).transpose()?);
                }
                Ok(Arc::new(values.finish()))
            }
            Self::Integer => primitive::<Int64Type>(fields, integer),
            Self::Float => primitive::<Float64Type>(fields, float),
            Self::Date => primitive::<Date32Type>(fields, |field| Some(date(field)?.to_epoch_days())),
            Self::Time(TimeUnit::Second) => primitive::<TimestampSecondType>(fields, |field| Some(utc(field)?.timestamp())),
            Self::Time(TimeUnit::Millisecond) => {
                primitive::<TimestampMillisecondType>(fields, |field| Some(utc(field)?.timestamp_millis()))
            }
            Self::Time(TimeUnit::Microsecond) => {
                primitive::<TimestampMicrosecondType>(fields, |field| Some(utc(field)?.timestamp_micros()))
            }
            Self::Time(TimeUnit::Nanosecond) => {
                primitive::<TimestampNanosecondType>(fields, |field| utc(field)?.timestamp_nanos_opt())
            }
            Self::Text => {
                let mut values = BinaryBuilder::new();
                fields.clone().for_each(|field| values.append_option(field));
                // validates all texts at once
                match StringArray::try_from_binary(values.finish()) {
                    Ok(values) => Ok(Arc::new(values)),
                    Err(_) => Err(fields
                        .clone()
                        .position(|field| field.is_some_and(|field| std::str::from_utf8(field).is_err()))
                        .unwrap_or_default()),
                }
            }
        }
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(
    fields: impl Iterator<Item = Option<&'a [u8]>>,
    parse: impl Fn(&[u8]) -> Option<T::Native>,
) -> Result<ArrayRef, usize> {
    let mut values = PrimitiveBuilder::<T>::new();
    for (row, field) in fields.enumerate() {
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

fn parse<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn integer(field: &[u8]) -> Option<i64> {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    match digits {
        [b'0'] => return (field.len() == 1).then_some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    if digits.len() > 18 {
        return parse(field);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some(if digits.len() < field.len() { -number } else { number })
}

fn float(field: &[u8]) -> Option<f64> {
    let number = field.strip_prefix(b"-").unwrap_or(field);
    let is_negative = number.len() < field.len();
    let whole = digits(number);
    let (mut mantissa, mut rest) = (whole.iter().fold(0, push), &number[whole.len()..]);
    let mut fraction = None;
    if let Some(after) = rest.strip_prefix(b".") {
        let digits = digits(after);
        mantissa = digits.iter().fold(mantissa, push);
        rest = &after[digits.len()..];
        fraction = Some(digits.len());
    }
    let count = whole.len() + fraction.unwrap_or_default();
    if count == 0 {
        return matches!(field, b"NaN" | b"nan" | b"inf" | b"-inf")
            .then(|| parse(field))
            .flatten();
    }
    if matches!(whole, [b'0', _, ..]) {
        return None;
    }
    match rest {
        // an integer is a float only if it is `-0`, or in a column with floats if it is within 64 bits
        [] if fraction.is_none() && field != b"-0" && integer(field).is_none() => None,
        // both are doubles without a loss, and so is the quotient as near as a double can be
        [] if count <= 15 => {
            let value = mantissa as f64 / POWERS[fraction.unwrap_or_default()];
            Some(if is_negative { -value } else { value })
        }
        [] => parse(field),
        [b'e' | b'E', exponent @ ..] => {
            let digits = exponent
                .strip_prefix(b"+")
                .or(exponent.strip_prefix(b"-"))
                .unwrap_or(exponent);
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            is_number.then(|| parse(field)).flatten()
        }
        _ => None,
    }
}

/// The powers of ten with 0 to 15 zeros.
const POWERS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Returns the digits at the start of a text.
fn digits(text: &[u8]) -> &[u8] {
    let count = text.iter().position(|byte| !byte.is_ascii_digit());
    &text[..count.unwrap_or(text.len())]
}

/// Appends a digit to a number that has less than 19.
fn push(number: u64, digit: &u8) -> u64 {
    number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn numbers_are_those_of_std(field in "-?[0-9]{0,21}(\\.[0-9]{0,21})?([eE][+-]?[0-9]{0,3})?") {
            let bytes = field.as_bytes();
            if let Some(number) = integer(bytes) {
                prop_assert_eq!(number.to_string(), field.clone());
            }
            if let Some(number) = float(bytes) {
                prop_assert_eq!(number.to_bits(), field.parse::<f64>().unwrap().to_bits());
            }
            let is_long = field.parse::<i64>().is_err();
            let has_zeros = field.trim_start_matches('-').starts_with('0') && field.trim_start_matches(['-', '0']).starts_with(|c: char| c.is_ascii_digit());
            let is_number = field.parse::<f64>().is_ok() && !has_zeros && (field.contains(['.', 'e', 'E']) || !is_long);
            prop_assert!(!is_number || float(bytes).is_some() || field.starts_with("00") || field.starts_with("-00"), "{}", field);
        }
    }
}
