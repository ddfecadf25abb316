use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::step::{Artifact, MediaType};
use crate::store::{Store, StoreError};

/// The error of splitting an artifact into parts.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A store error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact is not a list, directory or table.
    #[error("`for_each` iterates over a list, a directory or a table (an Arrow stream), not over {0}")]
    Kind(MediaType),
    /// The artifact is not a valid list.
    #[error("{digest} ({media_type}) is not a list that `for_each` can iterate over: {reason}")]
    List {
        /// the artifact
        digest: Digest,
        /// its media type
        media_type: MediaType,
        /// the cause
        reason: String,
    },
    /// The artifact is not a valid table.
    #[error("{digest} is not a readable Arrow table: {source}")]
    Table {
        /// the artifact
        digest: Digest,
        /// the cause
        source: arrow_schema::ArrowError,
    },
    /// `rows` was set for a directory or a list.
    #[error("`rows` applies only to tables; a directory is split into its entries, a list into its items")]
    Rows,
}

/// Returns whether artifacts of `media_type` may be lists.
pub(super) fn is_list(media_type: &MediaType) -> bool {
    matches!(media_type.as_str(), MediaType::VALUE | MediaType::JSON)
}

/// Splits a directory, a table or a list into named parts, in order. A pure function of the bytes.
///
/// The parts of a directory are its entries. The parts of a list in CBOR or JSON are its items in the same encoding: a list that can be
/// read as `Vec<T>` has items that can be read as `T`. The parts of a table have `rows` rows each, or are its record batches, numbered
/// from 0; a table without rows is one part.
pub(super) fn parts(store: &Store, artifact: &Artifact, rows: Option<u64>) -> Result<Vec<(String, Artifact)>, PartsError> {
    match artifact.media_type.as_str() {
        MediaType::DIRECTORY | MediaType::VALUE | MediaType::JSON if rows.is_some() => Err(PartsError::Rows),
        MediaType::DIRECTORY => Ok(entries(store, artifact)?),
        MediaType::TABLE => pieces(store, artifact, rows),
        MediaType::VALUE | MediaType::JSON => items(store, artifact),
        _ => Err(PartsError::Kind(artifact.media_type.clone())),
    }
}

/// Returns the name of part `index` of `count`, with leading zeros so that all names have the same length.
pub fn numbered(index: usize, count: usize) -> String {
    let width = count.saturating_sub(1).max(1).ilog10() as usize + 1;
    format!("{index:0width$}")
}

fn entries(store: &Store, directory: &Artifact) -> Result<Vec<(String, Artifact)>, StoreError> {
    let mut below: BTreeMap<String, BTreeMap<String, Artifact>> = BTreeMap::new();
    let mut entries = BTreeMap::new();
    for (path, artifact) in store.list_directory(directory)? {
        match path.split_once('/') {
            None => drop(entries.insert(path, artifact)),
            Some((name, rest)) => drop(below.entry(name.to_owned()).or_default().insert(rest.to_owned(), artifact)),
        }
    }
    for (name, files) in below {
        entries.insert(name, store.put_directory(&files)?);
    }
    Ok(entries.into_iter().collect())
}

fn items(store: &Store, list: &Artifact) -> Result<Vec<(String, Artifact)>, PartsError> {
    let bytes = store.get(&list.digest)?;
    let items = match list.media_type.as_str() {
        MediaType::VALUE => cbor_items(&bytes),
        _ => json_items(&bytes),
    };
    let items = items.map_err(|reason| PartsError::List {
        digest: list.digest,
        media_type: list.media_type.clone(),
        reason,
    })?;
    let count = items.len();
    let items = items.into_iter().enumerate();
    items
        .map(|(at, item)| Ok((numbered(at, count), store.put_artifact(item, &list.media_type)?)))
        .collect()
}

/// Splits a list in CBOR. Each item has the bytes that the SDK would write for it.
fn cbor_items(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let list: Vec<ciborium::Value> = ciborium::from_reader(bytes).map_err(|e| e.to_string())?;
    let encoded = |item: &ciborium::Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(item, &mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    };
    list.iter().map(encoded).collect()
}

/// Splits a list in JSON. The text of items is not changed.
fn json_items(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let list: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    Ok(list.iter().map(|item| item.get().as_bytes().to_vec()).collect())
}

fn pieces(store: &Store, table: &Artifact, rows: Option<u64>) -> Result<Vec<(String, Artifact)>, PartsError> {
    let failed = |source| PartsError::Table {
        digest: table.digest,
        source,
    };
    let bytes = store.get(&table.digest)?;
    let mut pieces = Vec::new();
    let mut keep = |batches: &[RecordBatch]| -> Result<(), PartsError> {
        let stream = stream(batches).map_err(failed)?;
        pieces.push(store.put_artifact(stream, &table.media_type)?);
        Ok(())
    };
    match rows {
        None => batches(&bytes, |batch| keep(&[batch]), failed)?,
        Some(rows) => {
            let mut cut = Cut::new(rows);
            batches(
                &bytes,
                |batch| cut.take(batch).iter().try_for_each(|piece| keep(piece)),
                failed,
            )?;
            cut.rest().iter().try_for_each(|piece| keep(piece))?;
        }
    }
    let count = pieces.len();
    let named = pieces.into_iter().enumerate();
    Ok(named.map(|(at, piece)| (numbered(at, count), piece)).collect())
}

