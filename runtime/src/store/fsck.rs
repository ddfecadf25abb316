use super::{Row, Store, StoreError};
use crate::digest::Digest;

/// What a check of the whole store found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Check {
    /// How many artifacts were read.
    pub artifacts: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many records were read.
    pub records: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
    /// The bytes are not those that the name says.
    #[error("artifact {0} has other bytes than its name says")]
    Artifact(Digest),
    /// A record can't be read or is not what its name says.
    #[error("record {0} is damaged")]
    Record(Digest),
    /// A record names an artifact that is not there.
    #[error("record {record} needs artifact {artifact}, which is missing")]
    Missing {
        /// the record
        record: Digest,
        /// the artifact
        artifact: Digest,
    },
    /// In the shared store, a run key leads to a record that is not there.
    #[error("{name} of the shared store leads to record {record}, which is missing")]
    Dangling {
        /// the object
        name: String,
        /// the record
        record: Digest,
    },
}

impl Store {
    /// Reads everything, checks every digest and rebuilds the index. `row` reads a record: its index row, or `None` for one
    /// that is not what its name says. Nothing is removed.
    pub(crate) fn check(&self, row: impl Fn(&Digest, &[u8]) -> Option<Row>) -> Result<Check, StoreError> {
        let mut check = Check::default();
        for digest in self.blobs.list("blobs")? {
            match self.blobs.get_unverified(&digest)? {
                Some(bytes) => {
                    check.artifacts += 1;
                    check.bytes += bytes.len() as u64;
                    if Digest::of(&bytes) != digest {
                        check.findings.push(Finding::Artifact(digest));
                    }
                }
                // removed by another process since it was listed
                None => continue,
            }
        }
        let mut rows = Vec::new();
        for digest in self.blobs.list("records")? {
            let Some(json) = self.get_record(&digest)? else { continue };
            check.records += 1;
            let Some(row) = row(&digest, &json) else {
                check.findings.push(Finding::Record(digest));
                continue;
            };
            for artifact in &row.artifacts {
                if !self.contains(&artifact.digest)? {
                    check.findings.push(Finding::Missing {
                        record: digest,
                        artifact: artifact.digest,
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

    /// The rows of all records that `row` can read.
    pub(crate) fn read_rows(&self, row: impl Fn(&Digest, &[u8]) -> Option<Row>) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for digest in self.blobs.list("records")? {
            let json = self.get_record(&digest)?;
            rows.extend(json.and_then(|json| row(&digest, &json)));
        }
        Ok(rows)
    }

    /// Removes what a finding names. A run makes it again.
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
