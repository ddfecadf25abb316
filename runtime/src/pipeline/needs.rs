use std::collections::HashMap;

use super::{Execution, Task};
use crate::digest::Digest;
use crate::run::Runtime;

/// What a task is taken to need that nobody knows: 256 MiB.
const GUESS: u64 = 256 << 20;

/// How much memory tasks need: as they say, or a quarter more than the newest run of the same step did, or a guess.
pub(super) struct Needs<'a> {
    runtime: &'a Runtime,
    /// Whether it matters.
    one_by_one: bool,
    learned: HashMap<(Digest, String), u64>,
}

impl<'a> Needs<'a> {
    pub(super) fn new(runtime: &'a Runtime, execution: &Execution) -> Self {
        Self {
            runtime,
            one_by_one: execution.jobs.get() == 1,
            learned: HashMap::new(),
        }
    }

    pub(super) fn of(&mut self, task: &Task) -> u64 {
        match task.limits.memory {
            _ if self.one_by_one => 0,
            Some(declared) => declared,
            None => {
                let key = (task.run.module, task.run.entry.title());
                let runtime = self.runtime;
                *self
                    .learned
                    .entry(key)
                    .or_insert_with_key(|(module, step)| learn(runtime, module, step))
            }
        }
    }
}

/// The memory that a guest is expected to take, in bytes: what its own limit says, or a quarter more than the newest run of the same step took, or a guess.
pub fn expected_memory(runtime: &Runtime, task: &Task) -> u64 {
    let learned = || learn(runtime, &task.run.module, &task.run.entry.title());
    task.limits.memory.unwrap_or_else(learned)
}

fn learn(runtime: &Runtime, module: &Digest, step: &str) -> u64 {
    let newest = runtime.newest_of(step, 4).unwrap_or_default().into_iter();
    let mut same = newest.filter(|(_, record)| record.run.module == *module);
    let used = same.find_map(|(_, record)| Some(record.usage?.memory));
    used.map_or(GUESS, |used| used + used / 4)
}
