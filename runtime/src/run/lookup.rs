use super::{Observed, Ran, Record, RunError, Runtime};
use crate::digest::{Digest, RunKey};
use crate::step::Limits;
use crate::store::{Check, Copied, Keep, Row, Runs, Store, StoreError, Sweep};

impl Runtime {
    /// Returns the newest record that answers `key` under `limits` and whose outputs still exist. Uploads
    /// nothing. Copies a record of the shared store to the local one. Use [`recall`](Self::recall) to use the result.
    pub fn lookup(&self, key: RunKey, limits: &Limits) -> Result<Option<Ran>, RunError> {
        if let Some(ran) = self.find_among(&self.store.find(&key)?, limits)? {
            return Ok(Some(ran));
        }
        let found = self.find_among(&self.store.find_shared(&key)?, limits)?;
        if let Some(ran) = &found {
            self.store.note_published(&ran.digest)?;
        }
        Ok(found)
    }

    fn find_among(&self, records: &[Digest], limits: &Limits) -> Result<Option<Ran>, RunError> {
        for digest in records {
            let Some((record, observed)) = self.record(digest)? else {
                continue;
            };
            if record.answers(limits) && self.is_whole(&record)? {
                return Ok(Some(Ran {
                    record,
                    digest: *digest,
                    observed,
                    cached: true,
                }));
            }
        }
        Ok(None)
    }

    /// Returns the newest record with the run key `key`, whatever its outcome.
    pub fn newest_with(&self, key: RunKey) -> Result<Option<(Digest, Record)>, RunError> {
        self.records(self.store.find(&key)?).next().transpose()
    }

    /// Returns the newest records of a step, or of a program with these arguments ([`Entry::title`]), in any module.
    pub fn newest_of(&self, step: &str, most: usize) -> Result<Vec<(Digest, Record)>, RunError> {
        self.records(self.store.newest_of(step, most)?).collect()
    }

    fn records(&self, digests: Vec<Digest>) -> impl Iterator<Item = Result<(Digest, Record), RunError>> {
        let record = |digest| Ok(self.record(&digest)?.map(|(record, _)| (digest, record)));
        digests.into_iter().filter_map(move |digest| record(digest).transpose())
    }

    /// Returns the record `digest`.
    pub fn record(&self, digest: &Digest) -> Result<Option<(Record, Observed)>, RunError> {
        if let Some(found) = self.own_record(digest)? {
            return Ok(Some(found));
        }
        let Some(json) = self.store.get_shared_record(digest)? else {
            return Ok(None);
        };
        let (record, observed) = Record::read(digest, &json)?;
        self.store.put_record(Some(json.into()), &record.row(*digest, &observed))?;
        Ok(Some((record, observed)))
    }

    /// Returns the record `digest` of the local store. A damaged one counts as missing.
    pub(super) fn own_record(&self, digest: &Digest) -> Result<Option<(Record, Observed)>, RunError> {
        let Some(json) = self.store.get_record(digest)? else {
            return Ok(None);
        };
        let read = Record::read(digest, &json);
        if read.is_err() {
            self.store.note_damage(digest);
        }
        Ok(read.ok())
    }

    /// Returns the runs of this store, newest first.
    pub fn runs(&self, runs: &Runs) -> Result<Vec<Row>, RunError> {
        Ok(self.store.rows(runs)?)
    }

    /// Returns whether the store still has the record `digest` and its outputs.
    pub fn is_kept(&self, digest: &Digest, record: &Record) -> Result<bool, RunError> {
        Ok(self.own_record(digest)?.is_some() && self.is_whole(record)?)
    }

    fn is_whole(&self, record: &Record) -> Result<bool, StoreError> {
        for artifact in record.outputs.values().chain(&record.log) {
            if self.store.lacking(artifact)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads everything in the store, checks every digest and rebuilds the index.
    pub fn check(&self) -> Result<Check, RunError> {
        Ok(self.store.check(read_row)?)
    }

    /// Returns the objects of the store that are not needed. What running work uses is needed.
    pub fn plan_sweep(&self, keep: &Keep) -> Result<Sweep, RunError> {
        Ok(self.store.plan_sweep(&self.store.read_rows(read_row)?, keep)?)
    }

    /// Removes the objects of a sweep, except for those that were written or used since. Calls `tell` for each file.
    pub fn carry_out(&self, sweep: &Sweep, tell: impl FnMut()) -> Result<(), RunError> {
        Ok(self.store.carry_out(sweep, read_row, tell)?)
    }

    /// Copies all artifacts and records to `target`, also while other processes use or sweep the store. Calls `tell` with the size of each
    /// artifact.
    pub fn copy_to(&self, target: &Store, tell: impl FnMut(u64)) -> Result<Copied, RunError> {
        let check = |digest: &Digest, json: &[u8]| read_row(digest, json).is_some();
        Ok(self.store.copy_to(target, check, tell)?)
    }

    /// Rebuilds the index from the records, if it is incomplete because it was lost or written by an older version.
    pub fn ensure_index(&self) -> Result<(), RunError> {
        if !self.store.is_indexed()? {
            self.store.reindex(&self.store.read_rows(read_row)?)?;
        }
        Ok(())
    }
}

/// Parses a record into a row; `None` if it is malformed or does not match its digest.
fn read_row(digest: &Digest, json: &[u8]) -> Option<Row> {
    let (record, observed) = Record::read(digest, json).ok()?;
    Some(record.row(*digest, &observed))
}
