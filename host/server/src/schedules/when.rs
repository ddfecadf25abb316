//! The times of a schedule: a cron expression in a time zone.

use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use lockstep_view::error::{Error, Result};

/// The fields of an expression.
const FIELDS: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];

/// The times at which a schedule is due.
#[derive(Clone, Debug)]
pub struct When {
    cron: Cron,
    zone: Tz,
}

impl When {
    /// Parses an expression of five fields, or a name such as `@daily`, in a time zone of the IANA database.
    pub fn parse(cron: &str, zone: &str) -> Result<Self> {
        let zone = zone.parse::<Tz>().map_err(|_| {
            Error::user(format_args!("unknown time zone `{zone}`"))
                .hint("give a name of the IANA database, such as Europe/Vienna")
        })?;
        let cron = read(cron).map_err(|why| wrong(cron, &why))?;
        Ok(Self { cron, zone })
    }

    /// Returns the first time after `ms`; `None` if there is none. Both are in milliseconds of Unix time.
    pub fn next(&self, ms: u64) -> Option<u64> {
        let after = DateTime::from_timestamp_millis(ms.try_into().ok()?)?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        next.timestamp_millis().try_into().ok()
    }

    /// Returns a time as `2026-12-01T06:00:00+01:00`, in the zone of the schedule.
    pub fn text(&self, ms: u64) -> String {
        let time = ms.try_into().ok().and_then(DateTime::from_timestamp_millis);
        time.map_or_else(String::new, |time| time.with_timezone(&self.zone).to_rfc3339())
    }

    /// Returns the expression in words.
    pub fn words(&self) -> String {
        self.cron.describe()
    }
}

fn read(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    parser.parse(text).map_err(|error| error.to_string())
}

/// Returns the error about an expression, with the field that is wrong.
fn wrong(text: &str, why: &str) -> Error {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let place = match fields.len() {
        5 => fields.iter().enumerate().find_map(|(at, field)| {
            let mut alone = ["*"; 5];
            alone[at] = field;
            let why = read(&alone.join(" ")).err()?;
            Some(format!("field {} ({}), `{field}`: {why}", at + 1, FIELDS[at]))
        }),
        count => Some(format!("expected 5 fields, found {count}")),
    };
    Error::user(format_args!(
        "invalid cron expression `{text}`: {}",
        place.unwrap_or_else(|| why.to_owned())
    ))
    .hint(
        "the fields are minute, hour, day of the month, month and day of the week, as in \"0 6 * * *\" for 6 o'clock every day",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let when = When::parse(cron, zone).unwrap();
        let after = DateTime::parse_from_rfc3339(after).unwrap().timestamp_millis() as u64;
        let mut times = vec![after];
        for _ in 0..count {
            times.push(when.next(*times.last().unwrap()).unwrap());
        }
        times[1..].iter().map(|ms| when.text(*ms)).collect()
    }

    #[test]
    fn times_are_those_of_the_zone_also_when_its_clocks_change() {
        assert_eq!(
            times("0 6 * * *", "Europe/Vienna", "2026-03-27T12:00:00Z", 3),
            [
                "2026-03-28T06:00:00+01:00",
                "2026-03-29T06:00:00+02:00",
                "2026-03-30T06:00:00+02:00"
            ]
        );
        // 02:30 does not exist on the first of these days, and exists twice on the second
        let spring = times("30 2 * * *", "Europe/Vienna", "2026-03-28T12:00:00Z", 2);
        assert_eq!(spring, ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]);
        let autumn = times("30 2 * * *", "Europe/Vienna", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
        assert_eq!(
            times("0 6 * * MON", "UTC", "2026-11-30T06:00:00Z", 1),
            ["2026-12-07T06:00:00+00:00"]
        );
    }

    #[test]
    fn what_never_comes_has_no_next_time() {
        assert_eq!(When::parse("0 0 30 2 *", "UTC").unwrap().next(0), None);
    }

    #[test]
    fn errors_name_the_field() {
        for (cron, says) in [
            ("0 25 * * *", "invalid cron expression `0 25 * * *`: field 2 (hour), `25`: "),
            (
                "0 6 * * MOO",
                "invalid cron expression `0 6 * * MOO`: field 5 (day of the week), `MOO`: ",
            ),
            ("0 6 * *", "invalid cron expression `0 6 * *`: expected 5 fields, found 4"),
            (
                "0 0 6 * * *",
                "invalid cron expression `0 0 6 * * *`: expected 5 fields, found 6",
            ),
            ("", "invalid cron expression ``: expected 5 fields, found 0"),
            ("@never", "invalid cron expression `@never`: expected 5 fields, found 1"),
        ] {
            let error = When::parse(cron, "UTC").unwrap_err();
            assert!(error.message().starts_with(says), "{error}");
        }
        let error = When::parse("0 6 * * *", "Vienna").unwrap_err();
        assert_eq!(error.message(), "unknown time zone `Vienna`");
    }
}
