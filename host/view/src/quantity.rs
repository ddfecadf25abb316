//! Human-readable amounts.

use std::time::Duration;

use bytesize::ByteSize;

/// Parses a number of bytes: `1GiB`, `512 MB`, `4096`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "expected a number of bytes, such as 512MiB, 2GB or 4096".to_owned())?;
    Ok(size.as_u64())
}

/// Parses a duration: `30s`, `2m 30s`, `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration with a unit, such as 500ms, 30s or 2m".to_owned())
}

/// Parses a number with optional underscores: `1_000_000`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| "expected an integer, such as 1_000_000".to_owned())
}

/// Formats a number of bytes: `17 B`, `1.5 KiB`.
pub fn bytes(size: u64) -> String {
    ByteSize(size).display().iec().to_string()
}

/// Formats microseconds: `350 µs`, `1.2 ms`, `4.5 s`, `3 m 20 s`.
pub fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        _ => format!("{} m {} s", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

/// Formats an age: `now`, `5 s`, `3 min`, `2 h`, `12 d`.
pub fn age(age: Duration) -> String {
    match age.as_secs() {
        0 => "now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Formats a number of things: `1,234 artifacts`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Formats a number: `1,234,567`.
pub fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("1GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("1.5 kB"), Ok(1500));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("much").is_err());
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("30").is_err());
        assert_eq!(parse_count("1_000"), Ok(1000));
    }

    #[test]
    fn amounts_are_written_as_people_read_them() {
        assert_eq!([bytes(17), bytes(1536), bytes(3 << 30)], ["17 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(
            [micros(350), micros(1_234), micros(4_500_000), micros(200_000_000)],
            ["350 µs", "1.2 ms", "4.5 s", "3 m 20 s"]
        );
        assert_eq!([age(Duration::ZERO), age(Duration::from_secs(7200))], ["now", "2 h"]);
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
