use crate::digest::{Digest, RunKey};
use crate::step::Artifact;

/// A line of the index of runs.
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
    /// What it came to, in a word: see [`Outcome::word`](crate::step::Outcome::word).
    pub word: String,
    /// What it came to, for people.
    pub outcome: String,
    /// When it started, in milliseconds of Unix time.
    pub started_ms: u64,
    /// How long it took, in microseconds.
    pub wall_us: u64,
    /// All artifacts that it used and made.
    pub artifacts: Vec<Artifact>,
    /// What each of them is to the run, and its module.
    pub links: Vec<Link>,
}

impl Row {
    /// The artifacts that the record is of no use without, but for their parts.
    pub fn needs(&self) -> impl Iterator<Item = Digest> + '_ {
        self.links.iter().map(|link| link.artifact)
    }
}

/// What an artifact is to a run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Link {
    /// The artifact.
    pub artifact: Digest,
    /// What for.
    pub role: Role,
    /// The name of the input or output.
    pub name: String,
}

/// What a run has an artifact for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// It is what is run.
    Module,
    /// It is read.
    Input,
    /// It is made.
    Output,
    /// It is what the run wrote to stdout and stderr.
    Log,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Module, Self::Input, Self::Output, Self::Log];

    /// `module`, `input`, `output` or `log`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Input => "input",
            Self::Output => "output",
            Self::Log => "log",
        }
    }
}

/// Which runs to list.
#[derive(Clone, Debug)]
pub struct Runs {
    /// At most so many.
    pub most: usize,
    /// Without so many of the newest.
    pub skip: usize,
    /// Only of this step, or of a program that was called with this.
    pub step: Option<String>,
    /// Only of modules whose digest starts with these digits.
    pub module: Option<String>,
    /// Only those that came to this: see [`Row::word`].
    pub word: Option<String>,
    /// Only those that started at this time or later, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Only those that have this text in their step or outcome, in any case.
    pub text: Option<String>,
}

impl Runs {
    /// The newest `most` of all runs.
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