/// Calls `take` with each record batch of a table; with an empty one if there are none.
fn batches(
    bytes: &Bytes,
    mut take: impl FnMut(RecordBatch) -> Result<(), PartsError>,
    failed: impl Fn(arrow_schema::ArrowError) -> PartsError,
) -> Result<(), PartsError> {
    let bytes = Cursor::new(bytes.clone());
    let mut magic = [0; 6];
    let is_file = bytes.clone().read_exact(&mut magic).is_ok() && &magic == b"ARROW1";
    let reader: Box<dyn arrow_array::RecordBatchReader> = match is_file {
        true => Box::new(FileReader::try_new(bytes, None).map_err(&failed)?),
        false => Box::new(StreamReader::try_new(bytes, None).map_err(&failed)?),
    };
    let schema = reader.schema();
    let mut none = true;
    for batch in reader {
        none = false;
        take(batch.map_err(&failed)?)?;
    }
    match none {
        true => take(RecordBatch::new_empty(schema)),
        false => Ok(()),
    }
}

fn stream(batches: &[RecordBatch]) -> Result<Vec<u8>, arrow_schema::ArrowError> {
    let mut bytes = Vec::new();
    if let Some(first) = batches.first() {
        let mut writer = StreamWriter::try_new(&mut bytes, first.schema_ref())?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
    }
    Ok(bytes)
}

/// Cuts record batches into pieces of `rows` rows.
struct Cut {
    rows: usize,
    held: Vec<RecordBatch>,
    count: usize,
    any: bool,
}

impl Cut {
    fn new(rows: u64) -> Self {
        Self {
            rows: usize::try_from(rows).unwrap_or(usize::MAX).max(1),
            held: Vec::new(),
            count: 0,
            any: false,
        }
    }

    /// Adds a batch, and returns the pieces that it completes.
    fn take(&mut self, mut batch: RecordBatch) -> Vec<Vec<RecordBatch>> {
        let mut whole = Vec::new();
        while self.count + batch.num_rows() >= self.rows {
            let room = self.rows - self.count;
            self.held.push(batch.slice(0, room));
            batch = batch.slice(room, batch.num_rows() - room);
            whole.push(std::mem::take(&mut self.held));
            self.count = 0;
            self.any = true;
        }
        if batch.num_rows() > 0 || !self.any && self.held.is_empty() {
            self.count += batch.num_rows();
            self.held.push(batch);
        }
        whole
    }

