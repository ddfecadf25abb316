use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Pins an artifact or a record: it and everything it was made from is never removed because of its age.
    pub fn pin(&self, digest: &Digest) -> Result<(), StoreError> {
        let pins = self.pins_directory();
        fs::create_dir_all(&pins).map_err(StoreError::file("create", &pins))?;
        let pin = pins.join(digest.hex());
        fs::write(&pin, []).map_err(StoreError::file("write", &pin))?;
        self.settle(&pin)
    }

    /// Removes a pin; false if there is none.
    pub fn unpin(&self, digest: &Digest) -> Result<bool, StoreError> {
        let pins = self.pins_directory();
        let pin = pins.join(digest.hex());
        match fs::remove_file(&pin) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::file("remove", &pin)(source)),
        }
    }

    /// Returns all pinned digests.
    pub fn pins(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let pins = self.pins_directory();
        let entries = match fs::read_dir(&pins) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(StoreError::file("list", &pins)(source)),
        };
        let digest = |entry: io::Result<fs::DirEntry>| Digest::from_hex(entry.ok()?.file_name().to_str()?).ok();
        Ok(entries.filter_map(digest).collect())
    }

    fn pins_directory(&self) -> PathBuf {
        self.directory().join("pins")
    }
}
