//! The first difference of two artifacts, located by media type.

mod records;
mod table;

use std::fmt;

use bytes::Bytes;
use lockstep_runtime::run::chunks;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Store;
use serde_json::{Value, json};

use crate::columns::{exact, fit};
use crate::content::{cbor_to_json, guess};
use crate::error::Result;

pub use records::{Changed, diff_records, differing};

/// The maximum width of a value.
const VALUE: usize = 60;

/// The first difference of two artifacts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The offset of the first byte that differs, from 0. In a directory: in the file that differs.
    pub offset: u64,
    /// The location, by media type.
    pub place: Location,
    /// The value in the first artifact; `None` past its end.
    pub left: Option<String>,
    /// The value in the second artifact.
    pub right: Option<String>,
}

/// A location in an artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// A character of a text. Lines and columns count from 1.
    Text {
        /// The line.
        line: u64,
        /// The column.
        column: u64,
    },
    /// A cell of a table. Rows count from 1, without the header.
    Cell {
        /// The row.
        row: u64,
        /// The name of the column.
        column: String,
    },
    /// The names and types of the columns of a table.
    Columns,
    /// A JSON pointer (RFC 6901).
    Pointer(String),
    /// A file of a directory, and the location in it.
    File(String, Box<Location>),
    /// Only the offset is known.
    Byte,
}

/// Compares two artifacts. Returns the first difference, or `None` if they are equal.
pub fn compare(store: &Store, left: &Artifact, right: &Artifact) -> Result<Option<Difference>> {
    if left.digest == right.digest {
        return Ok(None);
    }
    if left.is_directory() && right.is_directory() {
        return compare_directories(store, left, right);
    }
    let (a, b) = (store.get(&left.digest)?, store.get(&right.digest)?);
    let (kind, other) = (guess(&left.media_type, &a), guess(&right.media_type, &b));
    let kind = if kind == other { kind } else { MediaType::BYTES };
    Ok(first_byte(&a, &b).map(|at| of_kind(kind, a, b, at)))
}

fn of_kind(kind: &str, a: Bytes, b: Bytes, at: usize) -> Difference {
    let found = match kind {
        MediaType::TABLE => table::of_arrow(a.clone(), b.clone()),
        MediaType::CSV => table::of_csv(&a, &b).or_else(|| Some(in_text(&a, &b, at))),
        MediaType::JSON | MediaType::METRICS => in_values(|bytes| serde_json::from_slice(bytes).ok(), &a, &b),
        MediaType::VALUE => in_values(|bytes| Some(cbor_to_json(ciborium::from_reader(bytes).ok()?)), &a, &b),
        MediaType::TEXT | MediaType::FIGURE => Some(in_text(&a, &b, at)),
        MediaType::LOG => {
            let text = |bytes: &[u8]| chunks(bytes).flat_map(|chunk| chunk.bytes.to_vec()).collect::<Vec<u8>>();
            let (a, b) = (text(&a), text(&b));
            first_byte(&a, &b).map(|at| in_text(&a, &b, at))
        }
        _ => None,
    };
    let (place, left, right) = found.unwrap_or_else(|| in_bytes(&a, &b, at));
    Difference {
        offset: at as u64,
        place,
        left,
        right,
    }
}

/// A location with the left and the right value.
type Found = (Location, Option<String>, Option<String>);

fn compare_directories(store: &Store, left: &Artifact, right: &Artifact) -> Result<Option<Difference>> {
    let (a, b) = (store.list_directory(left)?, store.list_directory(right)?);
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    for name in names {
        let (offset, place, left, right) = match (a.get(name), b.get(name)) {
            (Some(left), Some(right)) => match compare(store, left, right)? {
                None => continue,
                Some(found) => (found.offset, found.place, found.left, found.right),
            },
            (left, right) => {
                let there = |artifact: Option<&Artifact>| artifact.map(|artifact| artifact.digest.short());
                (0, Location::Byte, there(left), there(right))
            }
        };
        return Ok(Some(Difference {
            offset,
            place: Location::File(name.clone(), Box::new(place)),
            left,
            right,
        }));
    }
    Ok(None)
}

