//! Stores records, and copies them to the shared store.

use super::{Ran, RunError, Runtime};
use crate::digest::RunKey;
use crate::step::Limits;
use crate::store::Row;

impl Runtime {
    /// Writes the record of an executed run, also to the shared store if the outcome is deterministic. As the newest record of its run,
    /// it answers the run from then on.
    pub fn keep(&self, ran: &Ran) -> Result<(), RunError> {
        let row = ran.record.row(ran.digest, &ran.observed);
        let json = match self.own_record(&ran.digest)? {
            Some(_) => None,
            None => Some(ran.record.write(&ran.observed)?),
        };
        self.store.put_record(json, &row)?;
        if ran.record.outcome.is_deterministic() {
            self.publish(&row);
        }
        Ok(())
    }

    /// Copies a record to the shared store. The run is complete also without that: the store remembers a failure.
    fn publish(&self, row: &Row) {
        if let Err(error) = self.store.publish(row) {
            self.store.note_unpublished(&row.record, &error);
        }
    }

    /// Returns the cached result of a run, as [`lookup`](Self::lookup) does. If the shared store lacks the record, copies it there, with
    /// everything it needs.
    pub fn recall(&self, key: RunKey, limits: &Limits) -> Result<Option<Ran>, RunError> {
        let found = self.lookup(key, limits)?;
        if let Some(ran) = &found
            && self.store.is_unpublished(&ran.digest)?
        {
            self.publish(&ran.record.row(ran.digest, &ran.observed));
        }
        Ok(found)
    }
}
