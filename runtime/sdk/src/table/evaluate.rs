//! Computes the values of expressions, column by column.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Float64Array, Int64Array, NullArray, PrimitiveArray, StringArray,
    UInt64Array,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, NullBuffer};
use arrow_schema::TimeUnit;
use arrow_select::zip::zip;
use chrono::DateTime;
use memchr::memmem::Finder;

use super::expression::{Arithmetic, Compare, Expr, Literal, Match, Node};
use super::keys::{Keys, Map, map};
use super::values::{Values, nanoseconds, order};
use super::{Column, Table, csv};
use crate::{Context, Error, Result, bail};

/// Which rows [`Table::filter`] keeps: an [`Expr`], or a boolean for each row.
pub trait Condition {
    /// Returns a value for each row. Null counts as false.
    fn keep(&self, table: &Table) -> Result<BooleanArray>;
}

impl Condition for Expr {
    fn keep(&self, table: &Table) -> Result<BooleanArray> {
        Operand::of(self, table)?.boolean(table.rows())
    }
}

impl Condition for [bool] {
    fn keep(&self, _: &Table) -> Result<BooleanArray> {
        Ok(self.to_vec().into())
    }
}

impl<const N: usize> Condition for [bool; N] {
    fn keep(&self, table: &Table) -> Result<BooleanArray> {
        self.as_slice().keep(table)
    }
}

impl Condition for Vec<bool> {
    fn keep(&self, table: &Table) -> Result<BooleanArray> {
        self.as_slice().keep(table)
    }
}

impl Condition for BooleanArray {
    fn keep(&self, _: &Table) -> Result<Self> {
        Ok(self.clone())
    }
}

impl<C: Condition + ?Sized> Condition for &C {
    fn keep(&self, table: &Table) -> Result<BooleanArray> {
        (**self).keep(table)
    }
}

/// The values of [`Table::with`]: an [`Expr`], or what a [`Column`] can be created from.
pub trait IntoColumn {
    /// Returns a value for each row.
    fn into_column(self, table: &Table) -> Result<Column>;
}

impl<C: Into<Column>> IntoColumn for C {
    fn into_column(self, _: &Table) -> Result<Column> {
        Ok(self.into())
    }
}

impl IntoColumn for Expr {
    fn into_column(self, table: &Table) -> Result<Column> {
        Ok(Column(Operand::of(&self, table)?.value.into_array(table.rows())))
    }
}

/// What an expression came to.
enum Value {
    Column(ArrayRef),
    /// The same value in each row.
    Literal(Literal),
}

impl Value {
    fn into_array(self, rows: usize) -> ArrayRef {
        match self {
            Self::Column(array) => array,
            Self::Literal(Literal::Boolean(value)) => {
                let values = if value {
                    BooleanBuffer::new_set(rows)
                } else {
                    BooleanBuffer::new_unset(rows)
                };
                Arc::new(BooleanArray::from(values))
            }
            Self::Literal(Literal::Integer(value)) => Arc::new(Int64Array::from_value(value, rows)),
            Self::Literal(Literal::Unsigned(value)) => Arc::new(UInt64Array::from_value(value, rows)),
            Self::Literal(Literal::Float(value)) => Arc::new(Float64Array::from_value(value, rows)),
            Self::Literal(Literal::Text(text)) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))),
        }
    }
}

/// A value, and what messages call it.
struct Operand {
    name: String,
    value: Value,
}