/// Returns the offset of the first difference, which may be the end of the shorter one.
fn first_byte(a: &[u8], b: &[u8]) -> Option<usize> {
    const STRIDE: usize = 4096;
    let strides = a.chunks(STRIDE).zip(b.chunks(STRIDE));
    let same = strides.take_while(|(a, b)| a == b).count() * STRIDE;
    let same = same.min(a.len()).min(b.len());
    let rest = a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count();
    (same + rest < a.len().max(b.len())).then_some(same + rest)
}

fn in_bytes(a: &[u8], b: &[u8], at: usize) -> Found {
    let byte = |bytes: &[u8]| bytes.get(at).map(|byte| format!("0x{byte:02x}"));
    (Location::Byte, byte(a), byte(b))
}

fn in_text(a: &[u8], b: &[u8], at: usize) -> Found {
    let before = &a[..at];
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let place = Location::Text {
        line: before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1,
        column: String::from_utf8_lossy(&before[start..]).chars().count() as u64 + 1,
    };
    let line = |bytes: &[u8]| {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        // of a long line, the part around the difference
        let skip = (at - start).saturating_sub(VALUE / 2).min(line.len());
        let part = &line[skip..line.len().min(skip + 4 * VALUE)];
        Some(fit(&exact(&String::from_utf8_lossy(part)), VALUE))
    };
    (place, line(a), line(b))
}

fn in_values(read: impl Fn(&[u8]) -> Option<Value>, a: &[u8], b: &[u8]) -> Option<Found> {
    let (a, b) = (read(a)?, read(b)?);
    let mut pointer = String::new();
    let (left, right) = in_value(&a, &b, &mut pointer)?;
    let text = |value: Option<&Value>| value.map(|value| fit(&exact(&value.to_string()), VALUE));
    Some((Location::Pointer(pointer), text(left), text(right)))
}

/// Returns the first values that differ, and sets `pointer` to their location.
fn in_value<'a>(a: &'a Value, b: &'a Value, pointer: &mut String) -> Option<(Option<&'a Value>, Option<&'a Value>)> {
    let length = pointer.len();
    let mut below = |key: &str, a: Option<&'a Value>, b: Option<&'a Value>| {
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        let found = match (a, b) {
            (Some(a), Some(b)) => in_value(a, b, pointer),
            only => Some(only),
        };
        if found.is_none() {
            pointer.truncate(length);
        }
        found
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|key| below(key, a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|at| below(&at.to_string(), a.get(at), b.get(at)))
        }
        _ => (a != b).then_some((Some(a), Some(b))),
    }
}

impl Difference {
    /// Converts the difference to JSON.
    pub fn to_json(&self) -> Value {
        let mut object = self.place.to_json();
        object["offset"] = json!(self.offset);
        object["left"] = json!(self.left);
        object["right"] = json!(self.right);
        object
    }
}

impl Difference {
    /// Returns the text with the byte offset: `byte 17, row 3, column mass: 3750 and 3751`.
    pub fn with_byte(&self) -> String {
        match &self.place {
            Location::Byte => self.to_string(),
            Location::File(_, place) if **place == Location::Byte => self.to_string(),
            _ => format!("byte {}, {self}", self.offset),
        }
    }
}

impl Location {
    fn to_json(&self) -> Value {
        match self {
            Self::Text { line, column } => json!({ "line": line, "column": column }),
            Self::Cell { row, column } => json!({ "row": row, "column": column }),
            Self::Columns => json!({ "columns": true }),
            Self::Pointer(pointer) => json!({ "pointer": pointer }),
            Self::File(name, place) => {
                let mut object = place.to_json();
                object["file"] = json!(name);
                object
            }
            Self::Byte => json!({}),
        }
    }
}

