//! Stores records, and copies them to the shared store.

use super::{Ran, RunError, Runtime};

impl Runtime {
    /// Writes the record of an executed run, also to the shared store if the outcome is deterministic. As the newest record of its run,
    /// it answers the run from then on.
    pub fn keep(&self, ran: &Ran) -> Result<(), RunError> {
        let row = ran.record.row(ran.digest, &ran.observed);
        self.store.put_record(ran.record.write(&ran.observed)?, &row)?;
        self.publish(ran)
    }

    /// Copies a record that is used, with everything it needs, to the shared store if that lacks it. A record whose outcome may depend on
    /// the machine stays in the local store.
    pub fn publish(&self, ran: &Ran) -> Result<(), RunError> {
        if ran.record.outcome.is_deterministic() && self.store.is_unpublished(&ran.digest)? {
            self.store.publish(&ran.record.row(ran.digest, &ran.observed))?;
        }
        Ok(())
    }
}
