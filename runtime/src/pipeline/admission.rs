use std::collections::{BTreeMap, BTreeSet};

/// Decides which ready task starts next, so that the running tasks fit into a memory budget. No I/O.
///
/// The first ready task that fits starts. A task that needs more than the whole budget starts when no other task runs.
#[derive(Debug)]
pub struct Admission {
    budget: u64,
    used: u64,
    running: usize,
    /// Ready tasks, by the memory that they need.
    ready: BTreeMap<u64, BTreeSet<usize>>,
}

impl Admission {
    /// Creates an admission with a budget in bytes.
    pub fn new(budget: u64) -> Self {
        Self {
            budget,
            used: 0,
            running: 0,
            ready: BTreeMap::new(),
        }
    }

    /// Adds a ready task that needs `need` bytes.
    pub fn add(&mut self, task: usize, need: u64) {
        self.ready.entry(need).or_default().insert(task);
    }

    /// Returns the next task to start, and the memory that it needs.
    pub fn pick(&mut self) -> Option<(usize, u64)> {
        let free = match self.running {
            0 => u64::MAX,
            _ => self.budget.checked_sub(self.used)?,
        };
        let fitting = self.ready.range(..=free);
        let first = fitting.filter_map(|(need, tasks)| Some((*tasks.first()?, *need))).min()?;
        let (task, need) = first;
        if let Some(tasks) = self.ready.get_mut(&need) {
            tasks.remove(&task);
            if tasks.is_empty() {
                self.ready.remove(&need);
            }
        }
        self.running += 1;
        self.used = self.used.saturating_add(need);
        Some(first)
    }

    /// Releases the memory of a task that has ended.
    pub fn release(&mut self, need: u64) {
        self.running -= 1;
        self.used = self.used.saturating_sub(need);
    }

    /// Returns the number of running tasks.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Returns whether no task is ready.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_runs_fits_unless_it_runs_alone(needs in proptest::collection::vec(0u64..30, 1..60), budget in 1u64..40, ends in any::<u64>()) {
            let mut admission = Admission::new(budget);
            needs.iter().enumerate().for_each(|(task, need)| admission.add(task, *need));
            let (mut running, mut ran, mut ends) = (Vec::new(), 0, ends);
            while ran < needs.len() {
                while let Some((task, need)) = admission.pick() {
                    prop_assert_eq!(need, needs[task]);
                    running.push(need);
                    prop_assert!(running.len() == 1 || running.iter().sum::<u64>() <= budget);
                }
                prop_assert!(!running.is_empty(), "nothing runs though {} are left", needs.len() - ran);
                ends = ends.wrapping_mul(6364136223846793005).wrapping_add(1);
                admission.release(running.swap_remove(ends as usize % running.len()));
                ran += 1;
            }
            prop_assert!(admission.is_empty() && admission.running() == 0);
        }
    }

    #[test]
    fn the_first_that_fits_starts() {
        let mut admission = Admission::new(10);
        [(0, 6), (1, 6), (2, 3), (3, 99)]
            .into_iter()
            .for_each(|(task, need)| admission.add(task, need));
        let order: Vec<_> = [admission.pick(), admission.pick(), admission.pick()].into();
        assert_eq!(order, [Some((0, 6)), Some((2, 3)), None]);
        admission.release(6);
        assert_eq!(admission.pick(), Some((1, 6)));
        [6, 3].into_iter().for_each(|need| admission.release(need));
        assert_eq!((admission.pick(), admission.pick()), (Some((3, 99)), None));
    }
}
