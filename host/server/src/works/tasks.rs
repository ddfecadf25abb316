//! The tasks of a plan, which share the memory of the host with everything else that runs.

use lockstep_runtime::pipeline::{Carrier, TaskError};
use lockstep_runtime::run::{Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use lockstep_runtime::step::Limits;
use lockstep_view::error::Error;
use tokio::runtime::Handle;

use super::WorkItem;
use crate::gate::Gate;
use crate::room::Room;

/// Executes the tasks of a plan.
pub(super) struct Tasks<'a> {
    runtime: &'a Runtime,
    work: &'a WorkItem,
    gate: &'a Gate,
    room: &'a Room,
    reuse: Reuse,
    /// For the threads of tasks, which wait for memory.
    threads: Handle,
}

impl<'a> Tasks<'a> {
    /// Must be called within a tokio runtime.
    pub(super) fn new(runtime: &'a Runtime, work: &'a WorkItem, (gate, room): (&'a Gate, &'a Room), reuse: Reuse) -> Self {
        Self {
            runtime,
            work,
            gate,
            room,
            reuse,
            threads: Handle::current(),
        }
    }
}

impl Carrier for Tasks<'_> {
    fn carry_out(
        &self,
        _task: &str,
        run: &Run,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, TaskError> {
        let limits = &self.gate.within(limits.clone());
        // a cached result needs no memory
        if self.reuse == Reuse::Records
            && let Some(ran) = self.runtime.recall(run.key()?, limits)?
        {
            self.runtime.replay_log(&ran.record, log)?;
            return Ok(ran);
        }
        let room = self.room.check(&self.gate.quota(&self.work.owner));
        room.map_err(|refusal| TaskError::Elsewhere(told(&refusal.error)))?;
        // without any, the work was stopped, and the run ends at once
        let memory = self.gate.memory(&self.work.owner, limits.memory, &self.work.stop);
        let _memory = self.threads.block_on(memory);
        Ok(self.runtime.run(run, self.reuse, limits, interrupt, log)?)
    }
}

/// Returns an error as the text of the error of a task.
fn told(error: &Error) -> String {
    let hints = error.hints().iter().map(|hint| format!("\nhint: {hint}"));
    std::iter::once(error.message().to_owned()).chain(hints).collect()
}
