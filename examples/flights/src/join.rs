use lockstep::ColumnType;
use lockstep::prelude::*;
use lockstep::table::{Join, col};

use crate::LATE;

/// What is known of the weather at an airport in an hour.
const WEATHER: [&str; 5] = ["temp", "humid", "wind_speed", "precip", "visib"];

/// The other columns of the result.
const COLUMNS: [&str; 9] = [
    "month",
    "hour",
    "carrier",
    "origin",
    "dest",
    "distance",
    "arr_delay",
    "age",
    "late",
];

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
    let mut weather = weather.select(["origin", "time_hour"].iter().chain(&WEATHER))?;
    for name in WEATHER {
        weather = weather.filter(col(name).is_not_null())?.cast(name, ColumnType::Float)?;
    }
    let planes = planes.select(["tailnum", "year"])?.rename([("year", "built")])?;
    let rows = flights
        .filter(col("arr_delay").is_not_null())?
        .join(&planes.filter(col("built").is_not_null())?, ["tailnum"], Join::Inner)?
        .join(&weather, ["origin", "time_hour"], Join::Inner)?
        .with("age", col("year") - col("built"))?
        .cast("age", ColumnType::Float)?
        .with("late", col("arr_delay").ge(LATE))?;
    rows.select(COLUMNS.iter().chain(&WEATHER))
}
