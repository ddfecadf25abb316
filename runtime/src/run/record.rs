use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Run;
use crate::digest::{Digest, RunKey, canonical_json};
use crate::step::{Artifact, Limit, Limits, MediaType, Outcome, Usage};
use crate::store::{Link, Role, Row};

pub(super) const VERSION: u32 = 1;

/// What a run came to. All of it is hashed but for media types of inputs: the same run gives the same record on any machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this format: 1.
    pub version: u32,
    /// The run's key.
    pub key: RunKey,
    /// The run.
    pub run: Run,
    /// What it came to.
    pub outcome: Outcome,
    /// What it made.
    pub outputs: BTreeMap<String, Artifact>,
    /// The records of the runs that it called for, in the order of the calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<Digest>,
    /// What the guest wrote to stdout and stderr. Absent where that may depend on the machine.
    pub log: Option<Artifact>,
    /// What it used. Absent where that may depend on the machine.
    pub usage: Option<Usage>,
}

/// What happened to be so when a run was executed. Not hashed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// When it started, in milliseconds of Unix time.
    pub started_ms: u64,
    /// How long it took, in microseconds.
    pub wall_us: u64,
    /// The machine.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// Where the guest was when it failed, with files and lines where the module has debug information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// What the machine said when it interrupted the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_error: Option<String>,
    /// The log, where it may depend on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Artifact>,
}

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not a record.
    #[error("record {digest} can't be read: {source}; `lockstep fsck` finds and removes such files")]
    Malformed {
        /// the record
        digest: Digest,
        /// why
        source: serde_json::Error,
    },
    /// It is another record than its name says.
    #[error("record {expected} was changed: it is {found} now; `lockstep fsck` finds and removes such files")]
    Corrupt {
        /// its name
        expected: Digest,
        /// what it is
        found: Digest,
    },
    /// It can't be written as JSON.
    #[error("the record can't be written as JSON: {0}")]
    Encode(serde_json::Error),
}

/// The file: the record and, beside it, the observations.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<R, O> {
    record: R,
    observed: O,
}

impl Record {
    /// The record's digest. As in the run's key, media types of inputs are left out: they are what a caller says of bytes, and
    /// the same run can have several callers.
    pub fn digest(&self) -> Result<Digest, RecordError> {
        Ok(Digest::of(canonical_json(&self.hashed()).map_err(RecordError::Encode)?))
    }

    /// What of the record is hashed: its canonical JSON has the record's digest.
    pub fn hashed(&self) -> Self {
        let mut hashed = self.clone();
        for input in hashed.run.inputs.values_mut().filter(|input| !input.artifact.is_directory()) {
            input.artifact.media_type = MediaType::default();
        }
        hashed
    }

    /// The record, with what was observed beside it, as programs are told: `key`, `run`, `outcome`, `outputs` (name to
    /// `digest`, `media_type` and `size`), `called` (if it called any), `log`, `usage`, `observed`.
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

    /// Whether the run would have come to the same under `limits`.
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