impl Operand {
    fn of(expr: &Expr, table: &Table) -> Result<Self> {
        let rows = table.rows();
        let of = |expr: &Expr| Self::of(expr, table);
        let sides = |sides: &[Expr; 2]| Ok::<_, Error>((of(&sides[0])?, of(&sides[1])?));
        let conditions = |sides: &[Expr; 2]| Ok::<_, Error>((of(&sides[0])?.boolean(rows)?, of(&sides[1])?.boolean(rows)?));
        let boolean = |array: BooleanArray| Value::Column(Arc::new(array));
        let value = match &expr.0 {
            Node::Column(name) => Value::Column(table.column(name)?.clone()),
            Node::Literal(literal) => Value::Literal(literal.clone()),
            Node::Arithmetic(how, both) => {
                let (left, right) = sides(both)?;
                Value::Column(arithmetic(*how, left, right, rows)?)
            }
            Node::Negative(inner) => negative(of(inner)?)?,
            Node::Compare(how, both) => {
                let (left, right) = sides(both)?;
                boolean(compare(*how, &left, &right, rows)?)
            }
            Node::And(both) => {
                let (left, right) = conditions(both)?;
                boolean(and(&left, &right))
            }
            Node::Or(both) => {
                let (left, right) = conditions(both)?;
                boolean(or(&left, &right))
            }
            Node::Not(inner) => boolean(not(&of(inner)?.boolean(rows)?)),
            Node::IsNull(inner) => {
                let nulls = match of(inner)?.value {
                    Value::Column(array) => array.logical_nulls().map(|nulls| !nulls.inner()),
                    Value::Literal(_) => None,
                };
                boolean(nulls.unwrap_or_else(|| BooleanBuffer::new_unset(rows)).into())
            }
            Node::FillNull(both) => {
                let (left, right) = sides(both)?;
                Value::Column(fill_null(left, right, rows)?)
            }
            Node::IsIn(inner, items) => boolean(is_in(&of(inner)?, items, table)?),
            Node::Text(how, inner, part) => boolean(matches(*how, of(inner)?, part, rows)?),
        };
        let name = match (&expr.0, &value) {
            (Node::Column(name), Value::Column(array)) => format!("column `{name}` ({})", array.data_type()),
            (_, Value::Column(array)) => format!("an expression ({})", array.data_type()),
            (_, Value::Literal(Literal::Boolean(value))) => format!("`{value}`"),
            (_, Value::Literal(Literal::Integer(value))) => format!("the number {value}"),
            (_, Value::Literal(Literal::Unsigned(value))) => format!("the number {value}"),
            (_, Value::Literal(Literal::Float(value))) => format!("the number {value:?}"),
            (_, Value::Literal(Literal::Text(value))) => format!("the text `{value}`"),
        };
        Ok(Self { name, value })
    }

    fn boolean(self, rows: usize) -> Result<BooleanArray> {
        match Values::of(&self.value.into_array(rows))? {
            Values::Boolean(array) => Ok(array),
            Values::Null => Ok(BooleanArray::new_null(rows)),
            _ => bail!(
                "{} is not a condition: compare it with a value, for example with `.ne(0)`",
                self.name
            ),
        }
    }
}

/// One side of an operation.
enum Side<'a, T> {
    All(T),
    Each(&'a [T]),
}

impl<T: Copy> Side<'_, T> {
    #[inline]
    fn get(&self, row: usize) -> T {
        match self {
            Self::All(value) => *value,
            Self::Each(values) => values[row],
        }
    }
}

/// The values of a column, or a literal.
enum Sort {
    Column(Values),
    Literal(Literal),
}

impl Sort {
    fn of(operand: &Operand) -> Result<Self> {
        Ok(match &operand.value {
            Value::Column(array) => Self::Column(Values::of(array)?),
            Value::Literal(Literal::Unsigned(value)) => match i64::try_from(*value) {
                Ok(value) => Self::Literal(Literal::Integer(value)),
                Err(_) => Self::Literal(Literal::Unsigned(*value)),
            },
            Value::Literal(literal) => Self::Literal(literal.clone()),
        })
    }

    fn nulls(&self) -> Option<NullBuffer> {
        match self {
            Self::Column(Values::Boolean(array)) => array.nulls().cloned(),
            Self::Column(Values::Integer(array)) => array.nulls().cloned(),
            Self::Column(Values::Unsigned(array)) => array.nulls().cloned(),
            Self::Column(Values::Float(array)) => array.nulls().cloned(),
            Self::Column(Values::Text(array)) => array.nulls().cloned(),
            Self::Column(Values::Date(array)) => array.nulls().cloned(),
            Self::Column(Values::Time(array, ..)) => array.nulls().cloned(),
            Self::Column(Values::Other(array)) => array.logical_nulls(),
            Self::Column(Values::Null) | Self::Literal(_) => None,
        }
    }

