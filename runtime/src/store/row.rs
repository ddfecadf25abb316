use crate::digest::{Digest, RunKey};
use crate::step::Artifact;

/// A row of the index of runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The record's digest.
    pub record: Digest,
    /// Its run key.
    pub key: RunKey,
    /// The module.
    pub module: Digest,
    /// The step, or the arguments of a plain program.
    pub step: String,
    /// The outcome in one word: see [`Outcome::word`](crate::step::Outcome::word).
    pub word: String,
    /// The outcome, for display.
    pub outcome: String,
    /// Start time, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Duration, in microseconds.
    pub wall_us: u64,
    /// All inputs and outputs, and the log.
    pub artifacts: Vec<Artifact>,
    /// The links to these artifacts and to the module.
    pub links: Vec<Link>,
}

impl Row {
    /// Returns the artifacts that the record requires, without their parts.
    pub fn needs(&self) -> impl Iterator<Item = Digest> + '_ {
        self.links.iter().map(|link| link.artifact)
    }
}

/// A link from a run to an artifact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Link {
    /// The artifact.
    pub artifact: Digest,
    /// Its role in the run.
    pub role: Role,
    /// The name of the input or output.
    pub name: String,
}

/// The role of an artifact in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// The module that is run.
    Module,
    /// An input.
    Input,
    /// An output.
    Output,
    /// The stdout and stderr of the run.
    Log,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Module, Self::Input, Self::Output, Self::Log];

    /// Returns `module`, `input`, `output` or `log`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Input => "input",
            Self::Output => "output",
            Self::Log => "log",
        }
    }
}

/// A query for runs.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Maximum number of results.
    pub most: usize,
    /// Number of newest runs to skip.
    pub skip: usize,
    /// Only runs of this step, or of a program with these arguments.
    pub step: Option<String>,
    /// Only runs of modules whose digest starts with these digits.
    pub module: Option<String>,
    /// Only runs with this outcome: see [`Row::word`].
    pub word: Option<String>,
    /// Only runs that started at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Only runs with this text in their step or outcome, ignoring case.
    pub text: Option<String>,
}

impl Runs {
    /// Returns a query for the newest `most` runs.
    pub fn newest(most: usize) -> Self {
        Self {
            most,
            skip: 0,
            step: None,
            module: None,
            word: None,
            since_ms: 0,
            text: None,
        }
    }
}