    /// Returns the last piece, if it has rows or is the only one.
    fn rest(&mut self) -> Option<Vec<RecordBatch>> {
        let wanted = self.count > 0 || !self.any;
        wanted.then(|| std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn table(store: &Store, batches: &[usize]) -> Artifact {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
        let mut next = 0;
        let batches: Vec<_> = batches
            .iter()
            .map(|rows| {
                let values: Int64Array = (next..next + *rows as i64).collect::<Vec<_>>().into();
                next += *rows as i64;
                RecordBatch::try_new(schema.clone(), vec![Arc::new(values)]).unwrap()
            })
            .collect();
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        drop(writer);
        store.put_artifact(bytes, &MediaType::new(MediaType::TABLE)).unwrap()
    }

    fn cbor(value: &impl serde::Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    fn values(store: &Store, artifact: &Artifact) -> Vec<i64> {
        let bytes = store.get(&artifact.digest).unwrap();
        let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
        reader
            .flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_table_are_the_table(batches in proptest::collection::vec(0usize..9, 0..6), rows in 1u64..12) {
            let store = Store::temporary().unwrap();
            let whole = table(&store, &batches);
            let pieces = parts(&store, &whole, Some(rows)).unwrap();
            let all: Vec<Vec<i64>> = pieces.iter().map(|(_, piece)| values(&store, piece)).collect();
            prop_assert_eq!(all.concat(), values(&store, &whole));
            let (last, others) = all.split_last().unwrap();
            prop_assert!(others.iter().all(|piece| piece.len() as u64 == rows));
            prop_assert!(last.len() as u64 <= rows && (!last.is_empty() || others.is_empty()));
            prop_assert!(pieces.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn without_rows_record_batches_are_the_parts() {
        let store = Store::temporary().unwrap();
        let pieces = parts(&store, &table(&store, &[2, 3]), None).unwrap();
        let named: Vec<_> = pieces
            .iter()
            .map(|(name, piece)| (name.as_str(), values(&store, piece)))
            .collect();
        assert_eq!(named, [("0", vec![0, 1]), ("1", vec![2, 3, 4])]);
        assert_eq!(parts(&store, &table(&store, &[]), None).unwrap().len(), 1);
    }

    #[test]
    fn the_parts_of_a_directory_are_its_entries() {
        let store = Store::temporary().unwrap();
        let text = |text: &str| store.put_artifact(text.to_owned(), &MediaType::new(MediaType::TEXT)).unwrap();
        let files = [("b.txt", text("b")), ("a/x.txt", text("x")), ("a/y/z.txt", text("z"))];
        let directory = store
            .put_directory(&files.map(|(path, file)| (path.to_owned(), file)).into())
            .unwrap();
        let entries = parts(&store, &directory, None).unwrap();
        assert_eq!(
            entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["a", "b.txt"]
        );
        let below = store.list_directory(&entries[0].1).unwrap();
        assert_eq!(below.keys().collect::<Vec<_>>(), ["x.txt", "y/z.txt"]);
        assert!(matches!(parts(&store, &directory, Some(1)), Err(PartsError::Rows)));
        assert!(matches!(parts(&store, &text("t"), None), Err(PartsError::Kind(_))));
    }

    #[test]
    fn the_parts_of_a_list_are_its_items_as_they_are_written_alone() {
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        struct Row {
            name: Option<String>,
            #[serde(rename = "a")]
            x: f32,
            big: u64,
            bytes: (char, Vec<u8>),
        }
        let row = |name: Option<&str>, x| Row {
            name: name.map(str::to_owned),
            x,
            big: u64::MAX,
            bytes: ('é', vec![1, 255]),
        };
        let rows = [row(Some("z"), 0.1), row(None, f32::NAN)];
        let store = Store::temporary().unwrap();
        let list = store.put_artifact(cbor(&rows), &MediaType::new(MediaType::VALUE)).unwrap();
        let alone = rows.iter().map(|row| Digest::of(cbor(row)));
        let found = parts(&store, &list, None).unwrap();
        assert_eq!(
            found.iter().map(|(_, item)| item.digest).collect::<Vec<_>>(),
            alone.collect::<Vec<_>>()
        );
        assert!(found.iter().all(|(_, item)| item.media_type.as_str() == MediaType::VALUE));

        let json = |text: &str| store.put_artifact(text.to_owned(), &MediaType::new(MediaType::JSON)).unwrap();
        let text = r#" [ {"b": 1, "a": 123456789012345678901234567890}, [2,  3], "x" ] "#;
        let items = parts(&store, &json(text), None).unwrap();
        let items: Vec<_> = items
            .iter()
            .map(|(name, item)| {
                (
                    name.as_str(),
                    String::from_utf8(store.get(&item.digest).unwrap().to_vec()).unwrap(),
                )
            })
            .collect();
        let expected = [
            ("0", r#"{"b": 1, "a": 123456789012345678901234567890}"#),
            ("1", "[2,  3]"),
            ("2", r#""x""#),
        ];
        assert_eq!(items, expected.map(|(name, item)| (name, item.to_owned())));
        assert_eq!(parts(&store, &json("[]"), None).unwrap(), []);
        assert!(matches!(parts(&store, &json("[1]"), Some(1)), Err(PartsError::Rows)));
        assert_eq!(
            parts(&store, &json("{}"), None).unwrap_err().to_string(),
            format!(
                "{} (application/json) is not a list that `for_each` can iterate over: invalid type: map, expected a sequence at line 1 column 0",
                Digest::of(b"{}")
            )
        );
        let number = store.put_artifact(cbor(&7), &MediaType::new(MediaType::VALUE)).unwrap();
        assert!(matches!(parts(&store, &number, None), Err(PartsError::List { .. })));
    }

    /// Runs over parts are found by these digests: see `run::tests`.
    #[test]
    fn the_same_as_ever() {
        let store = Store::temporary().unwrap();
        let numbers: arrow_array::ArrayRef = std::sync::Arc::new(arrow_array::Int64Array::from_iter(0..10));
        let texts: arrow_array::ArrayRef = std::sync::Arc::new(
            (0..10)
                .map(|n| (n % 3 > 0).then(|| "é".repeat(n)))
                .collect::<arrow_array::StringArray>(),
        );
        let table = RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).unwrap();
        let mut stream = StreamWriter::try_new(Vec::new(), table.schema_ref()).unwrap();
        stream.write(&table).unwrap();
        let stream = stream.into_inner().unwrap();
        let all = [
            store.put_artifact(stream, &MediaType::new(MediaType::TABLE)).unwrap(),
            store
                .put_artifact(cbor(&(1, "a", 0.5)), &MediaType::new(MediaType::VALUE))
                .unwrap(),
        ];
        let digests = all.iter().flat_map(|all| {
            let rows = (all.media_type.as_str() == MediaType::TABLE).then_some(4);
            let parts = parts(&store, all, rows).unwrap();
            std::iter::once(all.digest.short()).chain(parts.into_iter().map(|(_, part)| part.digest.short()))
        });
        assert_eq!(
            digests.collect::<Vec<_>>().join(" "),
            "77e6a3701f20 fa34a6a28789 a3277be9a8da 36b9cd6a7b96 55a9e1fcff8b 4bf5122f3445 961b6dd3ede3 064e4df3a90b"
        );
    }

    #[test]
    fn numbers_sort_as_they_count() {
        assert_eq!(
            [numbered(0, 1), numbered(3, 10), numbered(3, 11), numbered(99, 100)],
            ["0", "3", "03", "99"]
        );
    }
}
