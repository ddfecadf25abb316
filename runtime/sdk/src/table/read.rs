use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::StreamWriter;

use super::{CsvOptions, Table, csv, same_columns};
use crate::artifact::{create, media_type, open};
#[cfg(all(target_os = "wasi", not(feature = "codecs")))]
use crate::call::Call;
use crate::step::Ports;
use crate::{Context, Input, Outputs, Result, bail};

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
        Self::from_path(path, None)
    }

    fn from_path(path: &Path, sample: Option<usize>) -> Result<Self> {
        let mut file = BufReader::with_capacity(64 * 1024, open(path)?);
        if file.fill_buf()?.starts_with(b"PAR1") {
            return parquet(path);
        }
        if is_compressed_by_zstd(&mut file)? {
            return zstd(path, file);
        }
        let options = CsvOptions::default().sample(sample.unwrap_or(usize::MAX));
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

/// Returns whether the first compressed batch of an Arrow file or stream is compressed with zstd. Leaves `source` at its start.
fn is_compressed_by_zstd(source: &mut (impl BufRead + Seek)) -> Result<bool> {
    let start = source.fill_buf()?;
    let offset = match start {
        start if start.starts_with(b"ARROW1") => 8,
        start if start.starts_with(&[0xff; 4]) => 0,
        _ => return Ok(false),
    };
    source.seek(SeekFrom::Start(offset))?;
    // a malformed file gets its error from the reader
    let codec = first_codec(source).unwrap_or_default();
    source.rewind()?;
    Ok(codec == Some(CompressionType::ZSTD))
}

/// Returns the codec of the first compressed batch among encapsulated messages
/// (<https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format>).
fn first_codec(source: &mut (impl Read + Seek)) -> Result<Option<CompressionType>> {
    loop {
        let mut prefix = [0; 8];
        source.read_exact(&mut prefix)?;
        let len = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        if len == 0 {
            return Ok(None);
        }
        let mut metadata = Vec::new();
        source.take(len.into()).read_to_end(&mut metadata)?;
        let message = arrow_ipc::root_as_message(&metadata).map_err(|error| crate::Error::msg(error.to_string()))?;
        let dictionary = || message.header_as_dictionary_batch()?.data();
        let batch = message.header_as_record_batch().or_else(dictionary);
        if let Some(compression) = batch.and_then(|batch| batch.compression()) {
            return Ok(Some(compression.codec()));
        }
        source.seek(SeekFrom::Current(message.bodyLength()))?;
    }
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
    TableReader::from_path(&called.path("table"), None)
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
    let tables = csv::read(Cursor::new(bytes.to_vec()), options.clone())?.collect::<Result<Vec<_>>>()?;
    Table::concat(&tables)
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
        Self::from_path(path, Some(SAMPLE))
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
