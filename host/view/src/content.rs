//! Contents of artifacts by media type.

mod lengths;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use lockstep_runtime::run::chunks;
use lockstep_runtime::run::terminal::{Said, Terminal};
use lockstep_runtime::sandbox::Stream;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Store;
use serde_json::{Value, json};

use crate::columns::{Align, Columns, fit};
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::module::Module;
use crate::{quantity, report};

pub use lengths::are_plausible;
pub use table::Table;

/// The maximum of text that is shown.
const TEXT: usize = 1 << 20;

/// The maximum of bytes of unknown type that are shown.
const BYTES: usize = 256;

/// The contents of an artifact.
pub enum Content {
    /// A table.
    Table(Table),
    /// Text, possibly truncated.
    Text {
        /// The text that is shown.
        text: String,
        /// The size of the whole text in bytes.
        size: usize,
    },
    /// JSON, or CBOR converted to JSON.
    Json(Value),
    /// Metrics by name.
    Metrics(BTreeMap<String, f64>),
    /// The files of a directory.
    Directory(BTreeMap<String, Artifact>),
    /// A module.
    Module(Box<Module>),
    /// The output of a guest, in order.
    Log(Vec<(Stream, String)>),
    /// An SVG figure.
    Figure {
        /// Its size in bytes.
        size: usize,
        /// Its width and height: `640 × 480`.
        dimensions: Option<String>,
    },
    /// Bytes of another type.
    Bytes {
        /// The media type.
        media_type: MediaType,
        /// The first bytes.
        start: Bytes,
        /// The size of all bytes.
        size: usize,
    },
}

impl Content {
    /// Reads an artifact by its media type, or by its first bytes if that is unknown. Reads only `rows` of a table.
    pub fn read(store: &Store, artifact: &Artifact, rows: Range<usize>) -> Result<Self> {
        if artifact.is_directory() {
            return Ok(Self::Directory(store.list_directory(artifact)?));
        }
        let bytes = store.get(&artifact.digest)?;
        guarded(|| Self::of(bytes, artifact, rows)).unwrap_or_else(|| Err(unreadable(artifact, &"it is malformed")))
    }

    fn of(bytes: Bytes, artifact: &Artifact, rows: Range<usize>) -> Result<Self> {
        let unreadable = |reason: &dyn fmt::Display| unreadable(artifact, reason);
        match guess(&artifact.media_type, &bytes) {
            MediaType::TABLE | MediaType::CSV | MediaType::PARQUET => Table::read(bytes, rows)
                .map(Self::Table)
                .map_err(|e| unreadable(&format_args!("{e:#}"))),
            MediaType::TEXT => Ok(text(&bytes)),
            MediaType::JSON => serde_json::from_slice(&bytes).map(Self::Json).map_err(|e| unreadable(&e)),
            MediaType::METRICS => serde_json::from_slice(&bytes).map(Self::Metrics).map_err(|e| unreadable(&e)),
            MediaType::VALUE => {
                let value: ciborium::Value = ciborium::from_reader(&*bytes).map_err(|e| unreadable(&e))?;
                Ok(Self::Json(cbor_to_json(value)))
            }
            MediaType::FIGURE => Ok(Self::Figure {
                size: bytes.len(),
                dimensions: dimensions(&bytes),
            }),
            MediaType::MODULE => {
                let module = Module::read(artifact.digest, &bytes).map_err(|e| unreadable(&e))?;
                Ok(Self::Module(Box::new(module)))
            }
            MediaType::LOG => Ok(Self::Log(log(&bytes))),
            _ => Ok(Self::Bytes {
                media_type: artifact.media_type.clone(),
                start: bytes.slice(..bytes.len().min(BYTES)),
                size: bytes.len(),
            }),
        }
    }

    /// Returns the text that a pipe gets exactly, for content that has no layout of its own.
    pub fn plain(&self) -> Option<String> {
        match self {
            Self::Text { .. } | Self::Json(_) | Self::Log(_) => Some(self.to_string()),
            _ => None,
        }
    }