    fn number(&self) -> Option<Number<'_>> {
        Some(match self {
            Self::Column(Values::Integer(array)) => Number::Integer(Side::Each(array.values())),
            Self::Column(Values::Unsigned(array)) => Number::Unsigned(Side::Each(array.values())),
            Self::Column(Values::Float(array)) => Number::Float(Side::Each(array.values())),
            Self::Literal(Literal::Integer(value)) => Number::Integer(Side::All(*value)),
            Self::Literal(Literal::Unsigned(value)) => Number::Unsigned(Side::All(*value)),
            Self::Literal(Literal::Float(value)) => Number::Float(Side::All(*value)),
            _ => return None,
        })
    }

    fn boolean(&self) -> Option<impl Fn(usize) -> bool + '_> {
        let found = match self {
            Self::Column(Values::Boolean(array)) => Err(array.values()),
            Self::Literal(Literal::Boolean(value)) => Ok(*value),
            _ => return None,
        };
        Some(move |row: usize| found.unwrap_or_else(|values| values.value(row)))
    }

    fn text<'a>(&'a self) -> Option<impl Fn(usize) -> &'a str> {
        let found = match self {
            Self::Column(Values::Text(array)) => Err(array),
            Self::Literal(Literal::Text(value)) => Ok(value.as_str()),
            _ => return None,
        };
        Some(move |row: usize| found.unwrap_or_else(|values| values.value(row)))
    }
}

