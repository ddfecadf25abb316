use std::collections::BTreeMap;

use lockstep::arrow::array::Array;
use lockstep::prelude::*;

use crate::LATE;

/// What is known of the weather at an airport in an hour.
const WEATHER: [&str; 5] = ["temp", "humid", "wind_speed", "precip", "visib"];

/// Join flights with the weather at their departure and with the year that the plane was built; leave out those that did not land where they should
/// have, or of which not all is known.
#[step(output = "rows")]
pub fn join(
    /// the flights
    flights: Table,
    /// the weather at the airports of New York, hour by hour
    weather: Table,
    /// the planes
    planes: Table,
) -> Result<Table> {
    let weather = Weather::new(&weather)?;
    let built = built(&planes)?;
    let (origins, hours, tails) = (flights.str("origin")?, flights.str("time_hour")?, flights.str("tailnum")?);
    let (delays, years) = (flights.f64("arr_delay")?, flights.f64("year")?);

    let mut kept = Vec::new();
    let (mut late, mut age) = (Vec::new(), Vec::new());
    let mut then: [Vec<f64>; WEATHER.len()] = Default::default();
    for row in 0..flights.rows() {
        if row % 10_000 == 0 {
            progress(row as u64, flights.rows() as u64);
        }
        let plane = built.get(tails.value(row));
        let (Some(year), Some(at)) = (plane, weather.at(origins.value(row), hours.value(row))) else {
            continue;
        };
        if delays.is_null(row) {
            continue;
        }
        kept.push(row);
        late.push(delays.value(row) >= LATE);
        age.push(years.value(row) - year);
        for (column, value) in then.iter_mut().zip(at) {
            column.push(*value);
        }
    }
    let columns = ["month", "hour", "carrier", "origin", "dest", "distance", "arr_delay"];
    let mut rows = flights.select(columns)?.take(&kept)?.with("age", age)?.with("late", late)?;
    for (name, column) in WEATHER.into_iter().zip(then) {
        rows = rows.with(name, column)?;
    }
    Ok(rows)
}

/// The weather by airport and hour.
struct Weather(BTreeMap<(String, String), [f64; WEATHER.len()]>);

impl Weather {
    fn new(table: &Table) -> Result<Self> {
        let (origins, hours) = (table.str("origin")?, table.str("time_hour")?);
        let columns = WEATHER.map(|name| table.f64(name));
        let mut all = BTreeMap::new();
        for row in 0..table.rows() {
            let mut values = [0.0; WEATHER.len()];
            let mut whole = true;
            for (value, column) in values.iter_mut().zip(&columns) {
                let column = column.as_ref().map_err(|error| Error::msg(format!("{error:#}")))?;
                whole &= !column.is_null(row);
                *value = column.value(row);
            }
            if whole {
                all.insert((origins.value(row).to_owned(), hours.value(row).to_owned()), values);
            }
        }
        Ok(Self(all))
    }

    fn at(&self, origin: &str, hour: &str) -> Option<&[f64; WEATHER.len()]> {
        self.0.get(&(origin.to_owned(), hour.to_owned()))
    }
}

/// The year that each plane was built, where it is known.
fn built(planes: &Table) -> Result<BTreeMap<String, f64>> {
    let (tails, years) = (planes.str("tailnum")?, planes.f64("year")?);
    let known = tails
        .iter()
        .zip(&years)
        .filter_map(|(tail, year)| Some((tail?.to_owned(), year?)));
    Ok(known.collect())
}
