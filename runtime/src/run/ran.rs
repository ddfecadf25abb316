use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Observed, Record, RecordError, Run, record};
use crate::digest::{Digest, RunKey};
use crate::step::{self, Artifact};

/// A run that was executed, or found in the cache.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its record.
    pub record: Record,
    /// The record's digest.
    pub digest: Digest,
    /// Observations of the execution.
    pub observed: Observed,
    /// Whether it was found in the cache and not executed.
    pub cached: bool,
}

impl Ran {
    /// The media type of [`to_json`](Self::to_json), as in the outputs of a notebook.
    pub const MEDIA_TYPE: &'static str = "application/vnd.lockstep.run+json";

    /// Returns the run as JSON: `record` (its digest), `cached`, and the keys of [`Record::to_json`].
    pub fn to_json(&self) -> Value {
        let mut object = self.record.to_json(&self.observed);
        object["record"] = json!(self.digest);
        object["cached"] = json!(self.cached);
        object
    }

    /// Parses the result of [`to_json`](Self::to_json). Fails if the record does not match its digest.
    pub fn from_json(told: Value) -> Result<Self, RecordError> {
        RunJson::read(told)?.check()
    }
}

/// The JSON of a run.
#[derive(Deserialize)]
struct RunJson {
    record: Digest,
    cached: bool,
    key: RunKey,
    run: Run,
    outcome: step::Outcome,
    outputs: BTreeMap<String, Artifact>,
    #[serde(default)]
    called: Vec<Digest>,
    log: Option<Artifact>,
    usage: Option<step::Usage>,
    observed: Observed,
}

impl RunJson {
    fn read(told: Value) -> Result<Self, RecordError> {
        let digest = told["record"].as_str().and_then(|text| text.parse().ok());
        serde_json::from_value(told).map_err(|source| RecordError::Malformed {
            digest: digest.unwrap_or_else(|| Digest::of([])),
            source,
        })
    }

    fn check(self) -> Result<Ran, RecordError> {
        let record = Record {
            version: record::VERSION,
            key: self.key,
            run: self.run,
            outcome: self.outcome,
            outputs: self.outputs,
            called: self.called,
            log: self.log,
            usage: self.usage,
        };
        let found = record.digest()?;
        match found == self.record {
            true => Ok(Ran {
                record,
                digest: found,
                observed: self.observed,
                cached: self.cached,
            }),
            false => Err(RecordError::Corrupt {
                expected: self.record,
                found,
            }),
        }
    }
}