enum Number<'a> {
    Integer(Side<'a, i64>),
    Unsigned(Side<'a, u64>),
    Float(Side<'a, f64>),
}

impl Number<'_> {
    /// Returns the integer in a row.
    fn wide(&self, row: usize) -> Option<i128> {
        match self {
            Self::Integer(side) => Some(side.get(row).into()),
            Self::Unsigned(side) => Some(side.get(row).into()),
            Self::Float(_) => None,
        }
    }

    /// Returns the number in a row as the nearest float.
    fn float(&self, row: usize) -> f64 {
        match self {
            Self::Integer(side) => side.get(row) as f64,
            Self::Unsigned(side) => side.get(row) as f64,
            Self::Float(side) => side.get(row),
        }
    }

    /// Returns the integer of all rows, if it is the same as a float.
    fn exact(&self) -> Option<f64> {
        match self {
            Self::Integer(Side::All(value)) => Some(*value as f64).filter(|float| order_mixed((*value).into(), *float).is_eq()),
            _ => None,
        }
    }
}

/// Compares an integer of at most 65 bits with a float, exactly.
fn order_mixed(integer: i128, float: f64) -> Ordering {
    if float.is_nan() {
        return Ordering::Less;
    }
    // saturates far beyond the integers
    integer
        .cmp(&(float.floor() as i128))
        .then(match float.fract() == 0.0 || float.is_infinite() {
            true => Ordering::Equal,
            false => Ordering::Less,
        })
}

impl Compare {
    fn test(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// Compares numbers, with a loop for each way.
    fn numbers<T: Copy>(self, a: &Side<T>, b: &Side<T>, rows: usize, order: impl Fn(T, T) -> Ordering + Copy) -> BooleanBuffer {
        fn each<T: Copy>(a: &Side<T>, b: &Side<T>, rows: usize, test: impl Fn(T, T) -> bool) -> BooleanBuffer {
            match (a, b) {
                (Side::Each(a), Side::Each(b)) => BooleanBuffer::collect_bool(rows, |row| test(a[row], b[row])),
                (Side::Each(a), Side::All(b)) => BooleanBuffer::collect_bool(rows, |row| test(a[row], *b)),
                (Side::All(a), Side::Each(b)) => BooleanBuffer::collect_bool(rows, |row| test(*a, b[row])),
                (Side::All(a), Side::All(b)) => BooleanBuffer::collect_bool(rows, |_| test(*a, *b)),
            }
        }
        match self {
            Self::Equal => each(a, b, rows, |a, b| order(a, b).is_eq()),
            Self::NotEqual => each(a, b, rows, |a, b| order(a, b).is_ne()),
            Self::Less => each(a, b, rows, |a, b| order(a, b).is_lt()),
            Self::LessOrEqual => each(a, b, rows, |a, b| order(a, b).is_le()),
            Self::Greater => each(a, b, rows, |a, b| order(a, b).is_gt()),
            Self::GreaterOrEqual => each(a, b, rows, |a, b| order(a, b).is_ge()),
        }
    }
}

fn compare(how: Compare, left: &Operand, right: &Operand, rows: usize) -> Result<BooleanArray> {
    let (a, b) = (Sort::of(left)?, Sort::of(right)?);
    if matches!(a, Sort::Column(Values::Null)) || matches!(b, Sort::Column(Values::Null)) {
        return Ok(BooleanArray::new_null(rows));
    }
    let rows_where = |order: &dyn Fn(usize) -> Ordering| BooleanBuffer::collect_bool(rows, |row| how.test(order(row)));
    let nulls = NullBuffer::union(a.nulls().as_ref(), b.nulls().as_ref()).filter(|nulls| nulls.null_count() > 0);
    let found = if let (Some(a), Some(b)) = (a.number(), b.number()) {
        match (&a, &b) {
            (Number::Integer(a), Number::Integer(b)) => how.numbers(a, b, rows, |a, b| a.cmp(&b)),
            (Number::Float(a), Number::Float(b)) => how.numbers(a, b, rows, order),
            (Number::Float(side), other) if let Some(value) = other.exact() => {
                how.numbers(side, &Side::All(value), rows, order)
            }
            (other, Number::Float(side)) if let Some(value) = other.exact() => {
                how.numbers(&Side::All(value), side, rows, order)
            }
            _ => rows_where(&|row| match (a.wide(row), b.wide(row)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(a), None) => order_mixed(a, b.float(row)),
                (None, Some(b)) => order_mixed(b, a.float(row)).reverse(),
                (None, None) => order(a.float(row), b.float(row)),
            }),
        }
    } else if let (Some(a), Some(b)) = (a.boolean(), b.boolean()) {
        rows_where(&|row| a(row).cmp(&b(row)))
    } else if let (Some(a), Some(b)) = (a.text(), b.text()) {
        rows_where(&|row| a(row).cmp(b(row)))
    } else {
        match (&a, &b) {
            (Sort::Column(Values::Date(a)), Sort::Column(Values::Date(b))) => {
                rows_where(&|row| a.value(row).cmp(&b.value(row)))
            }
            (Sort::Column(Values::Date(a)), Sort::Literal(Literal::Text(text))) => {
                let day = day(text, left)?;
                rows_where(&|row| a.value(row).cmp(&day))
            }
            (Sort::Literal(Literal::Text(text)), Sort::Column(Values::Date(b))) => {
                let day = day(text, right)?;
                rows_where(&|row| day.cmp(&b.value(row)))
            }
            (Sort::Column(Values::Time(a, of_a, zone_a)), Sort::Column(Values::Time(b, of_b, zone_b))) if zone_a == zone_b => {
                rows_where(&|row| instant(a.value(row), *of_a).cmp(&instant(b.value(row), *of_b)))
            }
            (Sort::Column(Values::Time(a, unit, zone)), Sort::Literal(Literal::Text(text))) => {
                let time = time(text, *zone, left)?;
                rows_where(&|row| instant(a.value(row), *unit).cmp(&time))
            }
            (Sort::Literal(Literal::Text(text)), Sort::Column(Values::Time(b, unit, zone))) => {
                let time = time(text, *zone, right)?;
                rows_where(&|row| time.cmp(&instant(b.value(row), *unit)))
            }
            (Sort::Column(Values::Other(a)), Sort::Column(Values::Other(b))) if a.data_type() == b.data_type() => {
                let keys = |array, operand: &Operand| Keys::of_column(array).with_context(|| operand.name.clone());
                let (a, b) = (keys(a, left)?, keys(b, right)?);
                rows_where(&|row| a.get(row).cmp(b.get(row)))
            }
            _ => bail!(
                "{} can't be compared with {}: convert one of them, for example with Table::cast",
                left.name,
                right.name
            ),
        }
    };
    Ok(BooleanArray::new(found, nulls))
}

/// Returns the number of nanoseconds since 1970.
fn instant(count: i64, unit: TimeUnit) -> i128 {
    i128::from(count) * i128::from(nanoseconds(unit))
}

fn day(text: &str, column: &Operand) -> Result<i32> {
    let day = csv::date(text.as_bytes()).with_context(|| {
        format!(
            "{} is compared with `{text}`, which is not a date such as `2013-06-01`",
            column.name
        )
    })?;
    Ok(day.to_epoch_days())
}

fn time(text: &str, zone: bool, column: &Operand) -> Result<i128> {
    let found = match zone {
        true => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
        false => csv::time(text.as_bytes()).map(|time| time.and_utc()),
    };
    let example = if zone { "2013-06-01T12:30:00Z" } else { "2013-06-01T12:30:00" };
    let time = found.with_context(|| {
        format!(
            "{} is compared with `{text}`, which is not a time such as `{example}`",
            column.name
        )
    })?;
    Ok(i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos()))
}

