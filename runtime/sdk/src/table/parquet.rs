use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::basic::Compression;
use ::parquet::errors::Result as ParquetResult;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{ChunkReader, Length};

use super::Table;
use crate::artifact::{create, media_type};
use crate::{Artifact, Context, Result};

/// A table that is stored as Parquet, compressed with Snappy.
#[derive(Clone, PartialEq, Debug)]
pub struct Parquet(pub Table);

/// A file that is reopened for each part: WASI can't duplicate a file handle.
struct Parts {
    path: PathBuf,
    len: u64,
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Parts {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<bytes::Bytes> {
        let mut part = Vec::with_capacity(length);
        self.get_read(start)?.take(length as u64).read_to_end(&mut part)?;
        Ok(part.into())
    }
}

pub(super) fn reader(path: &Path) -> Result<ParquetRecordBatchReader> {
    let len = std::fs::metadata(path)?.len();
    let path = path.to_path_buf();
    reader_of(Parts { path, len })
}

/// Reads the tables in a Parquet file.
pub(super) fn reader_of(file: impl ChunkReader + 'static) -> Result<ParquetRecordBatchReader> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map(|builder| builder.with_batch_size(8192));
    let reader = builder.and_then(ParquetRecordBatchReaderBuilder::build);
    reader.context("not a readable Parquet file")
}

impl Artifact for Parquet {
    const MEDIA_TYPE: &'static str = media_type::PARQUET;

    fn read(path: &Path) -> Result<Self> {
        Table::read(path).map(Self)
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        create(path, |file| {
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let mut writer = ArrowWriter::try_new(file, self.0.as_ref().schema(), Some(properties))?;
            writer.write(self.0.as_ref())?;
            writer.close()?;
            Ok(())
        })
    }
}
