use std::collections::BTreeMap;

use super::{Runs, Store, StoreError};
use crate::digest::Digest;
use crate::step::Artifact;

/// Statistics of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepTally {
    /// The step, or the arguments of a plain program.
    pub step: String,
    /// Number of runs.
    pub runs: u64,
    /// Number of successful runs.
    pub succeeded: u64,
    /// Start time of the newest run, in milliseconds since the Unix epoch.
    pub newest_ms: u64,
    /// The module of the newest run.
    pub module: Digest,
    /// Total duration of all runs, in microseconds.
    pub wall_us: u64,
}

impl Store {
    /// Counts the runs that match `runs`, by outcome: see [`Outcome::word`](crate::step::Outcome::word). Ignores `most` and `skip`.
    pub fn count(&self, runs: &Runs) -> Result<BTreeMap<String, u64>, StoreError> {
        Ok(self.index().count(runs)?.into_iter().collect())
    }

    /// Returns the steps whose name contains `text`, most recently run first.
    pub fn steps(&self, text: &str, most: usize) -> Result<Vec<StepTally>, StoreError> {
        self.index().steps(text, most)
    }

    /// Returns the modules with a run of a step whose name contains `text`, and their number of runs; most recently run first.
    pub fn modules(&self, text: &str, most: usize) -> Result<Vec<(Digest, u64)>, StoreError> {
        self.index().modules(text, most)
    }

    /// Returns the total size in bytes of the artifacts in the index.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.index().size()
    }

    /// Returns artifacts whose media type contains `text`.
    pub fn of_media_type(&self, text: &str, most: usize) -> Result<Vec<Artifact>, StoreError> {
        self.index().of_media_type(text, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::RunKey;
    use crate::step::MediaType;
    use crate::store::Row;

    fn row(step: &str, word: &str, started_ms: u64) -> Row {
        let record = Digest::of(format!("{step} {word} {started_ms}"));
        Row {
            record,
            key: RunKey(record),
            module: Digest::of(step),
            step: step.to_owned(),
            word: word.to_owned(),
            outcome: format!("{word} of itself"),
            started_ms,
            wall_us: 10,
            artifacts: Vec::new(),
            links: Vec::new(),
        }
    }

    #[test]
    fn runs_are_counted_by_outcome_and_step() {
        let store = Store::temporary().unwrap();
        for row in [
            row("clean", "succeeded", 1),
            row("train", "succeeded", 2),
            row("train", "failed", 3),
        ] {
            store.put_record(Some(row.record.hex().into_bytes()), &row).unwrap();
        }
        let counted = |runs: Runs| store.count(&runs).unwrap().into_iter().collect::<Vec<_>>();
        let both = [("failed".to_owned(), 1), ("succeeded".to_owned(), 2)];
        assert_eq!(counted(Runs::newest(1)), both);
        let of_train = Runs {
            text: Some("TRAIN".to_owned()),
            since_ms: 3,
            ..Runs::newest(1)
        };
        assert_eq!(counted(of_train.clone()), both[..1]);
        assert_eq!(store.rows(&of_train).unwrap(), [row("train", "failed", 3)]);
        let second = Runs {
            skip: 1,
            ..Runs::newest(1)
        };
        assert_eq!(store.rows(&second).unwrap(), [row("train", "succeeded", 2)]);
        let train = StepTally {
            step: "train".to_owned(),
            runs: 2,
            succeeded: 1,
            newest_ms: 3,
            module: Digest::of("train"),
            wall_us: 20,
        };
        assert_eq!(store.steps("ra", 9).unwrap(), [train]);
        assert_eq!(
            store.modules("", 9).unwrap(),
            [(Digest::of("train"), 2), (Digest::of("clean"), 1)]
        );
    }

    #[test]
    fn artifacts_are_found_by_media_type() {
        let store = Store::temporary().unwrap();
        let table = store.put_artifact("a", &MediaType::new(MediaType::CSV)).unwrap();
        store.put_artifact("b", &MediaType::new(MediaType::JSON)).unwrap();
        assert_eq!(store.of_media_type("CSV", 9).unwrap(), [table]);
    }
}