    /// Returns a note on what is not shown.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Table(table) => Some(table.note()),
            Self::Text { text, size } if text.len() < *size => Some(format!(
                "{} of text omitted; --raw writes all of it",
                quantity::bytes((size - text.len()) as u64)
            )),
            Self::Figure { .. } | Self::Bytes { .. } => Some("-o FILE writes it to a file".to_owned()),
            _ => None,
        }
    }

    /// Converts the content to JSON. JSON, CBOR and metrics are unchanged; a table becomes `columns`, `rows` and `total_rows`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Table(table) => table.to_json(),
            Self::Text { text, .. } => json!(text),
            Self::Json(value) => value.clone(),
            Self::Metrics(metrics) => json!(metrics),
            Self::Directory(files) => json!(files),
            Self::Module(module) => module.to_json(),
            Self::Log(said) => {
                let piece = |(stream, text): &(Stream, String)| match stream {
                    Stream::Stdout => json!({ "stream": "stdout", "text": text }),
                    Stream::Stderr => json!({ "stream": "stderr", "text": text }),
                };
                said.iter().map(piece).collect()
            }
            Self::Figure { size, dimensions } => json!({ "size": size, "dimensions": dimensions }),
            Self::Bytes { media_type, size, .. } => json!({ "media_type": media_type, "size": size }),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::Text { text, .. } if text.is_empty() || text.ends_with('\n') => f.write_str(text),
            Self::Text { text, .. } => writeln!(f, "{text}"),
            Self::Json(value) => writeln!(f, "{value:#}"),
            Self::Metrics(metrics) => {
                let mut columns = Columns::plain().aligned([Align::Left, Align::Right]);
                metrics
                    .iter()
                    .for_each(|(name, value)| columns.row([fit(name, 60), value.to_string()]));
                columns.fmt(f)
            }
            Self::Directory(files) => {
                let mut columns = Columns::plain().aligned([Align::Left, Align::Left, Align::Left, Align::Right]);
                files
                    .iter()
                    .for_each(|(name, artifact)| columns.row(report::artifact_row(&fit(name, 120), artifact)));
                columns.fmt(f)
            }
            Self::Module(module) => f.write_str(&module.describe()),
            Self::Log(said) => said.iter().try_for_each(|(_, text)| f.write_str(text)),
            Self::Figure { size, dimensions } => {
                let dimensions = dimensions.as_ref().map_or(String::new(), |text| format!(", {text}"));
                writeln!(f, "SVG figure{dimensions}, {}", quantity::bytes(*size as u64))
            }
            Self::Bytes { media_type, start, size } => {
                writeln!(f, "{media_type}, {}", quantity::bytes(*size as u64))?;
                for (at, line) in start.chunks(16).enumerate() {
                    let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                    let printable = |byte: &u8| if byte.is_ascii_graphic() { *byte as char } else { '.' };
                    let text: String = line.iter().map(printable).collect();
                    writeln!(f, "{:06x}  {:<47}  {text}", at * 16, hex.join(" "))?;
                }
                Ok(())
            }
        }
    }
}

fn unreadable(artifact: &Artifact, reason: &dyn fmt::Display) -> Error {
    Error::user(format_args!(
        "can't read {} as {}: {reason}",
        artifact.digest.short(),
        artifact.media_type
    ))
    .hint("--raw writes the raw bytes")
}

/// Returns the media type to read `bytes` as.
pub fn guess<'a>(media_type: &'a MediaType, bytes: &[u8]) -> &'a str {
    let said = media_type.as_str();
    if said.starts_with("text/") && said != MediaType::CSV {
        return MediaType::TEXT;
    }
    if said != MediaType::BYTES {
        return said;
    }
    let head = &bytes[..bytes.len().min(4096)];
    let is_text = |head: &[u8]| match std::str::from_utf8(head) {
        Ok(text) => !text.contains('\0'),
        // truncated within a character
        Err(e) => e.error_len().is_none() && !head.contains(&0),
    };
    match head {
        head if head.starts_with(b"\0asm") => MediaType::MODULE,
        head if head.starts_with(b"PAR1") => MediaType::PARQUET,
        head if head.starts_with(b"ARROW1") || head.starts_with(b"\xff\xff\xff\xff") => MediaType::TABLE,
        head if !head.is_empty() && is_text(head) => MediaType::TEXT,
        _ => said,
    }
}

fn text(bytes: &[u8]) -> Content {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]).into_owned();
    Content::Text { text, size: bytes.len() }
}

fn log(bytes: &[u8]) -> Vec<(Stream, String)> {
    let mut said = Vec::new();
    for chunk in chunks(bytes) {
        let mut terminal = Terminal::default();
        let texts = terminal.read(chunk.bytes).into_iter().filter_map(|said| match said {
            Said::Text(text) => Some(text),
            Said::Progress(_) => None,
        });
        let mut text: String = texts.collect();
        text.extend(terminal.finish());
        said.push((chunk.stream, text));
    }
    said
}

/// Converts CBOR to JSON. Keys that are not text are written as JSON, bytes as hexadecimal digits.
pub fn cbor_to_json(value: ciborium::Value) -> Value {
    use ciborium::Value as Cbor;
    match value {
        Cbor::Integer(number) => match i128::from(number) {
            number if i64::try_from(number).is_ok() => json!(number as i64),
            number => u64::try_from(number).map_or_else(|_| json!(number.to_string()), Value::from),
        },
        Cbor::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        Cbor::Float(number) => json!(number),
        Cbor::Text(text) => text.into(),
        Cbor::Bool(truth) => truth.into(),
        Cbor::Tag(_, value) => cbor_to_json(*value),
        Cbor::Array(items) => items.into_iter().map(cbor_to_json).collect(),
        Cbor::Map(entries) => {
            let key = |key| match cbor_to_json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            entries
                .into_iter()
                .map(|(name, value)| (key(name), cbor_to_json(value)))
                .collect()
        }
        _ => Value::Null,
    }
}

