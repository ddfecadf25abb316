use std::collections::BTreeSet;

use super::{Row, Store, StoreError};
use crate::digest::Digest;

/// The result of checking a whole store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Check {
    /// Number of artifacts read.
    pub artifacts: u64,
    /// Total size of the artifacts, in bytes.
    pub bytes: u64,
    /// Number of records read.
    pub records: u64,
    /// The problems found.
    pub findings: Vec<Finding>,
}

/// A problem in a store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
    /// An artifact's content does not match its digest.
    #[error("artifact {0} is corrupt: its content does not match its digest")]
    Artifact(Digest),
    /// A record can't be read or does not match its digest.
    #[error("record {0} is corrupt")]
    Record(Digest),
    /// A record refers to a missing artifact.
    #[error("record {record} needs artifact {artifact}, which is missing")]
    Missing {
        /// the record
        record: Digest,
        /// the artifact
        artifact: Digest,
    },
    /// A run key in the shared store refers to a missing record.
    #[error("{name} in the shared store refers to record {record}, which is missing")]
    Dangling {
        /// the object
        name: String,
        /// the record
        record: Digest,
    },
}

impl Store {
    /// Reads everything, checks every digest and rebuilds the index. Removes nothing. `row` parses a record and returns its index
    /// row, or `None` if the record does not match its digest.
    pub(crate) fn check(&self, row: impl Fn(&Digest, &[u8]) -> Option<Row>) -> Result<Check, StoreError> {
        let mut check = Check::default();
        let (mut read, mut whole) = (BTreeSet::new(), BTreeSet::new());
        for digest in self.blobs.list("blobs")? {
            // another process may have removed it after it was listed
            if let Some((found, size)) = self.blobs.measure(&digest)? {
                read.insert(digest);
                check.artifacts += 1;
                check.bytes += size;
                match found == digest {
                    true => drop(whole.insert(digest)),
                    false => check.findings.push(Finding::Artifact(digest)),
                }
            }
        }
        // work may have stored more since
        let has = |digest: &Digest| Ok(whole.contains(digest) || !read.contains(digest) && self.has(digest)?);
        let mut rows = Vec::new();
        for digest in self.blobs.list("records")? {
            let Some(json) = self.blobs.peek_record(&digest)? else {
                continue;
            };
            check.records += 1;
            let Some(row) = row(&digest, &json) else {
                check.findings.push(Finding::Record(digest));
                continue;
            };
            for artifact in &row.artifacts {
                if let Some(lacking) = self.lacking_by(artifact, has)?
                    && !check.findings.contains(&Finding::Artifact(lacking))
                {
                    check.findings.push(Finding::Missing {
                        record: digest,
                        artifact: lacking,
                    });
                }
            }
            rows.push(row);
        }
        self.index().clear()?;
        self.reindex(&rows)?;
        if let Some(shared) = self.shared() {
            check.findings.extend(shared.check()?);
        }
        Ok(check)
    }

    /// Returns the rows of all records that `row` can parse.
    pub(crate) fn read_rows(&self, row: impl Fn(&Digest, &[u8]) -> Option<Row>) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for digest in self.blobs.list("records")? {
            let json = self.blobs.peek_record(&digest)?;
            rows.extend(json.and_then(|json| row(&digest, &json)));
        }
        Ok(rows)
    }

    /// Removes the object that a finding names. The next run that needs it recreates it.
    pub fn remove(&self, finding: &Finding) -> Result<(), StoreError> {
        match finding {
            Finding::Artifact(digest) => self.blobs.remove("blobs", digest),
            Finding::Record(digest) | Finding::Missing { record: digest, .. } => self.blobs.remove("records", digest),
            Finding::Dangling { name, .. } => {
                Ok(self.shared().map_or(Ok(()), |shared| shared.remove(&name.as_str().into()))?)
            }
        }
    }
}
