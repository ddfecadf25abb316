use super::{Store, StoreError};
use crate::digest::Digest;

/// What a backup has copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Number of artifacts.
    pub artifacts: u64,
    /// Total size of the artifacts, in bytes.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
    /// Artifacts and records that are damaged and were not copied.
    pub damaged: Vec<Digest>,
}

impl Store {
    /// Copies all artifacts and records to `target`, also while other processes use or sweep this store: the lease of this store holds them.
    /// Every copied record has the artifacts that it needs, as far as this store has them. `check` tells whether a record is undamaged.
    /// Calls `tell` with the size of each artifact.
    pub(crate) fn copy_to(
        &self,
        target: &Store,
        check: impl Fn(&Digest, &[u8]) -> bool,
        mut tell: impl FnMut(u64),
    ) -> Result<Copied, StoreError> {
        let mut copied = Copied::default();
        // Read records first: the artifacts that they need exist by then, and the lease on a record keeps its artifacts.
        let mut records = Vec::new();
        for record in self.blobs.list("records")? {
            // another process may have removed it after it was listed
            records.extend(self.blobs.get_record(&record)?.map(|json| (record, json)));
        }
        for digest in self.blobs.list("blobs")? {
            match self.get(&digest) {
                Ok(bytes) => {
                    copied.artifacts += 1;
                    copied.bytes += bytes.len() as u64;
                    tell(bytes.len() as u64);
                    target.blobs.put(&digest, &bytes)?;
                }
                Err(StoreError::Missing(_)) => {}
                Err(StoreError::Corrupt { .. }) => copied.damaged.push(digest),
                Err(other) => return Err(other),
            }
        }
        for (record, json) in records {
            match check(&record, &json) {
                true => {
                    copied.records += 1;
                    target.blobs.put_record(&record, &json)?;
                }
                false => copied.damaged.push(record),
            }
        }
        Ok(copied)
    }
}
