use std::collections::{BTreeMap, BTreeSet};

use super::input::references;
use crate::pipeline::{Pipeline, PipelineError};

impl Pipeline {
    /// Returns the names of the tasks, each after its dependencies, otherwise sorted by name.
    pub(super) fn in_order(&self) -> Result<Vec<&str>, PipelineError> {
        let tasks = &self.content.tasks;
        let mut waits: BTreeMap<&str, usize> = BTreeMap::new();
        let mut dependents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, task) in tasks {
            let from: BTreeSet<&str> = references(&task.value).filter(|from| tasks.contains_key(*from)).collect();
            waits.insert(name, from.len());
            from.into_iter()
                .for_each(|from| dependents.entry(from).or_default().push(name));
        }
        let mut ready: BTreeSet<&str> = waits
            .iter()
            .filter(|(_, waits)| **waits == 0)
            .map(|(name, _)| *name)
            .collect();
        let mut ordered = Vec::with_capacity(tasks.len());
        while let Some(name) = ready.pop_first() {
            ordered.push(name);
            waits.remove(name);
            for dependent in dependents.remove(name).unwrap_or_default() {
                if let Some(left) = waits.get_mut(dependent) {
                    *left -= 1;
                    if *left == 0 {
                        ready.insert(dependent);
                    }
                }
            }
        }
        match waits.is_empty() {
            true => Ok(ordered),
            false => Err(self.cycle(&waits)),
        }
    }

    /// Finds a cycle in `left`, where every task depends on another one of `left`: follows dependencies until a task repeats.
    fn cycle(&self, left: &BTreeMap<&str, usize>) -> PipelineError {
        let tasks = &self.content.tasks;
        let mut path: Vec<&str> = left.keys().take(1).copied().collect();
        loop {
            let last = path[path.len() - 1];
            let back = references(&tasks[last].value).find(|from| left.contains_key(from));
            let Some(next) = back else {
                return PipelineError::whole(&self.file, "the tasks form a cycle".into());
            };
            if let Some(start) = path.iter().position(|name| *name == next) {
                let names: Vec<_> = path[start..].iter().chain([&next]).map(|name| format!("`{name}`")).collect();
                let message = format!("the tasks form a cycle: {}", names.join(" reads from "));
                let inputs = &tasks[last].value.inputs;
                let at = inputs
                    .values()
                    .find(|text| text.value.split_once('.').is_some_and(|(task, _)| task == next));
                return at.map_or_else(|| self.error(&tasks[last], &message), |at| self.error(at, &message));
            }
            path.push(next);
        }
    }
}