/// Writes `row 3, column mass: 3750 and 3751`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Location::Byte => write!(f, "byte {}", self.offset)?,
            Location::File(name, place) if **place == Location::Byte => write!(f, "{name}, byte {}", self.offset)?,
            place => write!(f, "{place}")?,
        }
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, ": {} and {}", side(&self.left), side(&self.right))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { line, column } => write!(f, "line {line}, column {column}"),
            Self::Cell { row, column } if column.is_empty() => write!(f, "row {row}"),
            Self::Cell { row, column } => write!(f, "row {row}, column {}", fit(column, VALUE)),
            Self::Columns => f.write_str("the columns"),
            Self::Pointer(pointer) if pointer.is_empty() => f.write_str("the whole value"),
            Self::Pointer(pointer) => f.write_str(&fit(pointer, VALUE)),
            Self::File(name, place) => write!(f, "{}, {place}", fit(name, VALUE)),
            Self::Byte => f.write_str("bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(media_type: &str, a: &[u8], b: &[u8]) -> String {
        let store = Store::temporary().unwrap();
        let put = |bytes: &[u8]| store.put_artifact(bytes.to_vec(), &MediaType::new(media_type)).unwrap();
        let found = compare(&store, &put(a), &put(b)).unwrap();
        found.map_or_else(|| "the same".to_owned(), |found| found.to_string())
    }

    #[test]
    fn bytes_and_text() {
        assert_eq!(told("application/x", b"\0ab", b"\0ac"), "byte 2: 0x62 and 0x63");
        assert_eq!(told("application/x", b"\0a", b"\0ab"), "byte 2: nothing and 0x62");
        let long = vec![0; 10_000];
        assert_eq!(
            told("application/x", &long, &[&long[..9_000], &[1]].concat()),
            "byte 9000: 0x00 and 0x01"
        );
        assert_eq!(
            told("text/plain", "a\ngröße\n".as_bytes(), "a\ngröße!\n".as_bytes()),
            "line 2, column 6: größe and größe!"
        );
        assert_eq!(told("text/plain", b"a\n", b"a\nb\n"), "line 2, column 1: nothing and b");
        assert_eq!(told("text/plain", b"a", b"a"), "the same");
    }

    #[test]
    fn values() {
        let told = |a: &str, b: &str| told("application/json", a.as_bytes(), b.as_bytes());
        assert_eq!(told(r#"{"a/b":[1,2]}"#, r#"{"a/b":[1,3]}"#), "/a~1b/1: 2 and 3");
        assert_eq!(told(r#"{"a":1,"c":2}"#, r#"{"a":1,"b":2}"#), "/b: nothing and 2");
        assert_eq!(told("[1]", "2"), "the whole value: [1] and 2");
        assert_eq!(told("[1, 2]", "[1,2]"), "byte 3: 0x20 and 0x32");
        assert_eq!(told("[1", "[2"), "byte 1: 0x31 and 0x32");
    }

    #[test]
    fn directories() {
        let store = Store::temporary().unwrap();
        let directory = |files: &[(&str, &str)]| {
            let file = |(name, text): &(&str, &str)| {
                (
                    (*name).to_owned(),
                    store
                        .put_artifact(text.to_string(), &MediaType::new(MediaType::TEXT))
                        .unwrap(),
                )
            };
            store.put_directory(&files.iter().map(file).collect()).unwrap()
        };
        let told = |a: &[(&str, &str)], b: &[(&str, &str)]| {
            compare(&store, &directory(a), &directory(b)).unwrap().unwrap().to_string()
        };
        assert_eq!(
            told(&[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "3")]),
            "b, line 1, column 1: 2 and 3"
        );
        let lacks = told(&[("a", "1")], &[("a", "1"), ("b", "3")]);
        assert_eq!(lacks, "b, byte 0: nothing and 4e07408562be");
    }
}
