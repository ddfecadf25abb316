use std::collections::{BTreeMap, BTreeSet};

use super::{RunError, Runtime};
use crate::digest::Digest;
use crate::store::{Link, Role, Row};

/// The direction of a lineage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Towards the origins.
    Up,
    /// Towards the derived artifacts.
    Down,
}

/// The runs that a run or an artifact depends on, or that depend on it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// The runs, by record. The links of a row are its inputs and outputs.
    pub runs: BTreeMap<Digest, Row>,
    /// The next runs of each artifact: up, the runs that made it; down, the runs that read it or have it as their module. The lineage
    /// ends at an artifact without next runs; up, it was imported.
    pub leads: BTreeMap<Digest, Vec<Digest>>,
}

impl Lineage {
    /// Returns the next artifacts of a run: up, its inputs; down, its outputs.
    pub fn of_run(&self, record: &Digest, direction: Direction) -> Vec<&Link> {
        let role = match direction {
            Direction::Up => Role::Input,
            Direction::Down => Role::Output,
        };
        let links = self.runs.get(record).map(|row| row.links.iter()).into_iter().flatten();
        links.filter(|link| link.role == role).collect()
    }
}

impl Runtime {
    /// Returns the lineage of `start`, a record or an artifact. If several runs made the same artifact, follows only the oldest.
    pub fn lineage(&self, start: &Digest, direction: Direction) -> Result<Lineage, RunError> {
        let mut lineage = Lineage::default();
        let mut artifacts = Vec::new();
        match self.record(start)? {
            Some(_) => self.follow(*start, direction, &mut lineage, &mut artifacts)?,
            None => artifacts.push(*start),
        }
        while let Some(artifact) = artifacts.pop() {
            if lineage.leads.contains_key(&artifact) {
                continue;
            }
            let runs = self.leads(&artifact, direction)?;
            lineage.leads.insert(artifact, runs.clone());
            for record in runs {
                self.follow(record, direction, &mut lineage, &mut artifacts)?;
            }
        }
        Ok(lineage)
    }

    fn follow(
        &self,
        record: Digest,
        direction: Direction,
        lineage: &mut Lineage,
        artifacts: &mut Vec<Digest>,
    ) -> Result<(), RunError> {
        if lineage.runs.contains_key(&record) {
            return Ok(());
        }
        // the record may have been removed
        if let Some((found, observed)) = self.record(&record)? {
            lineage.runs.insert(record, found.row(record, &observed));
            artifacts.extend(lineage.of_run(&record, direction).iter().map(|link| link.artifact));
        }
        Ok(())
    }

    /// Returns the runs that made the files of a directory. For a directory that no run made, because a pipeline combined its files.
    fn makers_of_files(&self, directory: &Digest) -> Result<Vec<Digest>, RunError> {
        let known = self.store.artifact(directory)?;
        let Some(directory) = known.filter(|known| known.is_directory() && self.store.contains(&known.digest).unwrap_or(false))
        else {
            return Ok(Vec::new());
        };
        let mut makers = Vec::new();
        for file in self.store.list_directory(&directory)?.values() {
            let made = self.leads(&file.digest, Direction::Up)?;
            makers.extend(made.into_iter().filter(|record| !makers.contains(record)).collect::<Vec<_>>());
        }
        Ok(makers)
    }

    fn leads(&self, artifact: &Digest, direction: Direction) -> Result<Vec<Digest>, RunError> {
        let links = self.store.links_of(artifact)?;
        let runs = |roles: &[Role]| -> Vec<Digest> {
            let mut seen = BTreeSet::new();
            let links = links.iter().filter(|(_, link)| roles.contains(&link.role));
            let records = links.map(|(record, _)| *record);
            records.filter(|record| seen.insert(*record)).collect()
        };
        Ok(match direction {
            // a run whose output is also its input did not make it
            Direction::Up => {
                let given = runs(&[Role::Input]);
                let made = runs(&[Role::Output]).into_iter();
                match made.filter(|record| !given.contains(record)).take(1).collect() {
                    none if Vec::is_empty(&none) => self.makers_of_files(artifact)?,
                    one => one,
                }
            }
            Direction::Down => runs(&[Role::Input, Role::Module]),
        })
    }
}
