use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::BundleError;
use crate::digest::{Digest, canonical_json};
use crate::pipeline::{Done, End, Executed, Skipped};
use crate::run::{Record, Runtime};
use crate::step::Artifact;

const VERSION: u32 = 1;

/// The results of a plan, as claimed by the creator of the bundle. Only a replay can verify them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    version: u32,
    /// The tasks and instances of tasks, in plan order.
    pub tasks: Vec<Expectation>,
    /// The records of the tasks and of the runs that they called, sorted by digest.
    records: Vec<Record>,
    /// The pipeline's own outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Artifact>,
}

/// The expected result of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The task.
    pub task: String,
    /// Its record; `None` if it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
}

impl Expected {
    /// Creates the expected results from `executed`. Every task must have succeeded or been skipped.
    pub(super) fn of(runtime: &Runtime, executed: &Executed) -> Result<Self, BundleError> {
        let (mut tasks, mut records) = (Vec::new(), BTreeMap::new());
        for done in &executed.tasks {
            let record = match &done.end {
                End::Ran(ran) if ran.record.outcome.succeeded() => Some(ran.digest),
                End::Skipped(_) | End::Empty => None,
                End::Ran(_) | End::Error(_) | End::NotStarted => {
                    return Err(BundleError::Failed { task: done.task.clone() });
                }
            };
            if let End::Ran(ran) = &done.end {
                records.insert(ran.digest, ran.record.hashed());
                add_called(runtime, &ran.record, &mut records)?;
            }
            let task = done.task.clone();
            tasks.push(Expectation { task, record });
        }
        Ok(Self {
            version: VERSION,
            tasks,
            records: records.into_values().collect(),
            outputs: executed.outputs.clone(),
        })
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, BundleError> {
        canonical_json(self).map_err(BundleError::Encode)
    }

    pub(super) fn read(json: &[u8]) -> Result<Self, BundleError> {
        let expected: Self = serde_json::from_slice(json).map_err(BundleError::json("the bundle's expected results"))?;
        if expected.version != VERSION {
            let found = format!("version {}", expected.version);
            return Err(BundleError::other(
                "the bundle's expected results",
                found,
                format!("version {VERSION}"),
            ));
        }
        let records = expected.records()?;
        let lost = |wanted: &Expectation| wanted.record.is_some_and(|record| !records.contains_key(&record));
        if let Some(Expectation {
            task,
            record: Some(digest),
        }) = expected.tasks.iter().find(|wanted| lost(wanted))
        {
            let what = format!("record of task `{task}`");
            return Err(BundleError::Lacks { digest: *digest, what });
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = expected.tasks.iter().find(|wanted| !seen.insert(&wanted.task)) {
            let name = format!("task {}", twice.task);
            return Err(BundleError::Twice { name });
        }
        Ok(expected)
    }

    /// Returns the records, by digest.
    pub fn records(&self) -> Result<BTreeMap<Digest, &Record>, BundleError> {
        let named = |record| Ok((Record::digest(record)?, record));
        self.records.iter().map(named).collect()
    }
}

/// Adds the records of the runs that `record` called, directly and indirectly.
fn add_called(runtime: &Runtime, record: &Record, records: &mut BTreeMap<Digest, Record>) -> Result<(), BundleError> {
    let mut open = record.called.clone();
    while let Some(digest) = open.pop() {
        if records.contains_key(&digest) {
            continue;
        }
        // a called run whose record is lost is skipped: the caller's record still names it
        if let Some((called, _)) = runtime.record(&digest)? {
            open.extend(&called.called);
            records.insert(digest, called.hashed());
        }
    }
    Ok(())
}

/// An output of a task, with its digest in the bundle and in the replay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Compared {
    /// The task.
    pub task: String,
    /// The output; `(log)` stands for stdout and stderr.
    pub what: String,
    /// The digest in the bundle.
    pub expected: Option<Digest>,
    /// The digest in the replay.
    pub got: Option<Digest>,
}

impl Compared {
    /// Returns whether both digests are equal.
    pub fn is_equal(&self) -> bool {
        self.got == self.expected
    }
}

/// Compares the results of a plan with the expected ones: every output and log of every task.
pub fn compare(expected: &Expected, executed: &Executed) -> Result<Vec<Compared>, BundleError> {
    let records = expected.records()?;
    let wanted = |record: Option<Digest>| record.and_then(|digest| records.get(&digest)).copied();
    let mut got: BTreeMap<&str, Option<&Record>> = executed.tasks.iter().map(came_to).collect();
    let mut all = Vec::new();
    for Expectation { task, record } in &expected.tasks {
        let made = got.remove(task.as_str()).flatten();
        all.extend(compare_task(task, wanted(*record), made));
    }
    // tasks that the bundle does not expect
    for (task, made) in got {
        all.extend(compare_task(task, None, made));
    }
    Ok(all)
}

fn came_to(done: &Done) -> (&str, Option<&Record>) {
    let record = match &done.end {
        End::Ran(ran) => Some(&ran.record),
        End::Skipped(Skipped::When(_) | Skipped::After(_)) | End::Empty | End::Error(_) | End::NotStarted => None,
    };
    (&done.task, record)
}

fn compare_task(task: &str, expected: Option<&Record>, got: Option<&Record>) -> Vec<Compared> {
    let (expected, got) = (flat(expected), flat(got));
    let names: BTreeSet<&str> = expected.keys().chain(got.keys()).copied().collect();
    let row = |what: &str| Compared {
        task: task.to_owned(),
        what: what.to_owned(),
        expected: expected.get(what).copied(),
        got: got.get(what).copied(),
    };
    names.into_iter().map(row).collect()
}

/// Returns the digests of a run's outputs and log, by name.
fn flat(record: Option<&Record>) -> BTreeMap<&str, Digest> {
    let Some(record) = record else { return BTreeMap::new() };
    let log = record.log.iter().map(|log| ("(log)", log.digest));
    let outputs = record.outputs.iter().map(|(name, artifact)| (name.as_str(), artifact.digest));
    log.chain(outputs).collect()
}
