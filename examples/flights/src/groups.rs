use lockstep::prelude::*;
use lockstep::table::{Join, col, count, desc, mean};

/// Say how often each carrier is late, the worst first.
#[step(output = "carriers")]
pub fn by_carrier(
    /// flights, joined
    rows: Table,
    /// the names of the carriers
    airlines: Table,
) -> Result<Table> {
    let carriers = rows.group_by(["carrier"])?.aggregate([
        count().name("flights"),
        mean("late").name("late"),
        mean("arr_delay").name("mean delay"),
    ])?;
    carriers
        .sort([desc("late"), "carrier".into()])?
        .join(&airlines.select(["carrier", "name"])?, ["carrier"], Join::Left)?
        .with("carrier", col("name").fill_null(col("carrier")))?
        .drop(["name"])
}

/// Part the flights by month.
#[step(output = "months")]
pub fn months(
    /// flights, joined
    rows: Table,
) -> Result<Parts<Table>> {
    let parts = (1..=12).map(|month| Ok((format!("{month:02}"), rows.filter(col("month").eq(month))?)));
    parts.collect::<Result<Vec<_>>>().map(Parts::from_iter)
}

/// Say how often flights are late, by the hour in which they should leave.
#[step(output = "hours")]
pub fn by_hour(
    /// flights, joined
    rows: Table,
) -> Result<Table> {
    let hours = rows.group_by(["hour"])?;
    hours
        .aggregate([count().name("flights"), mean("late").name("late")])?
        .sort(["hour"])
}

/// Put the months' tables below one another, each with its number.
#[step(output = "hours")]
pub fn gather(
    /// a table for each month
    tables: Parts<Table>,
) -> Result<Table> {
    let mut all = Vec::new();
    for (month, table) in (1i64..).zip(tables) {
        let (_, table) = table?;
        all.push(table.with("month", vec![month; table.rows()])?);
    }
    Table::concat(&all)
}
