use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::StreamWriter;
use arrow_ipc::{CompressionType, Message};

use super::{CsvOptions, Table, csv, same_columns};
use crate::artifact::{create, media_type, open};
#[cfg(all(target_os = "wasi", not(feature = "codecs")))]
use crate::call::Call;
use crate::step::Ports;
use crate::{Context, Error, Input, Outputs, Result, bail};

/// Number of rows from which column types are inferred, for CSV that is read incrementally.
const SAMPLE: usize = 10_000;

/// The built-in module that reads the formats that a module can't read itself, and its step.
#[cfg(all(target_os = "wasi", not(feature = "codecs")))]
const READER: (&str, &str) = ("lockstep:tables", "read");

/// A table that is read some rows at a time: for inputs larger than memory. Reads the same formats as [`Table`].
///
/// It is an iterator of tables. There is at least one, so that the columns are known even if there are no rows. A step may also
/// return a reader, which is written while it is read:
///
/// ```
/// use lockstep::prelude::*;
///
/// #[step]
/// fn names(raw: TableReader) -> TableReader {
///     TableReader::new(raw.map(|table| table?.select(["name"])))
/// }
/// ```
pub struct TableReader(Box<dyn Iterator<Item = Result<Table>>>);

impl TableReader {
    /// Creates a reader of `tables`. There must be at least one, and all must have the same columns.
    pub fn new(tables: impl Iterator<Item = Result<Table>> + 'static) -> Self {
        Self(Box::new(tables))
    }

    /// Reads the tables in `reader`; if there are none, a table without rows.
    fn of(reader: impl RecordBatchReader + 'static) -> Result<Self> {
        let schema = reader.schema();
        super::check_names(schema.fields().iter().map(|field| field.name().as_str()))?;
        let mut empty = Some(RecordBatch::new_empty(schema));
        let mut batches = reader.map(|batch| Ok(Table(batch?)));
        Ok(Self::new(std::iter::from_fn(move || {
            let first = empty.take();
            batches.next().or_else(|| first.map(|batch| Ok(Table(batch))))
        })))
    }

    /// Reads the tables in the file at `path`. Infers the types of CSV columns from all rows.
    pub(super) fn whole(path: &Path) -> Result<Self> {
        Self::from_path(path, CsvOptions::default())
    }

    pub(super) fn from_path(path: &Path, options: CsvOptions) -> Result<Self> {
        let mut file = BufReader::with_capacity(64 * 1024, open(path)?);
        if file.fill_buf()?.starts_with(b"PAR1") {
            return parquet(path);
        }
        if is_compressed_by_zstd(&mut file)? {
            return zstd(path, file);
        }
        Self::of_source(file, options)
    }

    /// Reads the tables in an Arrow IPC stream or file, in Parquet, or in CSV, detected by content.
    #[cfg(feature = "parquet")]
    pub fn from_bytes(source: bytes::Bytes, options: CsvOptions) -> Result<Self> {
        match source.starts_with(b"PAR1") {
            true => Self::of(super::parquet::reader_of(source)?),
            false => Self::of_source(Cursor::new(source), options),
        }
    }

    /// Reads the tables in an Arrow IPC stream or file, or in CSV.
    fn of_source(mut source: impl BufRead + Seek + 'static, options: CsvOptions) -> Result<Self> {
        let start = source.fill_buf()?;
        let reader = if start.starts_with(&[0xff; 4]) {
            StreamReader::try_new(source, None).map(Self::of)
        } else if start.starts_with(b"ARROW1") {
            FileReader::try_new(source, None).map(Self::of)
        } else {
            return csv::read(source, options);
        };
        reader.context("not a readable Arrow file")?
    }
}

/// Returns whether an Arrow file or stream is compressed with zstd, according to its first rows. Leaves `source` at its start.
fn is_compressed_by_zstd(source: &mut (impl BufRead + Seek)) -> Result<bool> {
    let codec = match source.fill_buf()? {
        start if start.starts_with(b"ARROW1") => codec_of_file(source),
        start if start.starts_with(&[0xff; 4]) => codec_of_stream(source),
        _ => return Ok(false),
    };
    source.rewind()?;
    // a malformed file gets its error from the reader
    Ok(codec.unwrap_or_default() == Some(CompressionType::ZSTD))
}

/// Returns the codec of the first rows in a stream
/// (<https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format>).
fn codec_of_stream(source: &mut (impl Read + Seek)) -> Result<Option<CompressionType>> {
    while let Some(metadata) = metadata(source)? {
        let message = message(&metadata)?;
        if has_rows(&message) {
            return Ok(codec(&message));
        }
        source.seek(SeekFrom::Current(message.bodyLength()))?;
    }
    Ok(None)
}

