use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::digest::Digest;

/// The directory of signatures in a store.
pub(super) const DIRECTORY: &str = "signatures";

impl Store {
    /// Stores a signature of a record. It is kept as long as the record. Its content is opaque here.
    pub fn put_signature(&self, record: &Digest, signature: &[u8]) -> Result<(), StoreError> {
        let directory = self.directory();
        let shelf = shelf(directory, record);
        let path = shelf.join(format!("{}.{}", record.hex(), Digest::of(signature).hex()));
        let write = || {
            fs::create_dir_all(&shelf)?;
            let mut file = tempfile::NamedTempFile::new_in(directory.join("staging"))?;
            file.write_all(signature)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(StoreError::file("write", &path))?;
        self.settle(&path)
    }

    /// Returns the signatures of a record, in no particular order.
    pub fn signatures(&self, record: &Digest) -> Result<Vec<Vec<u8>>, StoreError> {
        let shelf = shelf(self.directory(), record);
        let entries = match fs::read_dir(&shelf) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::file("list", &shelf)(source)),
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        let mut paths = paths.map_err(StoreError::file("list", &shelf))?;
        paths.retain(|path| signed(path) == Some(*record));
        paths.sort();
        let read = |path: &PathBuf| fs::read(path).map_err(StoreError::file("read", path));
        paths.iter().map(read).collect()
    }
}

/// Returns the record that the signature at `path` belongs to; `None` for any other file.
pub(super) fn signed(path: &Path) -> Option<Digest> {
    let (record, signature) = path.file_name()?.to_str()?.split_once('.')?;
    Digest::from_hex(signature).ok()?;
    Digest::from_hex(record).ok()
}

fn shelf(directory: &Path, record: &Digest) -> PathBuf {
    directory.join(DIRECTORY).join(&record.hex()[..2])
}
