//! Tables in the sandbox, compared with Arrow's own functions, with the same source compiled natively, and with DataFusion.

use std::fs::File;
use std::hint::black_box;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Format;
use arrow_ipc::writer::StreamWriter;
use arrow_ord::cmp::gt;
use arrow_ord::sort::{SortColumn, SortOptions, lexsort_to_indices};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use lockstep::Table as Rows;
use serde_json::json;

use crate::compute::rows;
use crate::measure::{ROOT, Surroundings, Table, execute, median};

const CSV_BYTES: usize = 50 << 20;
const TIMES: usize = 5;
const SQL_ROWS: i64 = 10_000_000;

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let csv = surroundings.directory.path().join("flights.csv");
    std::fs::write(&csv, rows(CSV_BYTES))?;
    let runtime = surroundings.runtime("tables")?;

    let native = median(5, || read(&csv).map(|batch| drop(black_box(batch))))?;
    let input = runtime.store.import(&csv)?;
    let read_csv = surroundings.step(&runtime.store, "rows", Some(input), &[])?;
    let ours = median(5, || execute(&runtime, &read_csv).map(drop))?;
    table.ratio("CSV of 50 MB as a table", ours, "arrow-csv, native", native, "<= 1.5");

    let flights = read(&csv)?;
    let arrow = surroundings.directory.path().join("flights.arrow");
    write(&arrow, &flights)?;
    let input = runtime.store.import(&arrow)?;
    let step = |name: &str| -> Result<Duration> {
        let once = |times: usize| {
            let run = surroundings.step(&runtime.store, name, Some(input.clone()), &[("times", json!(times))])?;
            median(3, || execute(&runtime, &run).map(drop))
        };
        // without reading the input
        Ok(once(TIMES)?.saturating_sub(once(0)?))
    };
    let native = |work: &dyn Fn(usize) -> Result<usize>| median(3, || work(TIMES).map(|rows| _ = black_box(rows)));
    let own = Rows::from(flights.clone());
    let delay = flights.column_by_name("delay").context("no delay")?;
    let carrier = flights.column_by_name("carrier").context("no carrier")?;

    let arrows = native(&|times| {
        (0..times).try_fold(0, |rows, _| {
            let late = gt(delay, &Float64Array::new_scalar(15.0))?;
            Ok(rows + filter_record_batch(&flights, &late)?.num_rows())
        })
    })?;
    table.ratio("filter a million rows", step("filter")?, "arrow, native", arrows, "<= 1.5");
    let arrows = native(&|times| {
        let order = |values: &ArrayRef, descending| SortColumn {
            values: values.clone(),
            options: Some(SortOptions {
                descending,
                nulls_first: false,
            }),
        };
        (0..times).try_fold(0, |rows, _| {
            let indices = lexsort_to_indices(&[order(carrier, false), order(delay, true)], None)?;
            Ok(rows + take_record_batch(&flights, &indices)?.num_rows())
        })
    })?;
    table.ratio(
        "sort a million rows by two columns",
        step("sort")?,
        "arrow, native",
        arrows,
        "<= 1.5",
    );
    let same = native(&|times| work::group(&own, times).map_err(Into::into))?;
    table.ratio("group a million rows", step("group")?, "native, same source", same, "<= 1.5");
    let same = native(&|times| work::join(&own, times).map_err(Into::into))?;
    table.ratio("join a million rows", step("join")?, "native, same source", same, "<= 1.5");
    sql(surroundings, table)
}

/// Reads CSV with Arrow's own reader.
fn read(csv: &Path) -> Result<RecordBatch> {
    let format = Format::default().with_header(true);
    let (schema, _) = format.infer_schema(BufReader::new(File::open(csv)?), None)?;
    let reader = ReaderBuilder::new(Arc::new(schema)).with_format(format);
    let reader = reader.with_batch_size(8192).build(File::open(csv)?)?;
    let schema = reader.schema();
    Ok(concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)?)
}

fn write(path: &Path, batch: &RecordBatch) -> Result<()> {
    let mut writer = StreamWriter::try_new(File::create(path)?, batch.schema_ref())?;
    writer.write(batch)?;
    Ok(writer.finish()?)
}

/// Measures a query, with reading the table that it queries.
fn sql(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    const TITLE: &str = "SQL group-by of 10 million rows";
    let path = surroundings.directory.path().join("numbers.arrow");
    let keys = Int64Array::from_iter_values((0..SQL_ROWS).map(|row| row.wrapping_mul(2_654_435_761) % 1000));
    let values = Float64Array::from_iter_values((0..SQL_ROWS).map(|row| row as f64 * 0.5));
    let columns = [("key", Arc::new(keys) as ArrayRef), ("value", Arc::new(values))];
    write(&path, &RecordBatch::try_from_iter(columns)?)?;
    let runtime = surroundings.runtime("sql")?;
    let input = runtime.store.import(&path)?;
    let run = surroundings.step(&runtime.store, "sql", Some(input), &[])?;
    let ours = median(3, || execute(&runtime, &run).map(drop))?;

    let python = Path::new(ROOT).join("target/peers/bin/python");
    let peer = Command::new(&python)
        .arg(format!("{ROOT}/benches/sql.py"))
        .arg(&path)
        .output();
    match peer {
        Ok(output) if output.status.success() => {
            let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
            let theirs = Duration::from_secs_f64(seconds);
            table.ratio(TITLE, ours, "DataFusion, native, one thread", theirs, "<= 2");
        }
        _ => table.missing(TITLE, "DataFusion is not installed"),
    }
    Ok(())
}
