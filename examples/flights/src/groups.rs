use std::collections::BTreeMap;

use lockstep::prelude::*;

/// Flights, how many of them were late, and the sum of their delays.
#[derive(Clone, Copy, Default)]
struct Group {
    flights: i64,
    late: i64,
    delay: f64,
}

impl Group {
    fn share(&self) -> f64 {
        self.late as f64 / self.flights as f64
    }
}

/// Groups rows by a column.
fn group(rows: &Table, column: &str) -> Result<BTreeMap<String, Group>> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let (late, delay) = (rows.f64("late")?, rows.f64("arr_delay")?);
    for ((key, late), delay) in rows.str(column)?.iter().zip(&late).zip(&delay) {
        let group = groups.entry(key.unwrap_or_default().to_owned()).or_default();
        group.flights += 1;
        group.late += late.unwrap_or_default() as i64;
        group.delay += delay.unwrap_or_default();
    }
    Ok(groups)
}

/// Say how often each carrier is late, the worst first.
#[step(output = "carriers")]
pub fn by_carrier(
    /// flights, joined
    rows: Table,
    /// the names of the carriers
    airlines: Table,
) -> Result<Table> {
    let (codes, names) = (airlines.str("carrier")?, airlines.str("name")?);
    let names: BTreeMap<&str, &str> = codes.iter().flatten().zip(names.iter().flatten()).collect();
    let mut groups: Vec<(String, Group)> = group(&rows, "carrier")?.into_iter().collect();
    groups.sort_by(|(_, a), (_, b)| b.share().total_cmp(&a.share()));
    let name = |code: &String| names.get(code.as_str()).copied().unwrap_or(code).to_owned();
    Table::new([("carrier", groups.iter().map(|(code, _)| name(code)).collect::<Vec<_>>())])?
        .with("flights", groups.iter().map(|(_, group)| group.flights).collect::<Vec<_>>())?
        .with("late", groups.iter().map(|(_, group)| group.share()).collect::<Vec<_>>())?
        .with(
            "mean delay",
            groups
                .iter()
                .map(|(_, group)| group.delay / group.flights as f64)
                .collect::<Vec<_>>(),
        )
}

/// Part the flights by month.
#[step(output = "months")]
pub fn months(
    /// flights, joined
    rows: Table,
) -> Result<Parts<Table>> {
    let month = rows.f64("month")?;
    let parts = (1..=12).map(|number| {
        let keep: Vec<bool> = month.iter().map(|month| month == Some(f64::from(number))).collect();
        Ok((format!("{number:02}"), rows.filter(&keep)?))
    });
    parts.collect::<Result<Vec<_>>>().map(Parts::from_iter)
}

/// Say how often flights are late, by the hour in which they should leave.
#[step(output = "hours")]
pub fn by_hour(
    /// flights, joined
    rows: Table,
) -> Result<Table> {
    let mut groups: Vec<(i64, Group)> = Vec::new();
    for (hour, group) in group(&rows, "hour")? {
        groups.push((hour.parse()?, group));
    }
    groups.sort_by_key(|(hour, _)| *hour);
    Table::new([("hour", groups.iter().map(|(hour, _)| *hour).collect::<Vec<_>>())])?
        .with("flights", groups.iter().map(|(_, group)| group.flights).collect::<Vec<_>>())?
        .with("late", groups.iter().map(|(_, group)| group.share()).collect::<Vec<_>>())
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
