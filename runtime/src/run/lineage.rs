use std::collections::{BTreeMap, BTreeSet};

use super::{RunError, Runtime};
use crate::digest::Digest;
use crate::store::{Link, Role, Row};

/// Which way a lineage goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To what something was made from.
    Up,
    /// To what was made from it.
    Down,
}

/// Runs, and what they read and made, around one of them or around an artifact.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// The runs, by record. What each read and made is in its links.
    pub runs: BTreeMap<Digest, Row>,
    /// The runs that the artifacts on the way lead to: up, those that made one, down, those that read it or are run of it. An artifact
    /// that leads to none ends there: up, it was given.
    pub leads: BTreeMap<Digest, Vec<Digest>>,
}

impl Lineage {
    /// The artifacts that a run leads to: up, what it read, down, what it made.
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
    /// All runs that `start`, a record or an artifact, came from, or that came from it. Of several runs that made the same artifact the
    /// oldest is followed: the others made nothing new.
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
        // a record that was removed since leads nowhere
        if let Some((found, observed)) = self.record(&record)? {
            lineage.runs.insert(record, found.row(record, &observed));
            artifacts.extend(lineage.of_run(&record, direction).iter().map(|link| link.artifact));
        }
        Ok(())
    }

    /// The runs that made the files of a directory that none made as a whole: a pipeline put it together.
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
            // a run that hands on what it was given did not make it
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
