use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::parts::parts;
use super::{Row, Shared, Store, StoreError};
use crate::digest::{Digest, RunKey};

impl Store {
    /// Returns the same store with a shared store behind it.
    pub fn in_front_of(self, shared: Shared) -> Self {
        Self {
            shared: Some(Arc::new(shared)),
            ..self
        }
    }

    /// Returns the shared store behind this one.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }

    /// Returns whether the shared store has the blob.
    pub(super) fn is_shared(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.shared().map_or(Ok(false), |shared| shared.contains(digest))?)
    }

    /// Copies the blob from the shared store; false if it is not there. The content is stored under its actual digest, so wrong content
    /// is detected.
    pub(super) fn fetch(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Some(shared) = self.shared() else { return Ok(false) };
        let mut writer = self.writer();
        if !shared.fetch(digest, &mut writer)? {
            return Ok(false);
        }
        match writer.finish()?.0 {
            found if found == *digest => Ok(true),
            found => Err(StoreError::CorruptShared {
                expected: *digest,
                found,
                url: shared.url().to_owned(),
            }),
        }
    }

    /// Returns the JSON of the record `digest` in the shared store. Does not send a request for a known artifact.
    pub(crate) fn get_shared_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        if self.blobs.contains(digest)? {
            return Ok(None);
        }
        Ok(self.shared().map_or(Ok(None), |shared| shared.record(digest))?)
    }

    /// Returns the records of `key` in the shared store.
    pub(crate) fn find_shared(&self, key: &RunKey) -> Result<Vec<Digest>, StoreError> {
        Ok(self.shared().map_or(Ok(Vec::new()), |shared| shared.find(key))?)
    }

    /// Marks the record as published, to save later requests.
    pub(crate) fn note_published(&self, record: &Digest) -> Result<(), StoreError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        self.remember(&mark(shared, record), record)
    }

    /// Returns whether there is a shared store that may lack the record.
    pub(crate) fn is_unpublished(&self, record: &Digest) -> Result<bool, StoreError> {
        let Some(shared) = self.shared() else { return Ok(false) };
        Ok(self.index().recall(&mark(shared, record))?.is_none())
    }

    /// Publishes the record of `row`, with everything it needs, to the shared store. If that is unreachable, [`Shared::trouble`] returns
    /// the reason, and the record is published when it is next used.
    pub(crate) fn publish(&self, row: &Row) -> Result<(), StoreError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        let Some(json) = self.get_record(&row.record)? else {
            return Ok(());
        };
        let blobs = self.whole(row.links.iter().map(|link| link.artifact))?;
        if shared.publish(&blobs, (&row.key, &row.record, json))? {
            self.note_published(&row.record)?;
        }
        Ok(())
    }

    /// Copies these blobs and their parts to the shared store, if there is one. Ignores missing blobs.
    pub fn share(&self, digests: impl IntoIterator<Item = Digest>) -> Result<(), StoreError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        let mut lacking = Vec::new();
        for digest in digests {
            if !shared.contains(&digest)? {
                lacking.push(digest);
            }
        }
        Ok(shared.put_all(&self.whole(lacking.into_iter())?)?)
    }

    /// Returns these blobs and their parts. Ignores missing blobs.
    fn whole(&self, digests: impl Iterator<Item = Digest>) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        let (mut open, mut seen, mut all): (Vec<Digest>, BTreeSet<_>, Vec<_>) =
            (digests.collect(), BTreeSet::new(), Vec::new());
        while let Some(digest) = open.pop() {
            if !seen.insert(digest) {
                continue;
            }
            match self.get(&digest) {
                Ok(bytes) => {
                    open.extend(parts(&bytes));
                    all.push((digest, bytes));
                }
                Err(StoreError::Missing(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(all)
    }
}

/// Returns the cache key that marks a record as published.
fn mark(shared: &Shared, record: &Digest) -> Digest {
    Digest::of(format!("published {} {}", record.hex(), shared.url()))
}
