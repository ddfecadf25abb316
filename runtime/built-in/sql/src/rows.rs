//! Tables in the engine's version of Arrow, which may differ from the SDK's.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::error::DataFusionError;
use lockstep::media_type;
use lockstep::prelude::*;

/// The rows of a table.
pub struct Rows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            schema: Arc::new(Schema::empty()),
            batches: Vec::new(),
        }
    }
}

impl Artifact for Rows {
    const MEDIA_TYPE: &'static str = media_type::TABLE;

    fn read(path: &Path) -> Result<Self> {
        let reader = StreamReader::try_new(BufReader::new(File::open(path)?), None)?;
        Ok(Self {
            schema: reader.schema(),
            batches: reader.collect::<Result<_, _>>()?,
        })
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut writer = StreamWriter::try_new(&mut file, &self.schema)?;
        self.batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
        drop(writer);
        Ok(file.flush()?)
    }
}

impl Rows {
    /// Returns the rows with strings and bytes in their usual layout, which more programs read than that of views.
    pub fn without_views(self) -> Result<Self, DataFusionError> {
        let usual = |of: &DataType| match of {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        let fields = self.schema.fields().iter();
        let fields = fields.map(|field| Field::new(field.name(), usual(field.data_type()), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let usual = |batch: &RecordBatch| {
            let columns = schema.fields().iter().zip(batch.columns());
            let columns = columns.map(|(field, column)| cast(column, field.data_type()));
            Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
        };
        let batches = self.batches.iter().map(usual).collect::<Result<_, DataFusionError>>()?;
        Ok(Self { schema, batches })
    }
}