/// Returns the codec of the first rows that the footer of a file lists
/// (<https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>).
fn codec_of_file(source: &mut (impl Read + Seek)) -> Result<Option<CompressionType>> {
    let mut end = [0; 10];
    let at = source.seek(SeekFrom::End(-(end.len() as i64)))?;
    source.read_exact(&mut end)?;
    let len = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
    source.seek(SeekFrom::Start(at.saturating_sub(len.into())))?;
    let mut footer = Vec::new();
    source.take(len.into()).read_to_end(&mut footer)?;
    let footer = arrow_ipc::root_as_footer(&footer).map_err(|error| Error::msg(error.to_string()))?;
    for block in footer.recordBatches().into_iter().flatten() {
        source.seek(SeekFrom::Start(block.offset() as u64))?;
        let Some(metadata) = metadata(source)? else { break };
        let message = message(&metadata)?;
        if has_rows(&message) {
            return Ok(codec(&message));
        }
    }
    Ok(None)
}

/// Reads the metadata of the next message
/// (<https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format>); `None` at the end. Old files lack the prefix.
fn metadata(source: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut word = [0; 4];
    source.read_exact(&mut word)?;
    if word == [0xff; 4] {
        source.read_exact(&mut word)?;
    }
    let len = u32::from_le_bytes(word);
    let mut metadata = Vec::new();
    source.take(len.into()).read_to_end(&mut metadata)?;
    Ok((len > 0).then_some(metadata))
}

fn message(metadata: &[u8]) -> Result<Message<'_>> {
    arrow_ipc::root_as_message(metadata).map_err(|error| Error::msg(error.to_string()))
}

fn has_rows(message: &Message) -> bool {
    message.header_as_record_batch().is_some_and(|batch| batch.length() > 0)
}

fn codec(message: &Message) -> Option<CompressionType> {
    Some(message.header_as_record_batch()?.compression()?.codec())
}

#[cfg(feature = "codecs")]
fn zstd(_: &Path, file: impl BufRead + Seek + 'static) -> Result<TableReader> {
    TableReader::of_source(file, CsvOptions::default())
}

#[cfg(not(feature = "codecs"))]
fn zstd(path: &Path, mut file: impl BufRead + Seek + 'static) -> Result<TableReader> {
    if file.fill_buf()?.starts_with(b"ARROW1") {
        return convert(path);
    }
    bail!(
        "{} is an Arrow stream compressed with zstd: compress streams with lz4, or write an Arrow file (Feather)",
        path.display()
    )
}

#[cfg(any(feature = "codecs", all(feature = "parquet", not(target_os = "wasi"))))]
fn parquet(path: &Path) -> Result<TableReader> {
    super::parquet::reader(path).and_then(TableReader::of)
}

#[cfg(not(any(feature = "codecs", all(feature = "parquet", not(target_os = "wasi")))))]
fn parquet(path: &Path) -> Result<TableReader> {
    convert(path)
}

/// Reads a file that a built-in module converts to an Arrow stream, once for each file.
#[cfg(all(target_os = "wasi", not(feature = "codecs")))]
fn convert(path: &Path) -> Result<TableReader> {
    let (module, step) = READER;
    let called = Call::new(module, step).file("file", path).run()?;
    TableReader::whole(&called.path("table"))
}

#[cfg(all(not(target_os = "wasi"), not(feature = "codecs")))]
fn convert(path: &Path) -> Result<TableReader> {
    bail!(
        "{} is a compressed or Parquet file, which is read in the sandbox only: run the step with `lockstep run`, or test it with CSV or an uncompressed Arrow file",
        path.display()
    )
}

/// Parses CSV into a table.
pub(crate) fn from_csv(bytes: &[u8], options: &CsvOptions) -> Result<Table> {
    csv::read_all(Cursor::new(bytes), options.clone())
}

impl Iterator for TableReader {
    type Item = Result<Table>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl fmt::Debug for TableReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableReader")
    }
}

impl Input for TableReader {
    const MEDIA_TYPE: &'static str = media_type::TABLE;

    fn open(path: &Path) -> Result<Self> {
        Self::from_path(path, CsvOptions::default().sample(SAMPLE))
    }
}

impl Outputs for TableReader {
    const PORTS: Ports = Ports::One(media_type::TABLE);

    fn write_outputs(mut self, out: &Path, name: &str) -> Result<()> {
        let Some(first) = self.next().transpose()? else {
            bail!("output `{name}` has no table, not even an empty one, so its columns are unknown");
        };
        create(&out.join(name), |file| {
            let schema = first.0.schema();
            let mut writer = StreamWriter::try_new(file, &schema)?;
            writer.write(&first.0)?;
            for table in self {
                let table = table?;
                same_columns(&schema, table.0.schema_ref())?;
                writer.write(&table.0)?;
            }
            Ok(writer.finish()?)
        })
    }
}