/// Computes the value of each row; the row where there is none is an error.
fn checked<T: ArrowNativeType>(
    rows: usize,
    nulls: Option<&NullBuffer>,
    value: impl Fn(usize) -> Option<T>,
) -> Result<Vec<T>, usize> {
    let mut values = Vec::with_capacity(rows);
    for row in 0..rows {
        match value(row) {
            Some(value) => values.push(value),
            // what is below a null is of no meaning
            None if nulls.is_some_and(|nulls| nulls.is_null(row)) => values.push(T::default()),
            None => return Err(row),
        }
    }
    Ok(values)
}

fn array<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))
}

fn arithmetic(how: Arithmetic, left: Operand, right: Operand, rows: usize) -> Result<ArrayRef> {
    let (a, b) = (Sort::of(&left)?, Sort::of(&right)?);
    if matches!(a, Sort::Column(Values::Null)) || matches!(b, Sort::Column(Values::Null)) {
        return Ok(Arc::new(NullArray::new(rows)));
    }
    let sign = match how {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    };
    let nulls = NullBuffer::union(a.nulls().as_ref(), b.nulls().as_ref()).filter(|nulls| nulls.null_count() > 0);
    let (Some(a), Some(b)) = (a.number(), b.number()) else {
        bail!(
            "{} {sign} {} can't be computed: both must be numbers; Table::cast converts texts and booleans",
            left.name,
            right.name
        );
    };
    let no_value = |row: usize, of: &str| {
        let (left, right) = (&left.name, &right.name);
        match (how, b.wide(row)) {
            (Arithmetic::Remainder, Some(0)) => Error::msg(format!("row {row}: {left} {sign} {right} is a remainder by 0")),
            _ => Error::msg(format!("row {row}: {left} {sign} {right} is out of range of {of}")),
        }
    };
    let floats = |value: &dyn Fn(f64, f64) -> f64| (0..rows).map(|row| value(a.float(row), b.float(row))).collect::<Vec<_>>();
    let valid = nulls.as_ref();
    match (how, &a, &b) {
        (Arithmetic::Divide, ..) => Ok(array::<Float64Type>(floats(&|a, b| a / b), nulls)),
        (_, Number::Float(_), _) | (_, _, Number::Float(_)) => {
            let values = match how {
                Arithmetic::Add => (0..rows).map(|row| a.float(row) + b.float(row)).collect(),
                Arithmetic::Subtract => (0..rows).map(|row| a.float(row) - b.float(row)).collect(),
                Arithmetic::Multiply => (0..rows).map(|row| a.float(row) * b.float(row)).collect(),
                _ => floats(&|a, b| a % b),
            };
            Ok(array::<Float64Type>(values, nulls))
        }
        (_, Number::Integer(a), Number::Integer(b)) => {
            let values = match how {
                Arithmetic::Add => checked(rows, valid, |row| a.get(row).checked_add(b.get(row))),
                Arithmetic::Subtract => checked(rows, valid, |row| a.get(row).checked_sub(b.get(row))),
                Arithmetic::Multiply => checked(rows, valid, |row| a.get(row).checked_mul(b.get(row))),
                _ => checked(rows, valid, |row| match b.get(row) {
                    0 => None,
                    by => Some(a.get(row).wrapping_rem(by)),
                }),
            };
            Ok(array::<Int64Type>(values.map_err(|row| no_value(row, "Int64"))?, nulls))
        }
        _ => {
            let wide = |row: usize| {
                let (a, b) = (a.wide(row)?, b.wide(row)?);
                match how {
                    Arithmetic::Add => a.checked_add(b),
                    Arithmetic::Subtract => a.checked_sub(b),
                    Arithmetic::Multiply => a.checked_mul(b),
                    _ => a.checked_rem(b),
                }
            };
            let has_signs = |number: &Number| matches!(number, Number::Integer(Side::Each(_)));
            if has_signs(&a) || has_signs(&b) {
                let values = checked(rows, valid, |row| wide(row)?.try_into().ok());
                return Ok(array::<Int64Type>(values.map_err(|row| no_value(row, "Int64"))?, nulls));
            }
            let values = checked(rows, valid, |row| wide(row)?.try_into().ok());
            let values: Vec<u64> = values.map_err(|row| no_value(row, "UInt64"))?;
            Ok(Arc::new(UInt64Array::new(values.into(), nulls)))
        }
    }
}

