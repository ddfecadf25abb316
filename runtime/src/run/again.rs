use super::{Ran, Record, Reuse, RunError, Runtime};
use crate::sandbox::Interrupt;
use crate::step::{Limit, Limits};

impl Runtime {
    /// Executes the run of `record` again, without the cache and under limits that don't change the result. Writes no record;
    /// [`keep`](Self::keep) does that if the result differs.
    pub fn again(&self, record: &Record, interrupt: &Interrupt) -> Result<Ran, RunError> {
        self.run(&record.run, Reuse::Unrecorded, &record.limits(), interrupt, &mut |_, _| ())
    }

    /// Writes the record of an executed run, also to the shared store if the outcome is deterministic. As the newest record of its run,
    /// it answers the run from then on.
    pub fn keep(&self, ran: &Ran) -> Result<(), RunError> {
        let row = ran.record.row(ran.digest, &ran.observed);
        self.store.put_record(ran.record.write(&ran.observed)?, &row)?;
        if ran.record.outcome.is_deterministic() {
            self.store.publish(&row)?;
        }
        Ok(())
    }
}

impl Record {
    /// Returns limits under which the run has the same result: the limits that it reached, and otherwise the default or the usage,
    /// whichever is larger.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        let usage = self.usage.clone().unwrap_or_default();
        let of = |limit: Limit, used: u64| usage.reached.get(&limit).copied().unwrap_or(used.max(limit.of(&default)));
        Limits {
            memory: of(Limit::Memory, usage.memory),
            fuel: of(Limit::Fuel, usage.fuel),
            output: of(Limit::Output, usage.output),
            log: of(Limit::Log, usage.log),
            time: None,
        }
    }
}