/// Returns width and height from the opening tag of an SVG: `640 × 480`.
fn dimensions(svg: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&svg[..svg.len().min(4096)]);
    let (_, tag) = head.split_once("<svg")?;
    let (tag, _) = tag.split_once('>')?;
    let attribute = |name: &str| {
        let (_, rest) = tag.split_once(&format!(" {name}="))?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        Some(fit(rest[1..].split_once(quote)?.0, 20))
    };
    Some(format!("{} × {}", attribute("width")?, attribute("height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_has_a_json_form() {
        use ciborium::Value as Cbor;
        let map = Cbor::Map(vec![
            (Cbor::from(1), Cbor::Bytes(vec![0xab])),
            (Cbor::from("x"), Cbor::from(u64::MAX)),
            (Cbor::from("n"), Cbor::Array(vec![Cbor::Null, Cbor::from(-1)])),
        ]);
        assert_eq!(cbor_to_json(map), json!({"1": "ab", "x": u64::MAX, "n": [null, -1]}));
    }

    #[test]
    fn bytes_of_no_type_are_read_by_how_they_start() {
        let bytes = MediaType::default();
        assert_eq!(guess(&bytes, b"\0asm\x01"), MediaType::MODULE);
        assert_eq!(guess(&bytes, "größer".as_bytes()), MediaType::TEXT);
        assert_eq!(guess(&bytes, b"\x80\0"), MediaType::BYTES);
        assert_eq!(guess(&MediaType::new("text/html"), b""), MediaType::TEXT);
    }

    /// An Arrow stream and file with texts, lists and a dictionary, compressed or not.
    fn tables() -> Vec<Vec<u8>> {
        use arrow_array::{
            ArrayRef, DictionaryArray, Int64Array, ListArray, RecordBatch, StringArray, types::Int8Type, types::Int32Type,
        };
        use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

        let texts: StringArray = (0..100).map(|n| (n % 7 != 0).then(|| n.to_string())).collect();
        let lists = (0..100).map(|n| (n % 5 != 0).then(|| vec![Some(n); n as usize % 3]));
        let kinds: DictionaryArray<Int8Type> = (0..100).map(|n| ["a", "b", "c"][n % 3]).collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("number", std::sync::Arc::new(Int64Array::from_iter(0..100))),
            ("text", std::sync::Arc::new(texts)),
            (
                "list",
                std::sync::Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            ),
            ("kind", std::sync::Arc::new(kinds)),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut tables = Vec::new();
        for codec in [None, Some(arrow_ipc::CompressionType::LZ4_FRAME)] {
            let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
            let mut stream = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options.clone()).unwrap();
            stream.write(&batch).unwrap();
            tables.push(stream.into_inner().unwrap());
            let mut file = FileWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options).unwrap();
            file.write(&batch).unwrap();
            tables.push(file.into_inner().unwrap());
        }
        tables
    }

    #[test]
    fn a_damaged_table_is_an_error_and_no_panic() {
        let store = Store::temporary().unwrap();
        let mut random = 1u64;
        let mut next = |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        for table in tables() {
            let whole = store.put_artifact(table.clone(), &MediaType::new(MediaType::TABLE)).unwrap();
            let mut refused = 0;
            for _ in 0..300 {
                let mut damaged = table.clone();
                for _ in 0..=next(8) {
                    let at = 8 + next(damaged.len() - 8);
                    damaged[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
                }
                if next(10) == 0 {
                    damaged.truncate(next(damaged.len()));
                }
                let artifact = store.put_artifact(damaged, &MediaType::new(MediaType::TABLE)).unwrap();
                match Content::read(&store, &artifact, 0..1000) {
                    Ok(content) => drop((content.to_string(), content.to_json())),
                    Err(error) => {
                        refused += 1;
                        assert!(error.message().starts_with("can't read "), "{}", error.message());
                    }
                }
                crate::difference::compare(&store, &whole, &artifact).unwrap();
            }
            assert!(refused > 100, "{refused}");
        }
    }

    #[test]
    fn a_figure_says_its_size() {
        assert_eq!(
            dimensions(b"<?xml?><svg xmlns=\"x\" width=\"640\" height='480px'>").as_deref(),
            Some("640 × 480px")
        );
        assert_eq!(dimensions(b"<svg>"), None);
    }
}
