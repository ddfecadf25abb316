use std::collections::HashMap;

use super::Task;
use crate::digest::Digest;
use crate::run::Runtime;

/// The expected memory of an unknown task: 256 MiB.
const GUESS: u64 = 256 << 20;

/// The expected memory of guests, in bytes: the task's own limit, or else a quarter more than the newest run of the same step used, or
/// else a fixed guess.
pub struct ExpectedMemory<'a> {
    runtime: &'a Runtime,
    learned: HashMap<(Digest, String), u64>,
}

impl<'a> ExpectedMemory<'a> {
    /// Creates an estimate from the records of `runtime`.
    pub fn new(runtime: &'a Runtime) -> Self {
        Self {
            runtime,
            learned: HashMap::new(),
        }
    }

    /// Returns the expected memory of `task`, in bytes.
    pub fn of(&mut self, task: &Task) -> u64 {
        task.limits.memory.unwrap_or_else(|| {
            let (runtime, step) = (self.runtime, (task.run.module, task.run.entry.title()));
            let learned = self.learned.entry(step);
            *learned.or_insert_with_key(|(module, step)| learn(runtime, module, step))
        })
    }
}

fn learn(runtime: &Runtime, module: &Digest, step: &str) -> u64 {
    let newest = runtime.newest_of(step, 4).unwrap_or_default().into_iter();
    let mut same = newest.filter(|(_, record)| record.run.module == *module);
    let used = same.find_map(|(_, record)| Some(record.usage?.memory));
    used.map_or(GUESS, |used| used + used / 4)
}
