use super::{Ran, Record, Reuse, RunError, Runtime};
use crate::sandbox::Interrupt;
use crate::step::{Limit, Limits};

impl Runtime {
    /// Carries out the run of `record` once more, under limits that change nothing, and takes nothing from the cache. No record is
    /// written, so that the store tells the same runs and times as before; [`keep`](Self::keep) writes what came to something else.
    pub fn again(&self, record: &Record, interrupt: &Interrupt) -> Result<Ran, RunError> {
        self.run(&record.run, Reuse::Unrecorded, &record.limits(), interrupt, &mut |_, _| ())
    }

    /// Writes the record of a run that was carried out; the shared store gets it too, if the same run would come to it again. It is
    /// then the newest of its run, and so the one that answers.
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
    /// Limits under which the run comes to the same: those that it ran into, and else as much as anything gets, or as it used.
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
