use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow_array::types::Int8Type;
use arrow_array::{
    Date32Array, Decimal128Array, DictionaryArray, Float32Array, LargeStringArray, NullArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

fn table(csv: &str) -> Table {
    from_csv(csv.as_bytes(), &CsvOptions::default()).unwrap()
}

fn one(column: impl Into<Column>) -> Table {
    Table::new([("a", column)]).unwrap()
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// Returns the values of the expression, `∅` for nulls, or the error.
fn value(table: &Table, expr: Expr) -> String {
    match table.with("=", expr) {
        Ok(table) => shown(&table.select(["="]).unwrap()).replacen("=/", "", 1),
        Err(error) => format!("{error:#}").replacen("column `=`: ", "", 1),
    }
}

fn types(table: &Table) -> Vec<String> {
    table
        .0
        .columns()
        .iter()
        .map(|column| column.data_type().to_string())
        .collect()
}

#[test]
fn columns_are_dropped_and_renamed() {
    let abc = table("a,b,c\n1,2,3\n");
    assert_eq!(shown(&abc.drop(["b"]).unwrap()), "a|c/1|3");
    assert_eq!(abc.drop(["a", "b", "c"]).unwrap().rows(), 1);
    assert_eq!(error(abc.drop(["d"])), "there is no column `d`; the columns are a, b, c");
    assert_eq!(shown(&abc.rename([("a", "b"), ("b", "a")]).unwrap()), "b|a|c/1|2|3");
    assert_eq!(error(abc.rename([("a", "c")])), "columns 1 and 3 are both called `c`");
    assert_eq!(error(abc.rename([("a", "x"), ("a", "y")])), "column `a` is renamed twice");
    assert_eq!(
        error(abc.rename([("d", "x")])),
        "there is no column `d`; the columns are a, b, c"
    );
}

#[test]
fn rows_at_the_end_and_different_rows_are_kept() {
    let rows = table("a,b\n1,x\n2,y\n1,x\n,\n,\n1,y\n");
    assert_eq!(shown(&rows.tail(2)), "a|b/∅|∅/1|y");
    assert_eq!(rows.tail(9), rows);
    assert_eq!(shown(&rows.distinct().unwrap()), "a|b/1|x/2|y/∅|∅/1|y");
    let floats = one(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0]);
    assert_eq!(floats.distinct().unwrap().rows(), 3);
}

#[test]
fn casts_lose_nothing() {
    let cast = |column: Column, to| match one(column).cast("a", to) {
        Ok(table) => format!("{} {}", types(&table)[0], shown(&table)),
        Err(error) => format!("{error:#}"),
    };
    let texts = |values: &[&'static str]| Column::from(values.to_vec());
    assert_eq!(cast(texts(&["7", " 008 ", "-1"]), ColumnType::Integer), "Int64 a/7/8/-1");
    assert_eq!(
        cast(texts(&["7", "x"]), ColumnType::Integer),
        "column `a`: row 1: `x` is not an integer of 64 bits"
    );
    assert_eq!(
        cast(texts(&["9223372036854775808"]), ColumnType::Integer),
        "column `a`: row 0: `9223372036854775808` is not an integer of 64 bits"
    );
    assert_eq!(cast(vec![Some(2.0), None].into(), ColumnType::Integer), "Int64 a/2/∅");
    for value in [1.5, f64::NAN, f64::INFINITY, 9_223_372_036_854_775_808.0] {
        assert!(cast(vec![value].into(), ColumnType::Integer).contains("row 0"), "{value}");
    }
    assert_eq!(
        cast(vec![i64::MIN as f64].into(), ColumnType::Integer),
        "Int64 a/-9223372036854775808"
    );
    assert_eq!(
        cast(vec![u64::MAX].into(), ColumnType::Integer),
        "column `a`: row 0: `18446744073709551615` is not an integer of 64 bits"
    );
    assert_eq!(
        cast(vec![1_i64 << 60].into(), ColumnType::Float),
        "Float64 a/1.152921504606847e18"
    );
    assert_eq!(
        cast(vec![(1_i64 << 53) + 1].into(), ColumnType::Float),
        "column `a`: row 0: `9007199254740993` is not exactly a float of 64 bits"
    );
    assert!(cast(vec![u64::MAX].into(), ColumnType::Float).contains("row 0"));
    assert_eq!(cast(vec![true, false].into(), ColumnType::Integer), "Int64 a/1/0");
    assert_eq!(cast(vec![1, 0].into(), ColumnType::Boolean), "Boolean a/true/false");
    assert_eq!(
        cast(vec![2].into(), ColumnType::Boolean),
        "column `a`: row 0: `2` is not a boolean"
    );
    assert_eq!(cast(texts(&["2024-02-29"]), ColumnType::Date), "Date32 a/2024-02-29");
    assert_eq!(
        cast(texts(&["2024-02-30"]), ColumnType::Date),
        "column `a`: row 0: `2024-02-30` is not a date"
    );
    assert_eq!(
        cast(texts(&["2024-02-29", "2024-02-29T01:00:00"]), ColumnType::Time),
        "Timestamp(µs) a/2024-02-29T00:00:00/2024-02-29T01:00:00"
    );
    assert_eq!(
        cast(texts(&["2024-02-29T01:00:00.000000001"]), ColumnType::Time),
        "Timestamp(ns) a/2024-02-29T01:00:00.000000001"
    );
    assert_eq!(
        cast(TimestampSecondArray::from(vec![86_400]).into_column(), ColumnType::Date),
        "Date32 a/1970-01-02"
    );
    assert_eq!(
        cast(TimestampSecondArray::from(vec![-1]).into_column(), ColumnType::Date),
        "column `a`: row 0: `1969-12-31T23:59:59` is not a date"
    );
    assert_eq!(
        cast(Date32Array::from(vec![-1]).into_column(), ColumnType::Time),
        "Timestamp(µs) a/1969-12-31T00:00:00"
    );
    assert_eq!(
        cast(Date32Array::from(vec![0]).into_column(), ColumnType::Text),
        "Utf8 a/1970-01-01"
    );
    assert_eq!(
        cast(Date32Array::from(vec![0]).into_column(), ColumnType::Integer),
        "column `a`: Date32 can't be converted to an integer of 64 bits"
    );
    let decimals = Decimal128Array::from(vec![100, 150]).with_precision_and_scale(9, 2).unwrap();
    assert_eq!(cast(decimals.clone().into_column(), ColumnType::Float), "Float64 a/1.0/1.5");
    assert_eq!(
        cast(decimals.into_column(), ColumnType::Integer),
        "column `a`: row 1: `1.50` is not an integer of 64 bits"
    );
    let dictionary: DictionaryArray<Int8Type> = [Some("7"), None, Some("7")].into_iter().collect();
    assert_eq!(cast(dictionary.into_column(), ColumnType::Integer), "Int64 a/7/∅/7");
    assert_eq!(cast(NullArray::new(1).into_column(), ColumnType::Date), "Date32 a/∅");
}

trait IntoAny {
    fn into_column(self) -> Column;
}

impl<A: Array + 'static> IntoAny for A {
    fn into_column(self) -> Column {
        Column(Arc::new(self))
    }
}

#[test]
fn expressions_compute() {
    let t = table("i,f,s,b\n1,0.5,ab,true\n-7,,b,\n,2.5,,false\n");
    assert_eq!(value(&t, col("i") + 1), "2/-6/∅");
    assert_eq!(value(&t, 1 - col("i") * 2), "-1/15/∅");
    assert_eq!(value(&t, col("i") / 2), "0.5/-3.5/∅");
    assert_eq!(value(&t, col("i") % 4), "1/-3/∅");
    assert_eq!(value(&t, -col("i") + col("f")), "-0.5/∅/∅");
    assert_eq!(value(&t, col("f") / 0), "inf/∅/inf");
    assert_eq!(value(&t, lit(2) * 3), "6/6/6");
    assert_eq!(value(&t, col("i").gt(0) & col("b")), "true/false/false");
    assert_eq!(value(&t, col("i").gt(0) | col("b")), "true/∅/∅");
    assert_eq!(value(&t, !col("b")), "false/∅/true");
    assert_eq!(value(&t, col("s").is_null() | col("s").eq("b")), "false/true/true");
    assert_eq!(value(&t, col("s").is_not_null()), "true/true/false");
    assert_eq!(value(&t, col("s").is_in(["b", "c"])), "false/true/∅");
    assert_eq!(value(&t, col("i").is_in([1, 2])), "true/false/∅");
    assert_eq!(value(&t, col("i").is_in([] as [i64; 0])), "false/false/false");
    assert_eq!(value(&t, col("i").fill_null(0)), "1/-7/0");
    assert_eq!(value(&t, col("f").fill_null(1.5)), "0.5/1.5/2.5");
    assert_eq!(value(&t, col("f").fill_null(1)), "0.5/1.0/2.5");
    assert_eq!(value(&one(vec![None, Some(1_u64)]), col("a").fill_null(0)), "0/1");
    assert_eq!(value(&t, col("s").fill_null("none")), "ab/b/none");
    assert_eq!(
        value(&t, col("s").fill_null(col("i"))),
        "the nulls of column `s` (Utf8) can't be filled with column `i` (Int64): convert one of them, for example with Table::cast"
    );
    assert_eq!(value(&t, col("s").contains("b")), "true/true/∅");
    assert_eq!(value(&t, col("s").starts_with("b")), "false/true/∅");
    assert_eq!(value(&t, lit(60).lt(lit(24) * 3)), "true/true/true");
    assert_eq!(shown(&t.filter(col("b") & col("i").ne(0)).unwrap()), "i|f|s|b/1|0.5|ab|true");
    assert_eq!(t.filter(col("i").lt(100) | col("i").is_null()).unwrap(), t);
    assert_eq!(t.filter(col("b")).unwrap().rows(), 1);
    let kept = one(Float32Array::from(vec![1.5])).with("c", col("a")).unwrap();
    assert_eq!(types(&kept), ["Float32", "Float32"], "a column alone keeps its type");
    assert_eq!(value(&one(NullArray::new(2).into_column()), col("a") + 1), "∅/∅");
    assert_eq!(value(&one(UInt8Array::from(vec![1]).into_column()), col("a") - 2), "-1");
}

#[test]
fn integers_are_never_wrong() {
    let t = Table::new([("i", vec![i64::MIN])])
        .unwrap()
        .with("u", vec![u64::MAX])
        .unwrap();
    assert_eq!(
        value(&t, col("i") - 1),
        "row 0: column `i` (Int64) - the number 1 is out of range of Int64"
    );
    assert_eq!(
        value(&t, col("i") % 0),
        "row 0: column `i` (Int64) % the number 0 is a remainder by 0"
    );
    assert_eq!(value(&t, col("i") % lit(-1)), "0");
    assert_eq!(
        value(&t, -col("i")),
        "row 0: the negative of column `i` (Int64) is out of range of Int64"
    );
    assert_eq!(
        value(&t, col("u") + 1),
        "row 0: column `u` (UInt64) + the number 1 is out of range of UInt64"
    );
    assert_eq!(value(&t, col("u") + -1), "18446744073709551614");
    assert_eq!(value(&t, col("u") + col("i")), "9223372036854775807");
    assert_eq!(
        value(&t, col("u") * col("u")),
        "row 0: column `u` (UInt64) * column `u` (UInt64) is out of range of UInt64"
    );
    assert_eq!(
        value(&t, -col("u")),
        "row 0: the negative of column `u` (UInt64) is out of range of Int64"
    );
    assert_eq!(value(&t, -lit(5_u64)), "-5");
    assert_eq!(value(&t, col("u").gt(col("i"))), "true");
    assert_eq!(value(&t, col("u").eq(u64::MAX) & col("u").gt(-1)), "true");
    // what is below a null does not count
    let t = one(vec![None, Some(1_i64)]).with("b", vec![0, 1]).unwrap();
    assert_eq!(value(&t, col("a") % col("b")), "∅/0");
}

#[test]
fn numbers_are_compared_exactly() {
    let large = (1_i64 << 53) + 1;
    let t = Table::new([("i", vec![large, 0, i64::MAX])]).unwrap();
    let t = t
        .with("f", vec![(1_i64 << 53) as f64, -0.0, 9_223_372_036_854_775_808.0])
        .unwrap();
    assert_eq!(value(&t, col("i").eq(col("f"))), "false/true/false");
    assert_eq!(value(&t, col("i").gt(col("f"))), "true/false/false");
    assert_eq!(value(&t, col("f").lt(col("i"))), "true/false/false");
    assert_eq!(value(&t, col("f").lt(large)), "true/true/false");
    assert_eq!(value(&t, col("i").le(0.5)), "false/true/false");
    assert_eq!(
        value(&t, col("i").lt(f64::INFINITY) & col("i").gt(f64::NEG_INFINITY)),
        "true/true/true"
    );
    let nan = one(vec![f64::NAN, 1.0, -0.0]);
    assert_eq!(value(&nan, col("a").eq(f64::NAN)), "true/false/false");
    assert_eq!(value(&nan, col("a").gt(f64::INFINITY)), "true/false/false");
    assert_eq!(value(&nan, col("a").gt(0)), "true/true/false");
    assert_eq!(value(&nan, col("a").eq(0)), "false/false/true");
}

proptest! {
    #[test]
    fn comparisons_of_integers_with_floats_are_those_of_their_values(integer: i64, near in -3_i64..3, float: f64) {
        for float in [float, integer as f64, (integer as f64) + near as f64, near as f64 / 2.0] {
            let t = Table::new([("i", vec![integer])]).unwrap().with("f", vec![float]).unwrap();
            let expected = if float.is_nan() || float > 1e30 { Ordering::Less } else if float < -1e30 { Ordering::Greater } else {
                // exact: both times two to the power of 64 are whole or too small to matter
                (i128::from(integer) << 32).cmp(&((float * 4_294_967_296.0) as i128)).then(
                    0.0_f64.total_cmp(&(float * 4_294_967_296.0).fract().abs()))
            };
            prop_assume!(float.abs() > 1e-6 || float == 0.0);
            prop_assert_eq!(value(&t, col("i").lt(col("f"))), expected.is_lt().to_string());
            prop_assert_eq!(value(&t, col("f").lt(col("i"))), expected.is_gt().to_string());
            prop_assert_eq!(value(&t, col("i").eq(float)), expected.is_eq().to_string());
        }
    }
}

#[test]
fn dates_and_times_are_compared_with_text() {
    let t = table("d,t\n2013-05-31,2013-06-01T12:30:00\n2013-06-01,2013-06-01T12:30:00.5\n");
    assert_eq!(value(&t, col("d").ge("2013-06-01")), "false/true");
    assert_eq!(value(&t, lit("2013-06-01").gt(col("d"))), "true/false");
    assert_eq!(value(&t, col("t").eq("2013-06-01 12:30:00")), "true/false");
    assert_eq!(value(&t, col("t").gt("2013-06-01")), "true/true");
    assert_eq!(
        value(&t, col("d").eq("June")),
        "column `d` (Date32) is compared with `June`, which is not a date such as `2013-06-01`"
    );
    assert_eq!(
        value(&t, col("t").eq("2013-06-01T12:30:00Z")),
        "column `t` (Timestamp(ms)) is compared with `2013-06-01T12:30:00Z`, which is not a time such as `2013-06-01T12:30:00`"
    );
    assert_eq!(
        value(&t, col("d").eq(col("t"))),
        "column `d` (Date32) can't be compared with column `t` (Timestamp(ms)): convert one of them, for example with Table::cast"
    );
    let other = t
        .with(
            "n",
            TimestampNanosecondArray::from(vec![1_370_089_800_000_000_001; 2]).into_column(),
        )
        .unwrap();
    assert_eq!(value(&other, col("t").lt(col("n"))), "true/false");
    let zoned = one(TimestampMillisecondArray::from(vec![0]).with_timezone("+02:00").into_column());
    assert_eq!(value(&zoned, col("a").eq("1970-01-01T02:00:00+02:00")), "true");
    assert!(value(&zoned, col("a").eq("1970-01-01T00:00:00")).ends_with("is not a time such as `2013-06-01T12:30:00Z`"));
}

#[test]
fn types_that_do_not_go_together_are_refused() {
    let t = table("i,s,b\n1,a,true\n");
    assert_eq!(
        value(&t, col("i").eq("1")),
        "column `i` (Int64) can't be compared with the text `1`: convert one of them, for example with Table::cast"
    );
    assert_eq!(
        value(&t, col("s").lt(col("b"))),
        "column `s` (Utf8) can't be compared with column `b` (Boolean): convert one of them, for example with Table::cast"
    );
    assert_eq!(
        value(&t, col("s") + 1),
        "column `s` (Utf8) + the number 1 can't be computed: both must be numbers; Table::cast converts texts and booleans"
    );
    assert_eq!(
        value(&t, col("i") & col("b")),
        "column `i` (Int64) is not a condition: compare it with a value, for example with `.ne(0)`"
    );
    assert_eq!(
        value(&t, col("i").contains("1")),
        "column `i` (Int64) is not text: convert it, for example with Table::cast"
    );
    assert_eq!(value(&t, col("x")), "there is no column `x`; the columns are i, s, b");
    assert_eq!(
        error(t.filter(col("i"))),
        "column `i` (Int64) is not a condition: compare it with a value, for example with `.ne(0)`"
    );
    let decimals = Decimal128Array::from(vec![150]).with_precision_and_scale(9, 2).unwrap();
    let t = one(decimals.into_column()).with("c", col("a")).unwrap();
    assert_eq!(value(&t, col("a").eq(col("c"))), "true");
    assert!(value(&t, col("a").eq(1)).contains("can't be compared"));
}

#[test]
fn rows_are_sorted() {
    let t = table("a,b\n2,x\n,y\n1,z\n2,a\n");
    assert_eq!(shown(&t.sort(["a"]).unwrap()), "a|b/1|z/2|x/2|a/∅|y");
    assert_eq!(shown(&t.sort([desc("a")]).unwrap()), "a|b/2|x/2|a/1|z/∅|y");
    assert_eq!(shown(&t.sort(["a".into(), desc("b")]).unwrap()), "a|b/1|z/2|x/2|a/∅|y");
    assert_eq!(t.sort([""; 0]).unwrap(), t);
    let floats = one(vec![Some(f64::NAN), Some(0.0), None, Some(-0.0), Some(f64::NEG_INFINITY)]);
    assert_eq!(shown(&floats.sort(["a"]).unwrap()), "a/-inf/0.0/-0.0/NaN/∅");
    let texts: DictionaryArray<Int8Type> = [Some("b"), None, Some("a")].into_iter().collect();
    assert_eq!(shown(&one(texts.into_column()).sort(["a"]).unwrap()), "a/a/b/∅");
    assert_eq!(error(t.sort(["c"])), "there is no column `c`; the columns are a, b");
}

#[test]
fn tables_are_joined() {
    let left = table("id,x\n1,a\n2,b\n,c\n2,d\n4,e\n");
    let right = table("id,y\n2,p\n3,q\n2,r\n,s\n1,t\n");
    let join = |join| shown(&left.join(&right, ["id"], join).unwrap());
    assert_eq!(join(Join::Inner), "id|x|y/1|a|t/2|b|p/2|b|r/2|d|p/2|d|r");
    assert_eq!(join(Join::Left), "id|x|y/1|a|t/2|b|p/2|b|r/∅|c|∅/2|d|p/2|d|r/4|e|∅");
    assert_eq!(join(Join::Right), "id|x|y/1|a|t/2|b|p/2|b|r/2|d|p/2|d|r/3|∅|q/∅|∅|s");
    assert_eq!(
        join(Join::Full),
        "id|x|y/1|a|t/2|b|p/2|b|r/∅|c|∅/2|d|p/2|d|r/4|e|∅/3|∅|q/∅|∅|s"
    );
    assert_eq!(join(Join::Semi), "id|x/1|a/2|b/2|d");
    assert_eq!(join(Join::Anti), "id|x/∅|c/4|e");
    let named = right.rename([("id", "number")]).unwrap();
    let joined = left.join(&named, [("id", "number")], Join::Full).unwrap();
    assert_eq!(shown(&joined), join(Join::Full));
    assert_eq!(
        error(left.join(&right.rename([("y", "x")]).unwrap(), ["id"], Join::Inner)),
        "both tables have a column `x`: use Table::rename or Table::drop for one of them, or join on it"
    );
    assert_eq!(
        error(left.join(&right, [("x", "id")], Join::Semi)),
        "column `x` of the left table holds Utf8, but column `id` of the right table Int64: convert one of them with Table::cast"
    );
    assert_eq!(
        error(left.join(&right, ["y"], Join::Semi)),
        "the left table: there is no column `y`; the columns are id, x"
    );
    assert_eq!(
        error(left.join(&right, [""; 0], Join::Inner)),
        "a join needs at least one column"
    );
    assert!(error(left.join(&right, [("id", "id"), ("x", "id")], Join::Inner)).starts_with("a join can't use a column twice"));
}

#[test]
fn joins_see_values_and_not_how_they_are_stored() {
    let dictionary: DictionaryArray<Int8Type> = [Some("a"), None, Some("b")].into_iter().collect();
    let left = one(dictionary.into_column());
    let right = one(LargeStringArray::from(vec!["b", "c"]).into_column())
        .with("n", vec![1, 2])
        .unwrap();
    assert_eq!(shown(&left.join(&right, ["a"], Join::Left).unwrap()), "a|n/a|∅/∅|∅/b|1");
    let full = left.join(&right, ["a"], Join::Full).unwrap();
    assert_eq!(
        (shown(&full), types(&full)[0].as_str()),
        ("a|n/a|∅/∅|∅/b|1/c|2".into(), "Utf8")
    );
    let floats = one(vec![0.0, f64::NAN])
        .join(&one(vec![-0.0, -f64::NAN]), ["a"], Join::Inner)
        .unwrap();
    assert_eq!(shown(&floats), "a/0.0/NaN");
    // a CSV table without rows has no types
    let empty = table("a,n\n");
    let texts = one(vec!["x"]);
    assert_eq!(shown(&texts.join(&empty, ["a"], Join::Left).unwrap()), "a|n/x|∅");
    let full = empty.join(&texts, ["a"], Join::Full).unwrap();
    assert_eq!((shown(&full), types(&full)[0].as_str()), ("a|n/x|∅".into(), "Utf8"));
}

#[test]
fn groups_are_aggregated() {
    let t = table("k,x,n\nb,1.5,1\na,,2\nb,0.5,3\n,7.0,4\na,2.0,\n");
    let all = [
        count(),
        sum("n"),
        mean("x"),
        min("x"),
        max("n"),
        not_null("x"),
        first("x"),
        last("n"),
        unique("n"),
    ];
    let groups = t.group_by(["k"]).unwrap();
    assert_eq!(
        shown(&groups.aggregate(all).unwrap()),
        "k|count|n_sum|x_mean|x_min|n_max|x_not_null|x_first|n_last|n_unique/b|2|4|1.0|0.5|3|2|1.5|3|2/a|2|2|2.0|2.0|2|1|2.0|2|1/∅|1|4|7.0|7.0|4|1|7.0|4|1"
    );
    let tables = groups.tables().unwrap();
    let tables: Vec<_> = tables.iter().map(|(key, rows)| (shown(key), shown(rows))).collect();
    assert_eq!(tables[0], ("k/b".into(), "k|x|n/b|1.5|1/b|0.5|3".into()));
    assert_eq!(tables[2], ("k/∅".into(), "k|x|n/∅|7.0|4".into()));
    assert_eq!(
        error(groups.aggregate([sum("x"), sum("x")])),
        "each function needs another name: use `.name(\"...\")`: columns 2 and 3 are both called `x_sum`"
    );
    assert_eq!(shown(&groups.aggregate([count().name("n")]).unwrap()), "k|n/b|2/a|2/∅|1");
    assert_eq!(
        error(groups.aggregate([sum("k")])),
        "sum of column `k`: it holds Utf8, not numbers: convert it with Table::cast"
    );
    assert_eq!(shown(&groups.aggregate([]).unwrap()), "k/b/a/∅");
}

#[test]
fn all_rows_are_one_group() {
    let t = one(vec![Some(4.0), Some(1.0), None, Some(2.0), Some(3.0)]);
    let functions = [
        median("a"),
        quantile("a", 0.25),
        quantile("a", 1.0).name("q1"),
        std("a"),
        sum("a"),
    ];
    assert_eq!(
        shown(&t.aggregate(functions).unwrap()),
        "a_median|a_quantile|q1|a_std|a_sum/2.5|1.75|4.0|1.2909944487358056|10.0"
    );
    let none = t
        .head(0)
        .aggregate([count(), sum("a"), mean("a"), median("a"), std("a"), min("a")])
        .unwrap();
    assert_eq!(shown(&none), "count|a_sum|a_mean|a_median|a_std|a_min/0|∅|∅|∅|∅|∅");
    assert_eq!(shown(&t.head(1).aggregate([std("a")]).unwrap()), "a_std/∅");
    assert_eq!(
        error(t.aggregate([quantile("a", 1.5)])),
        "quantile of column `a`: a quantile must be from 0 to 1, not 1.5"
    );
    let (key, rows) = &t.group_by([""; 0]).unwrap().tables().unwrap()[0];
    assert_eq!((key.rows(), rows), (1, &t));
    let dates = one(Date32Array::from(vec![3, 1, 2]).into_column());
    assert_eq!(
        shown(&dates.aggregate([min("a"), max("a"), unique("a")]).unwrap()),
        "a_min|a_max|a_unique/1970-01-02|1970-01-04|3"
    );
    let texts = one(vec!["b", "a", "c"]);
    assert_eq!(shown(&texts.aggregate([min("a"), max("a")]).unwrap()), "a_min|a_max/a|c");
    let flags = one(vec![true, false, true, true]);
    assert_eq!(shown(&flags.aggregate([sum("a"), mean("a")]).unwrap()), "a_sum|a_mean/3|0.75");
}

#[test]
fn sums_of_integers_are_exact_or_refused() {
    let t = one(vec![i64::MAX, 1, -1]);
    assert_eq!(shown(&t.aggregate([sum("a")]).unwrap()), "a_sum/9223372036854775807");
    assert_eq!(
        error(t.head(2).aggregate([sum("a")])),
        "sum of column `a`: out of range of Int64: convert the column to floats with Table::cast"
    );
    let unsigned = one(vec![u64::MAX]);
    let summed = unsigned.aggregate([sum("a"), mean("a")]).unwrap();
    assert_eq!(types(&summed), ["UInt64", "Float64"]);
    assert_eq!(shown(&summed), "a_sum|a_mean/18446744073709551615|1.8446744073709552e19");
    assert!(Table::concat([&unsigned, &unsigned]).unwrap().aggregate([sum("a")]).is_err());
    let small = one(UInt8Array::from(vec![255, 255]).into_column())
        .aggregate([sum("a")])
        .unwrap();
    assert_eq!((types(&small)[0].as_str(), shown(&small).as_str()), ("UInt64", "a_sum/510"));
}

#[test]
fn tables_are_pivoted_and_back() {
    let long = table("day,shop,sold\n1,b,5\n1,a,7\n2,b,3\n2,b,4\n");
    let wide = long.pivot(["day"], "shop", sum("sold")).unwrap();
    assert_eq!(shown(&wide), "day|b|a/1|5|7/2|7|∅");
    assert_eq!(
        shown(&wide.unpivot(["day"], "shop", "sold").unwrap()),
        "day|shop|sold/1|b|5/2|b|7/1|a|7/2|a|∅"
    );
    assert_eq!(shown(&long.pivot([""; 0], "shop", count()).unwrap()), "b|a/3|1");
    assert_eq!(
        error(
            table("k,c\n1,\n")
                .with("c", vec![None::<&str>])
                .unwrap()
                .pivot(["k"], "c", count())
        ),
        "column `c`, row 0: a null can't name a column: use `.filter(col(\"c\").is_not_null())` before"
    );
    assert_eq!(
        error(table("k,c\n1,k\n").pivot(["k"], "c", count())),
        "the values of column `c` can't name columns: columns 1 and 2 are both called `k`"
    );
    assert_eq!(
        error(long.pivot(["shop"], "shop", count())),
        "column `shop` can't be both an index and the names of columns"
    );
    assert_eq!(
        error(long.unpivot(["day"], "n", "v")),
        "column `shop` holds Utf8, but column `sold` Int64: keep one of them, or convert it with Table::cast"
    );
    assert_eq!(
        error(wide.unpivot(["day"], "day", "v")),
        "columns 1 and 2 are both called `day`"
    );
    assert_eq!(
        error(long.unpivot(["day", "shop", "sold"], "n", "v")),
        "there is no column other than day, shop, sold"
    );
}

#[test]
fn windows_see_their_partition() {
    let t = table("k,x\na,3\nb,1\na,1\na,3\nb,\na,2\n");
    let window = |functions: Vec<Window>| {
        let all = t.window(["k"], ["x"], functions).unwrap();
        shown(&all.drop(["k", "x"]).unwrap())
    };
    assert_eq!(
        window(vec![row_number(), rank(), dense_rank()]),
        "row_number|rank|dense_rank/3|3|3/1|1|1/1|1|1/4|3|3/2|2|2/2|2|2"
    );
    assert_eq!(
        window(vec![lag("x", 1), lead("x", 1)]),
        "x_lag|x_lead/2|3/∅|∅/∅|2/3|∅/1|∅/1|3"
    );
    assert_eq!(
        window(vec![lag("x", 0), lead("x", usize::MAX)]),
        "x_lag|x_lead/3|∅/1|∅/1|∅/3|∅/∅|∅/2|∅"
    );
    assert_eq!(
        window(vec![running(sum("x")), rolling(2, mean("x")), running(count())]),
        "x_running_sum|x_rolling_mean|running_count/6|2.5|3/1|∅|1/1|∅|1/9|3.0|4/1|1.0|2/3|1.5|2"
    );
    assert_eq!(
        window(vec![sum("x").into(), max("x").name("top").into()]),
        "x_sum|top/9|3/1|1/9|3/9|3/1|1/9|3"
    );
    let whole = t.window([""; 0], [""; 0], [row_number()]).unwrap();
    assert_eq!(whole.f64("row_number").unwrap().values(), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(
        error(t.window(["k"], ["x"], [rolling(0, count())])),
        "column `rolling_count`: a rolling function needs at least one row"
    );
    assert_eq!(
        error(t.window(["k"], ["x"], [rank().name("x")])),
        "each function needs another name: use `.name(\"...\")`: columns 2 and 3 are both called `x`"
    );
    assert_eq!(t.head(0).window(["k"], ["x"], [running(median("x"))]).unwrap().rows(), 0);
    let running = t.window(["k"], ["x"], [running(median("x")), rolling(3, max("x"))]).unwrap();
    assert_eq!(
        shown(&running.drop(["k", "x"]).unwrap()),
        "x_running_median|x_rolling_max/2.0|3/1.0|∅/1.0|∅/2.5|3/1.0|∅/1.5|∅"
    );
}

#[test]
fn columns_are_described() {
    let t = table("n,s,d\n1,b,2024-01-01\n2,,2024-01-03\n4,a,\n");
    assert_eq!(
        shown(&t.describe().unwrap()),
        "column|type|not_null|nulls|mean|std|min|q25|median|q75|max\
         /n|Int64|3|0|2.3333333333333335|1.5275252316519465|1|1.5|2.0|3.0|4\
         /s|Utf8|2|1|∅|∅|a|∅|∅|∅|b\
         /d|Date32|2|1|∅|∅|2024-01-01|∅|∅|∅|2024-01-03"
    );
    assert_eq!(table("a\n").describe().unwrap().rows(), 1);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Kind {
    Cat,
    Dog,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Animal {
    name: String,
    kind: Kind,
    mass: Option<f64>,
    age: u8,
    toys: Vec<i64>,
}

#[test]
fn rows_of_a_type_are_written_and_read() {
    let animal = |name: &str, kind, mass| Animal {
        name: name.into(),
        kind,
        mass,
        age: 3,
        toys: vec![1, 2],
    };
    let animals = vec![animal("Ada", Kind::Cat, None), animal("Bo", Kind::Dog, Some(4.5))];
    let t = Table::from_rows(&animals).unwrap();
    assert_eq!(t.columns(), ["name", "kind", "mass", "age", "toys"]);
    assert_eq!(types(&t)[..4], ["Utf8", "Utf8", "Float64", "UInt8"]);
    assert_eq!(t.to_rows::<Animal>().unwrap(), animals);
    assert_eq!(Table::from_rows(animals.clone()).unwrap(), t);
    #[derive(Deserialize, PartialEq, Debug)]
    struct Mass {
        mass: f64,
    }
    assert_eq!(t.tail(1).to_rows::<Mass>().unwrap(), [Mass { mass: 4.5 }]);
    assert_eq!(
        error(t.to_rows::<Mass>()),
        "row 0, field `mass`: required array value is null"
    );
    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "it is only read")]
    struct Small {
        n: i8,
    }
    assert_eq!(
        error(table("n\n1\n300\n").to_rows::<Small>()),
        "row 1, field `n`: integer conversion failed: out of range integral type conversion attempted"
    );
    assert_eq!(
        error(table("x\n1\n").to_rows::<Small>()),
        "row 0: deserialization failed: missing field `n`"
    );
    assert_eq!(
        error(Table::from_rows([0; 0])),
        "there are no rows, so the columns are unknown: use Table::new with empty columns"
    );
    assert_eq!(
        error(Table::from_rows([1, 2])),
        "a row must be a value with named fields, such as a struct"
    );
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(&'static str),
    }
    let mixed = [Either::Number(1), Either::Number(2), Either::Text("x"), Either::Number(3)];
    let mixed = mixed.map(|value| BTreeMap::from([("v", value)]));
    assert_eq!(
        error(Table::from_rows(mixed)),
        "row 2, field `v`: mismatched primitive types: previous Int64 , current Utf8"
    );
    let day = table("d\n2024-02-29\n").to_rows::<BTreeMap<String, String>>().unwrap();
    assert_eq!(day[0]["d"], "2024-02-29");
    let names = table("n\na\n").to_rows::<BTreeMap<String, String>>().unwrap();
    assert_eq!(shown(&Table::from_rows(names).unwrap()), "n/a");
    let kinds: DictionaryArray<Int8Type> = [Some("Cat"), Some("Dog")].into_iter().collect();
    #[derive(Deserialize, PartialEq, Debug)]
    struct Only {
        a: Kind,
    }
    assert_eq!(
        one(kinds.into_column()).to_rows::<Only>().unwrap(),
        [Only { a: Kind::Cat }, Only { a: Kind::Dog }]
    );
}

/// Keys and values with many duplicates and nulls.
fn pairs() -> impl Strategy<Value = Vec<(Option<i64>, Option<u32>)>> {
    prop::collection::vec((prop::option::of(0_i64..4), prop::option::of(0_u32..1000)), 0..30)
}

fn pair_table(pairs: &[(Option<i64>, Option<u32>)], value: &str) -> Table {
    let table = Table::new([("k", pairs.iter().map(|pair| pair.0).collect::<Vec<_>>())]).unwrap();
    table
        .with(value, pairs.iter().map(|pair| pair.1).collect::<Vec<_>>())
        .unwrap()
}

fn pairs_of(table: &Table, columns: [&str; 2]) -> Vec<(Option<f64>, Option<f64>)> {
    let [a, b] = columns.map(|name| table.f64(name).unwrap());
    a.iter().zip(b.iter()).collect()
}

fn floats(pairs: impl IntoIterator<Item = (Option<i64>, Option<u32>)>) -> Vec<(Option<f64>, Option<f64>)> {
    pairs
        .into_iter()
        .map(|(a, b)| (a.map(|a| a as f64), b.map(f64::from)))
        .collect()
}

proptest! {
    #[test]
    fn sorts_are_those_of_std(pairs in pairs()) {
        let sorted = pair_table(&pairs, "v").sort(["k".into(), desc("v")]).unwrap();
        let mut expected = pairs.clone();
        let last = |a: &Option<i64>| a.unwrap_or(i64::MAX);
        expected.sort_by_key(|(k, v)| (last(k), v.map_or(i64::MAX, |v| -i64::from(v))));
        prop_assert_eq!(pairs_of(&sorted, ["k", "v"]), floats(expected));
    }

    #[test]
    fn groups_are_those_of_a_search(pairs in pairs()) {
        let grouped = pair_table(&pairs, "v").group_by(["k"]).unwrap().aggregate([count(), sum("v"), max("v"), median("v")]).unwrap();
        let mut keys: Vec<Option<i64>> = Vec::new();
        for (key, _) in &pairs {
            if !keys.contains(key) {
                keys.push(*key);
            }
        }
        prop_assert_eq!(grouped.rows(), keys.len());
        for (row, key) in keys.iter().enumerate() {
            let rows: Vec<_> = pairs.iter().filter(|pair| pair.0 == *key).collect();
            let mut values: Vec<f64> = rows.iter().filter_map(|pair| pair.1.map(f64::from)).collect();
            let get = |name: &str| grouped.f64(name).unwrap().iter().nth(row).unwrap();
            prop_assert_eq!(get("k"), key.map(|key| key as f64));
            prop_assert_eq!(get("count"), Some(rows.len() as f64));
            prop_assert_eq!(get("v_sum"), values.iter().copied().reduce(|a, b| a + b));
            prop_assert_eq!(get("v_max"), values.iter().copied().reduce(f64::max));
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            let expected = match values.len() {
                0 => None,
                count if count % 2 == 1 => Some(values[middle]),
                _ => Some((values[middle - 1] + values[middle]) / 2.0),
            };
            prop_assert_eq!(get("v_median"), expected);
        }
    }

    #[test]
    fn joins_are_those_of_nested_loops(left in pairs(), right in pairs()) {
        let tables = (pair_table(&left, "l"), pair_table(&right, "r"));
        let matches = |a: &(Option<i64>, Option<u32>), b: &(Option<i64>, Option<u32>)| a.0.is_some() && a.0 == b.0;
        for join in [Join::Inner, Join::Left, Join::Right, Join::Full] {
            let mut expected = Vec::new();
            for a in &left {
                let found: Vec<_> = right.iter().filter(|b| matches(a, b)).collect();
                expected.extend(found.iter().map(|b| (a.1, b.1)));
                if found.is_empty() && matches!(join, Join::Left | Join::Full) {
                    expected.push((a.1, None));
                }
            }
            if let Join::Right | Join::Full = join {
                let lonely = right.iter().filter(|b| !left.iter().any(|a| matches(a, b)));
                expected.extend(lonely.map(|b| (None, b.1)));
            }
            let joined = tables.0.join(&tables.1, ["k"], join).unwrap();
            let expected: Vec<_> = expected.into_iter().map(|(a, b)| (a.map(f64::from), b.map(f64::from))).collect();
            prop_assert_eq!(pairs_of(&joined, ["l", "r"]), expected, "{:?}", join);
        }
        let semi = tables.0.join(&tables.1, ["k"], Join::Semi).unwrap();
        let anti = tables.0.join(&tables.1, ["k"], Join::Anti).unwrap();
        let (has, lacks): (Vec<_>, Vec<_>) = left.iter().copied().partition(|a| right.iter().any(|b| matches(a, b)));
        prop_assert_eq!(pairs_of(&semi, ["k", "l"]), floats(has));
        prop_assert_eq!(pairs_of(&anti, ["k", "l"]), floats(lacks));
    }
}
