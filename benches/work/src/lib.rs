//! The computations of the benches: plain functions, which are called natively, and steps that wrap them.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use lockstep::prelude::*;
use lockstep::table::{Join, col, count, desc, mean};

/// The side of the matrices.
pub const SIDE: usize = 512;

const BLOCK: usize = 64;

/// Multiplies two `SIDE` x `SIDE` matrices of doubles block by block, `times` times. Returns the sum of the product's elements.
pub fn multiply(times: usize) -> f64 {
    let fill = |seed: usize| -> Vec<f64> { (0..SIDE * SIDE).map(|i| ((i * 7 + seed) % 13) as f64 - 6.0).collect() };
    let (a, b) = (fill(1), fill(2));
    let mut sum = 0.0;
    for _ in 0..times {
        let mut c = vec![0.0; SIDE * SIDE];
        for (i0, k0, j0) in blocks() {
            for i in i0..i0 + BLOCK {
                for k in k0..k0 + BLOCK {
                    let factor = a[i * SIDE + k];
                    let from = &b[k * SIDE + j0..k * SIDE + j0 + BLOCK];
                    let to = &mut c[i * SIDE + j0..i * SIDE + j0 + BLOCK];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += factor * from;
                    }
                }
            }
        }
        sum += c.iter().sum::<f64>();
    }
    sum
}

fn blocks() -> impl Iterator<Item = (usize, usize, usize)> {
    let starts = || (0..SIDE).step_by(BLOCK);
    starts().flat_map(move |i| starts().flat_map(move |k| starts().map(move |j| (i, k, j))))
}

/// Returns count and mean of the third column by the second, for CSV with a header.
pub fn group_by(csv: impl Read) -> Result<BTreeMap<String, (u64, f64)>> {
    let mut groups: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    let mut reader = csv::Reader::from_reader(csv);
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row)? {
        let value: f64 = row[2].parse()?;
        match groups.get_mut(&row[1]) {
            Some((count, sum)) => (*count, *sum) = (*count + 1, *sum + value),
            None => drop(groups.insert(row[1].to_owned(), (1, value))),
        }
    }
    for (count, mean) in groups.values_mut() {
        *mean /= *count as f64;
    }
    Ok(groups)
}

/// Like [`group_by`], for tables with these columns.
pub fn group_tables(tables: impl Iterator<Item = Result<Table>>) -> Result<BTreeMap<String, (u64, f64)>> {
    let mut groups: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for table in tables {
        let table = table?;
        let (carriers, delays) = (table.str("carrier")?, table.f64("delay")?);
        for (carrier, delay) in carriers.iter().zip(&delays) {
            let (carrier, delay) = carrier.zip(delay).context("a field is empty")?;
            match groups.get_mut(carrier) {
                Some((count, sum)) => (*count, *sum) = (*count + 1, *sum + delay),
                None => drop(groups.insert(carrier.to_owned(), (1, delay))),
            }
        }
    }
    for (count, mean) in groups.values_mut() {
        *mean /= *count as f64;
    }
    Ok(groups)
}

/// Reads everything in pieces of 1 MiB. Returns the number of bytes.
pub fn read_all(mut input: impl Read) -> Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => bytes += count as u64,
        }
    }
}

/// Returns the number of lines of a text that are not empty.
pub fn lines(text: impl BufRead) -> Result<u64> {
    let mut count = 0;
    for line in text.lines() {
        count += u64::from(!line?.is_empty());
    }
    Ok(count)
}

/// Returns the number of flights that are late, `times` times.
pub fn filter(flights: &Table, times: usize) -> Result<usize> {
    (0..times).try_fold(0, |rows, _| Ok(rows + flights.filter(col("delay").gt(15.0))?.rows()))
}

/// Sorts by two columns, `times` times. Returns the number of rows.
pub fn sort(flights: &Table, times: usize) -> Result<usize> {
    (0..times).try_fold(
        0,
        |rows, _| Ok(rows + flights.sort(["carrier".into(), desc("delay")])?.rows()),
    )
}

/// Aggregates by a text, `times` times. Returns the number of groups.
pub fn group(flights: &Table, times: usize) -> Result<usize> {
    (0..times).try_fold(0, |groups, _| {
        let means = flights.group_by(["carrier"])?.aggregate([count(), mean("delay")])?;
        Ok(groups + means.rows())
    })
}

/// Joins with a row for each carrier, `times` times. Returns the number of rows.
pub fn join(flights: &Table, times: usize) -> Result<usize> {
    let carriers = flights.select(["carrier"])?.distinct()?;
    let carriers = carriers.with("number", (0..carriers.rows() as i64).collect::<Vec<_>>())?;
    (0..times).try_fold(0, |rows, _| {
        Ok(rows + flights.join(&carriers, ["carrier"], Join::Left)?.rows())
    })
}

/// The steps.
pub mod steps {
    use std::collections::BTreeMap;

    use lockstep::prelude::*;

    /// [`multiply`](super::multiply).
    #[step]
    pub fn multiply(times: Param<usize>) -> f64 {
        super::multiply(*times)
    }

    /// [`group_by`](super::group_by).
    #[step]
    pub fn group_by(input: Reader) -> Result<BTreeMap<String, (u64, f64)>> {
        super::group_by(input)
    }

    /// [`group_tables`](super::group_tables).
    #[step]
    pub fn group_tables(input: TableReader) -> Result<BTreeMap<String, (u64, f64)>> {
        super::group_tables(input)
    }

    /// [`read_all`](super::read_all).
    #[step]
    pub fn read(input: Reader) -> Result<u64> {
        super::read_all(input)
    }

    /// [`lines`](super::lines).
    #[step]
    pub fn lines(input: Reader) -> Result<u64> {
        super::lines(input)
    }

    /// Returns the number of rows of a table.
    #[step]
    pub fn rows(input: Table) -> usize {
        input.rows()
    }

    /// [`filter`](super::filter).
    #[step]
    pub fn filter(input: Table, times: Param<usize>) -> Result<usize> {
        super::filter(&input, *times)
    }

    /// [`sort`](super::sort).
    #[step]
    pub fn sort(input: Table, times: Param<usize>) -> Result<usize> {
        super::sort(&input, *times)
    }

    /// [`group`](super::group).
    #[step]
    pub fn group(input: Table, times: Param<usize>) -> Result<usize> {
        super::group(&input, *times)
    }

    /// [`join`](super::join).
    #[step]
    pub fn join(input: Table, times: Param<usize>) -> Result<usize> {
        super::join(&input, *times)
    }

    /// Aggregates by a number, in SQL.
    #[step]
    pub fn sql(input: Table) -> Result<Table> {
        sql!("select key, avg(value) as mean, count(*) as count from {input} group by key order by key")
    }

    /// Does nothing; measures the minimum cost of a run.
    #[step]
    pub fn nothing() {}
}
