use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Run;
use crate::digest::{Digest, RunKey, canonical_json};
use crate::step::{Artifact, Limit, Limits, MediaType, Outcome, Usage};
use crate::store::{Link, Role, Row};

pub(super) const VERSION: u32 = 1;

/// The result of a run. Everything is hashed, except for media types of inputs: the same run gives the same record on any machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this format: 1.
    pub version: u32,
    /// The run's key.
    pub key: RunKey,
    /// The run.
    pub run: Run,
    /// The outcome.
    pub outcome: Outcome,
    /// The outputs.
    pub outputs: BTreeMap<String, Artifact>,
    /// The records of the runs that it called, in call order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<Digest>,
    /// The guest's stdout and stderr. Absent if they may depend on the machine.
    pub log: Option<Artifact>,
    /// The resources used. Absent if they may depend on the machine.
    pub usage: Option<Usage>,
}

/// Observations of one execution. Not hashed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Start time, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Duration, in microseconds.
    pub wall_us: u64,
    /// The name of the machine.
    pub host: String,
    /// The version of Lockstep.
    pub version: String,
    /// The guest's backtrace when it failed, with files and lines if the module has debug information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// The machine's error when it interrupted the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_error: Option<String>,
    /// The log, if it may depend on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Artifact>,
}

/// The error of reading or writing a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not a record.
    #[error("can't parse record {digest}: {source}; `lockstep fsck --fix` removes corrupt files")]
    Malformed {
        /// the record
        digest: Digest,
        /// the cause
        source: serde_json::Error,
    },
    /// The record does not match its digest.
    #[error("record {expected} is corrupt: its content has digest {found}; `lockstep fsck --fix` removes corrupt files")]
    Corrupt {
        /// the expected digest
        expected: Digest,
        /// the digest of the content
        found: Digest,
    },
    /// JSON serialization failed.
    #[error("can't write the record as JSON: {0}")]
    Encode(serde_json::Error),
}

/// The content of the file: the record and its observations.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<R, O> {
    record: R,
    observed: O,
}

impl Record {
    /// Returns limits under which the run has the same result: the limits that it reached, and otherwise the default or the usage,
    /// whichever is larger.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        let usage = self.usage.clone().unwrap_or_default();
        let of = |limit: Limit, used: u64| usage.reached.get(&limit).copied().unwrap_or(used.max(limit.of(&default)));
        Limits {
            memory: of(Limit::Memory, usage.memory),
            fuel: of(Limit::Fuel, usage.fuel),
            output: of(Limit::Output, usage.output),
            log: of(Limit::Log, usage.log),
            time: None,
        }
    }

    /// Returns the record's digest. As in the run key, media types of inputs are excluded: callers choose them, and the same run can
    /// have several callers.
    pub fn digest(&self) -> Result<Digest, RecordError> {
        Ok(Digest::of(canonical_json(&self.hashed()).map_err(RecordError::Encode)?))
    }

    /// Returns the hashed part of the record. The digest of its canonical JSON is the record's digest.
    pub fn hashed(&self) -> Self {
        let mut hashed = self.clone();
        for input in hashed.run.inputs.values_mut().filter(|input| !input.artifact.is_directory()) {
            input.artifact.media_type = MediaType::default();
        }
        hashed
    }

    /// Returns the record and its observations as JSON: `key`, `run`, `outcome`, `outputs` (name to `digest`, `media_type` and `size`),
    /// `called` (if not empty), `log`, `usage`, `observed`.
    pub fn to_json(&self, observed: &Observed) -> Value {
        let mut object = json!({
            "key": self.key,
            "run": self.run,
            "outcome": self.outcome,
            "outputs": self.outputs,
            "log": self.log,
            "usage": self.usage,
            "observed": observed,
        });
        if !self.called.is_empty() {
            object["called"] = json!(self.called);
        }
        object
    }

    /// Returns whether the run has the same result under `limits`.
    pub fn answers(&self, limits: &Limits) -> bool {
        let Some(usage) = self.usage.as_ref().filter(|_| self.outcome.is_deterministic()) else {
            return false;
        };
        let fits = |limit: Limit, used: u64| match usage.reached.get(&limit) {
            Some(value) => *value == limit.of(limits),
            None => used <= limit.of(limits),
        };
        fits(Limit::Memory, usage.memory)
            && fits(Limit::Fuel, usage.fuel)
            && fits(Limit::Output, usage.output)
            && fits(Limit::Log, usage.log)
    }

    pub(super) fn write(&self, observed: &Observed) -> Result<Vec<u8>, RecordError> {
        canonical_json(&Stored { record: self, observed }).map_err(RecordError::Encode)
    }

    pub(super) fn read(digest: &Digest, json: &[u8]) -> Result<(Self, Observed), RecordError> {
        let malformed = |source| RecordError::Malformed { digest: *digest, source };
        let Stored { record, observed }: Stored<Self, Observed> = serde_json::from_slice(json).map_err(malformed)?;
        let found = record.digest()?;
        if found != *digest {
            return Err(RecordError::Corrupt {
                expected: *digest,
                found,
            });
        }
        Ok((record, observed))
    }

    pub(super) fn row(&self, digest: Digest, observed: &Observed) -> Row {
        let inputs = self
            .run
            .inputs
            .iter()
            .map(|(name, input)| (Role::Input, name.as_str(), &input.artifact));
        let outputs = self
            .outputs
            .iter()
            .map(|(name, artifact)| (Role::Output, name.as_str(), artifact));
        let log = self
            .log
            .iter()
            .chain(&observed.log)
            .map(|artifact| (Role::Log, "log", artifact));
        let all: Vec<_> = inputs.chain(outputs).chain(log).collect();
        let link = |(role, name, artifact): &(Role, &str, &Artifact)| Link {
            artifact: artifact.digest,
            role: *role,
            name: (*name).to_owned(),
        };
        let module = Link {
            artifact: self.run.module,
            role: Role::Module,
            name: "module".to_owned(),
        };
        Row {
            record: digest,
            key: self.key,
            module: self.run.module,
            step: self.run.entry.title(),
            word: self.outcome.word().to_owned(),
            outcome: self.outcome.to_string(),
            started_ms: observed.started_ms,
            wall_us: observed.wall_us,
            links: std::iter::once(module).chain(all.iter().map(link)).collect(),
            artifacts: all.into_iter().map(|(_, _, artifact)| artifact.clone()).collect(),
        }
    }
}
