use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::parts::parts;
use super::{Row, Shared, Store, StoreError};
use crate::digest::{Digest, RunKey};

impl Store {
    /// The same store in front of a shared one.
    pub fn in_front_of(self, shared: Shared) -> Self {
        Self {
            shared: Some(Arc::new(shared)),
            ..self
        }
    }

    /// The shared store behind this one.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }

    /// Whether the shared store has the blob.
    pub(super) fn is_shared(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.shared().map_or(Ok(false), |shared| shared.contains(digest))?)
    }

    /// Takes the blob from the shared store; false if that has none. What arrives is kept under the digest that it has, so a shared
    /// store that lies is found out.
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

    /// The JSON of the record called `digest` in the shared store. It is not asked for what is known to be an artifact.
    pub(crate) fn get_shared_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        if self.blobs.contains(digest)? {
            return Ok(None);
        }
        Ok(self.shared().map_or(Ok(None), |shared| shared.record(digest))?)
    }

    /// The records of `key` in the shared store.
    pub(crate) fn find_shared(&self, key: &RunKey) -> Result<Vec<Digest>, StoreError> {
        Ok(self.shared().map_or(Ok(Vec::new()), |shared| shared.find(key))?)
    }

    /// Notes that the shared store has the record, so that it need not be asked.
    pub(crate) fn note_published(&self, record: &Digest) -> Result<(), StoreError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        self.remember(&mark(shared, record), record)
    }

    /// Whether there is a shared store that may lack the record.
    pub(crate) fn is_unpublished(&self, record: &Digest) -> Result<bool, StoreError> {
        let Some(shared) = self.shared() else { return Ok(false) };
        Ok(self.index().recall(&mark(shared, record))?.is_none())
    }

    /// Puts the record of `row`, and all that it needs, into the shared store. One that can't be reached is left alone, and tells so
    /// ([`Shared::trouble`]): the record is here, and published when it is next used.
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

    /// Puts these blobs, and those that they list, into the shared store, if there is one, for others to read. What is not here is passed over.
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

    /// These blobs and their parts. What has been lost is passed over.
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

/// What the note of a published record is remembered by.
fn mark(shared: &Shared, record: &Digest) -> Digest {
    Digest::of(format!("published {} {}", record.hex(), shared.url()))
}