fn negative(operand: Operand) -> Result<Value> {
    let name = operand.name;
    let array = match operand.value {
        Value::Literal(Literal::Float(value)) => return Ok(Value::Literal(Literal::Float(-value))),
        Value::Literal(Literal::Integer(value)) if let Some(value) = value.checked_neg() => {
            return Ok(Value::Literal(Literal::Integer(value)));
        }
        Value::Literal(Literal::Unsigned(value)) => {
            let value = i64::try_from(-i128::from(value));
            let value = value.with_context(|| format!("the negative of {name} is out of range of Int64"))?;
            return Ok(Value::Literal(Literal::Integer(value)));
        }
        value => value.into_array(1),
    };
    let out_of_range = |row| Error::msg(format!("row {row}: the negative of {name} is out of range of Int64"));
    let negative = |value: i128| i64::try_from(-value).ok();
    Ok(Value::Column(match Values::of(&array)? {
        Values::Null => array,
        Values::Float(values) => Arc::new(values.unary::<_, Float64Type>(|value| -value)),
        Values::Integer(values) => {
            let found = checked(values.len(), values.nulls(), |row| values.value(row).checked_neg());
            self::array::<Int64Type>(found.map_err(out_of_range)?, values.nulls().cloned())
        }
        Values::Unsigned(values) => {
            let found = checked(values.len(), values.nulls(), |row| negative(values.value(row).into()));
            self::array::<Int64Type>(found.map_err(out_of_range)?, values.nulls().cloned())
        }
        _ => bail!("{name} has no negative: it must be a number; Table::cast converts texts and booleans"),
    }))
}

/// Returns where a condition is true, and where it is false.
fn known(array: &BooleanArray) -> (BooleanBuffer, BooleanBuffer) {
    match array.nulls() {
        None => (array.values().clone(), !array.values()),
        Some(nulls) => (array.values() & nulls.inner(), &!array.values() & nulls.inner()),
    }
}

fn of_known(is_true: BooleanBuffer, is_false: BooleanBuffer) -> BooleanArray {
    let nulls = NullBuffer::new(&is_true | &is_false);
    BooleanArray::new(is_true, Some(nulls).filter(|nulls| nulls.null_count() > 0))
}

fn and(a: &BooleanArray, b: &BooleanArray) -> BooleanArray {
    let ((true_a, false_a), (true_b, false_b)) = (known(a), known(b));
    of_known(&true_a & &true_b, &false_a | &false_b)
}

