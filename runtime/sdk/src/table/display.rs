//! Formats the values of a column in the same way as Arrow's own crates. (Those take a minute to compile and include all casts.)

use std::fmt::{self, Write};

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::{as_date, as_datetime, as_time};
use arrow_array::timezone::Tz;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use chrono::{SecondsFormat, TimeDelta};

/// The value at `row`, with `null` for nulls.
pub(super) struct Shown<'a> {
    pub array: &'a ArrayRef,
    pub row: usize,
    pub null: &'a str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.array.as_ref(), self.row, self.null, f)
    }
}

/// Returns whether values of the type can be formatted.
pub(super) fn has_text(of: &DataType) -> bool {
    match of {
        DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        DataType::ListView(_) | DataType::LargeListView(_) => false,
        DataType::Timestamp(_, Some(zone)) => zone.parse::<Tz>().is_ok(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            has_text(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|field| has_text(field.data_type())),
        DataType::Dictionary(_, values) => has_text(values),
        _ => true,
    }
}

fn write(array: &dyn Array, row: usize, null: &str, to: &mut dyn Write) -> fmt::Result {
    macro_rules! number {
        ($type:ty) => {
            write!(to, "{}", array.as_primitive::<$type>().value(row))
        };
    }
    macro_rules! date_time {
        ($type:ty, $zone:expr) => {{
            let value = array.as_primitive::<$type>().value(row);
            match (as_datetime::<$type>(value), $zone) {
                (Some(time), Some(zone)) => {
                    let time = time.and_utc().with_timezone(&zone);
                    to.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
                }
                (Some(time), None) => write!(to, "{time:?}"),
                (None, _) => out_of_range(value, array, to),
            }
        }};
    }
    macro_rules! clock {
        ($type:ty) => {{
            let value = array.as_primitive::<$type>().value(row);
            match as_time::<$type>(value.into()) {
                Some(time) => write!(to, "{time:?}"),
                None => out_of_range(value, array, to),
            }
        }};
    }
    macro_rules! hex {
        ($bytes:expr) => {
            $bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
        };
    }
    // only for top-level arrays: values of dictionaries have their own nulls
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return to.write_str(null);
    }
    match array.data_type() {
        DataType::Boolean => write!(to, "{}", array.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => number!(Float16Type),
        DataType::Float32 => to.write_str(ryu::Buffer::new().format(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => to.write_str(ryu::Buffer::new().format(array.as_primitive::<Float64Type>().value(row))),
        DataType::Decimal32(..) => to.write_str(&array.as_primitive::<Decimal32Type>().value_as_string(row)),
        DataType::Decimal64(..) => to.write_str(&array.as_primitive::<Decimal64Type>().value_as_string(row)),
        DataType::Decimal128(..) => to.write_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(..) => to.write_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Utf8 => to.write_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => to.write_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => to.write_str(array.as_string_view().value(row)),
        DataType::Binary => hex!(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex!(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex!(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex!(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => {
            let value = array.as_primitive::<Date32Type>().value(row);
            match as_date::<Date32Type>(value.into()) {
                Some(date) => write!(to, "{date:?}"),
                None => out_of_range(value, array, to),
            }
        }
        DataType::Date64 => date_time!(Date64Type, None::<Tz>),
        DataType::Timestamp(unit, zone) => {
            let zone: Option<Tz> = zone.as_ref().and_then(|zone| zone.parse().ok());
            match unit {
                TimeUnit::Second => date_time!(TimestampSecondType, zone),
                TimeUnit::Millisecond => date_time!(TimestampMillisecondType, zone),
                TimeUnit::Microsecond => date_time!(TimestampMicrosecondType, zone),
                TimeUnit::Nanosecond => date_time!(TimestampNanosecondType, zone),
            }
        }
        DataType::Time32(TimeUnit::Second) => clock!(Time32SecondType),
        DataType::Time32(_) => clock!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => clock!(Time64MicrosecondType),
        DataType::Time64(_) => clock!(Time64NanosecondType),
        DataType::Duration(unit) => {
            let (span, value) = match unit {
                TimeUnit::Second => {
                    let value = array.as_primitive::<DurationSecondType>().value(row);
                    (TimeDelta::try_seconds(value), value)
                }
                TimeUnit::Millisecond => {
                    let value = array.as_primitive::<DurationMillisecondType>().value(row);
                    (TimeDelta::try_milliseconds(value), value)
                }
                TimeUnit::Microsecond => {
                    let value = array.as_primitive::<DurationMicrosecondType>().value(row);
                    (Some(TimeDelta::microseconds(value)), value)
                }
                TimeUnit::Nanosecond => {
                    let value = array.as_primitive::<DurationNanosecondType>().value(row);
                    (Some(TimeDelta::nanoseconds(value)), value)
                }
            };
            match span {
                Some(span) => write!(to, "{span}"),
                None => out_of_range(value, array, to),
            }
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let months = array.as_primitive::<IntervalYearMonthType>().value(row);
            write!(to, "{} years {} mons", months.div_euclid(12), months.rem_euclid(12))
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            interval(0, value.days, value.milliseconds.into(), 3, to)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            interval(value.months, value.days, value.nanoseconds, 9, to)
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row), null, to),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), null, to),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), null, to),
        DataType::Struct(fields) => {
            let fields = fields.iter().zip(array.as_struct().columns());
            braces(to, fields, |(field, column), to| {
                write!(to, "{}: ", field.name())?;
                write(column, row, null, to)
            })
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            braces(to, 0..entries.len(), |entry, to| {
                write(entries.column(0), entry, null, to)?;
                to.write_str(": ")?;
                write(entries.column(1), entry, null, to)
            })
        }
        DataType::Dictionary(..) => {
            // a slice of one row: otherwise the keys of all rows are converted for each row
            let one = array.slice(row, 1);
            let dictionary = one.as_any_dictionary();
            match dictionary.normalized_keys().first() {
                Some(key) => write(dictionary.values(), *key, null, to),
                None => to.write_str(null),
            }
        }
        // `has_text` is false for all other types
        _ => to.write_str("?"),
    }
}

fn out_of_range(value: impl fmt::Display, array: &dyn Array, to: &mut dyn Write) -> fmt::Result {
    write!(to, "{value} (out of range of {})", array.data_type())
}

/// Writes the parts of an interval that are not zero. `time` counts units of which a second has 10 to the power of `digits`.
fn interval(months: i32, days: i32, time: i64, digits: usize, to: &mut dyn Write) -> fmt::Result {
    let per_second = 10_u64.pow(digits as u32);
    let (sign, time) = (if time < 0 { "-" } else { "" }, time.unsigned_abs());
    let seconds = time / per_second;
    let (hours, minutes, seconds, fraction) = (seconds / 3600, seconds / 60 % 60, seconds % 60, time % per_second);
    let parts = [
        (months != 0).then(|| format!("{months} mons")),
        (days != 0).then(|| format!("{days} days")),
        (hours != 0).then(|| format!("{sign}{hours} hours")),
        (minutes != 0).then(|| format!("{sign}{minutes} mins")),
        (seconds != 0 || fraction != 0).then(|| format!("{sign}{seconds}.{fraction:0digits$} secs")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    to.write_str(if parts.is_empty() { "0 secs" } else { "" })?;
    to.write_str(&parts.join(" "))
}

fn list(items: &ArrayRef, null: &str, to: &mut dyn Write) -> fmt::Result {
    to.write_char('[')?;
    separated(to, 0..items.len(), |item, to| write(items, item, null, to))?;
    to.write_char(']')
}

fn braces<T>(
    to: &mut dyn Write,
    items: impl IntoIterator<Item = T>,
    one: impl FnMut(T, &mut dyn Write) -> fmt::Result,
) -> fmt::Result {
    to.write_char('{')?;
    separated(to, items, one)?;
    to.write_char('}')
}

fn separated<T>(
    to: &mut dyn Write,
    items: impl IntoIterator<Item = T>,
    mut one: impl FnMut(T, &mut dyn Write) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            to.write_str(", ")?;
        }
        one(item, to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, MapBuilder, StringBuilder};
    use arrow_array::*;
    use arrow_cast::display::{ArrayFormatter, FormatOptions};
    use arrow_schema::Field;

    use super::*;

    /// The result is the same as that of Arrow's own crate, which the host uses.
    #[test]
    fn texts_are_those_of_arrow() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a"), None]);
        lists.append_null();
        lists.append_value([Some("b"); 0]);
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in 0..3 {
            maps.keys().append_value("k");
            maps.values().append_value(format!("v{row}"));
            maps.append(row != 1).unwrap();
        }
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(3.0), None, Some(-1.5e300)]));
        let arrays: Vec<ArrayRef> = vec![
            numbers.clone(),
            Arc::new(Float32Array::from(vec![0.1, f32::NAN, 1e-9])),
            Arc::new(Float64Array::from(vec![f64::INFINITY, -0.0, 123_456_789_012_345_680.0])),
            Arc::new(Int64Array::from(vec![i64::MIN, 0, 7])),
            Arc::new(UInt8Array::from(vec![Some(255), None, Some(0)])),
            Arc::new(BooleanArray::from(vec![true, false, true])),
            Arc::new(NullArray::new(3)),
            Arc::new(StringArray::from(vec!["a", "", "ä\n"])),
            Arc::new(StringViewArray::from(vec!["a", "", "a text that is not inlined"])),
            Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b"", b"a"])),
            Arc::new(
                Decimal128Array::from(vec![12345, -5, 0])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            Arc::new(Date32Array::from(vec![0, -1, 19_000])),
            Arc::new(Date64Array::from(vec![0, -1, 86_400_000])),
            Arc::new(TimestampSecondArray::from(vec![0, -1, 1_700_000_000])),
            Arc::new(TimestampNanosecondArray::from(vec![0, 1, 1_700_000_000_123_456_789])),
            Arc::new(TimestampMillisecondArray::from(vec![0, 1, 250]).with_timezone("+02:00")),
            Arc::new(Time32SecondArray::from(vec![0, 1, 86_399])),
            Arc::new(Time64NanosecondArray::from(vec![0, 1, 86_399_000_000_000])),
            Arc::new(DurationSecondArray::from(vec![0, -1, 90_061])),
            Arc::new(DurationMicrosecondArray::from(vec![0, -1, 1_500_000])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1_372_674_600_000_000, -1]).with_timezone("Europe/Berlin")),
            Arc::new(IntervalYearMonthArray::from(vec![14, 0, -1])),
            Arc::new(IntervalDayTimeArray::from(vec![
                IntervalDayTime::new(1, -3_661_001),
                IntervalDayTime::new(0, 0),
                IntervalDayTime::new(-1, 1_500),
            ])),
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                IntervalMonthDayNano::new(14, 3, 1_500_000_000),
                IntervalMonthDayNano::new(0, 0, -7_322_000_000_001),
                IntervalMonthDayNano::new(0, 0, 0),
            ])),
            Arc::new(lists.finish()),
            Arc::new(maps.finish()),
            Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("x", DataType::Float64, true)),
                numbers,
            )])),
            Arc::new(
                vec![Some("a"), None, Some("a")]
                    .into_iter()
                    .collect::<DictionaryArray<Int8Type>>(),
            ),
        ];
        let options = FormatOptions::default().with_null("null");
        for array in &arrays {
            assert!(has_text(array.data_type()), "{}", array.data_type());
            let theirs = ArrayFormatter::try_new(array, &options).unwrap();
            for row in 0..array.len() {
                let ours = Shown {
                    array,
                    row,
                    null: "null",
                }
                .to_string();
                assert_eq!(ours, theirs.value(row).to_string(), "{} {row}", array.data_type());
            }
        }
    }
}