fn or(a: &BooleanArray, b: &BooleanArray) -> BooleanArray {
    let ((true_a, false_a), (true_b, false_b)) = (known(a), known(b));
    of_known(&true_a | &true_b, &false_a & &false_b)
}

fn not(array: &BooleanArray) -> BooleanArray {
    BooleanArray::new(!array.values(), array.nulls().cloned())
}

fn fill_null(left: Operand, right: Operand, rows: usize) -> Result<ArrayRef> {
    let refused = format!(
        "the nulls of {} can't be filled with {}: convert one of them, for example with Table::cast",
        left.name, right.name
    );
    let other = match (&left.value, right.value) {
        (Value::Column(array), Value::Literal(literal)) => Value::Literal(fitting(&Values::of(array)?, literal)),
        (_, value) => value,
    };
    let (mut a, mut b) = (left.value.into_array(rows), other.into_array(rows));
    if a.data_type() != b.data_type() {
        let both: (ArrayRef, ArrayRef) = match (Values::of(&a)?, Values::of(&b)?) {
            (Values::Null, _) => return Ok(b),
            (_, Values::Null) => return Ok(a),
            (Values::Integer(a), Values::Integer(b)) => (Arc::new(a), Arc::new(b)),
            (Values::Float(a), Values::Float(b)) => (Arc::new(a), Arc::new(b)),
            (Values::Text(a), Values::Text(b)) => (Arc::new(a), Arc::new(b)),
            _ => bail!(refused),
        };
        (a, b) = both;
    }
    let Some(nulls) = a.logical_nulls() else {
        return Ok(a);
    };
    Ok(zip(&BooleanArray::from(nulls.into_inner()), &a, &b)?)
}

/// Returns the same number as the type of a column, if that has it.
fn fitting(column: &Values, literal: Literal) -> Literal {
    match (column, &literal) {
        (Values::Float(_), Literal::Integer(value)) => match Number::Integer(Side::All(*value)).exact() {
            Some(value) => Literal::Float(value),
            None => literal,
        },
        (Values::Unsigned(_), Literal::Integer(value)) => u64::try_from(*value).map_or(literal, Literal::Unsigned),
        (Values::Integer(_), Literal::Unsigned(value)) => i64::try_from(*value).map_or(literal, Literal::Integer),
        _ => literal,
    }
}

fn is_in(operand: &Operand, items: &[Expr], table: &Table) -> Result<BooleanArray> {
    let literal = |item: &Expr| match &item.0 {
        Node::Literal(Literal::Text(text)) => Some(text.clone()),
        _ => None,
    };
    if let (Sort::Column(Values::Text(array)), Some(texts)) =
        (Sort::of(operand)?, items.iter().map(literal).collect::<Option<Vec<_>>>())
    {
        let mut known: Map<&str, ()> = map();
        known.extend(texts.iter().map(|text| (text.as_str(), ())));
        let found = BooleanBuffer::collect_bool(array.len(), |row| known.contains_key(array.value(row)));
        return Ok(BooleanArray::new(found, array.nulls().cloned().filter(|_| !items.is_empty())));
    }
    let mut found = BooleanArray::from(BooleanBuffer::new_unset(table.rows()));
    for item in items {
        found = or(
            &found,
            &compare(Compare::Equal, operand, &Operand::of(item, table)?, table.rows())?,
        );
    }
    Ok(found)
}

fn matches(how: Match, operand: Operand, part: &str, rows: usize) -> Result<BooleanArray> {
    let texts = match Values::of(&operand.value.into_array(rows))? {
        Values::Text(texts) => texts,
        Values::Null => return Ok(BooleanArray::new_null(rows)),
        _ => bail!("{} is not text: convert it, for example with Table::cast", operand.name),
    };
    let found = match how {
        Match::Contains => {
            let part = Finder::new(part);
            BooleanBuffer::collect_bool(rows, |row| part.find(texts.value(row).as_bytes()).is_some())
        }
        Match::StartsWith => BooleanBuffer::collect_bool(rows, |row| texts.value(row).starts_with(part)),
    };
    Ok(BooleanArray::new(found, texts.nulls().cloned()))
}
