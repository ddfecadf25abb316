use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Limit;

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Outcome {
    /// Exit code 0, and every declared output is there.
    Succeeded,
    /// Anything else that the same run would come to again.
    Failed(Failure),
    /// The machine or a person ended it; says nothing about the run, so it is never cached.
    Interrupted {
        /// who ended it
        by: Interruption,
    },
}

/// How a run failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Failure {
    /// It ended with an exit code other than 0.
    Exit {
        /// the code
        code: u32,
        /// the end of what it wrote to stderr
        message: String,
    },
    /// It panicked.
    Panic {
        /// what the panic said
        message: String,
        /// file, line and column, when the guest said them
        location: Option<String>,
    },
    /// It did what WebAssembly forbids, such as reading outside its memory.
    Trap {
        /// which rule it broke
        rule: String,
    },
    /// It came to a limit.
    Limit {
        /// which
        limit: Limit,
        /// its value
        value: u64,
    },
    /// Its calls nested too deeply. How deep is too deep depends on the code generator, so this is recorded without log and
    /// fuel, and never cached.
    Stack,
    /// It ended well but did not write an output that it declares.
    MissingOutput {
        /// the output
        name: String,
    },
}

/// Who interrupted a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interruption {
    /// The caller.
    Caller,
    /// The time limit.
    Time,
    /// The machine: no memory or no disk left.
    Host,
    /// The guest itself: it wants more on stdin than there is.
    Input,
}

/// What a run used; the same each time it is run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Fuel used.
    pub fuel: u64,
    /// The most linear memory it had, in bytes.
    pub memory: u64,
    /// The most that it kept in writable files at a time, in bytes.
    pub output: u64,
    /// What it wrote to stdout and stderr, in bytes.
    pub log: u64,
    /// The limits that it ran into, with their values, also those it coped with.
    #[serde(default)]
    pub reached: BTreeMap<Limit, u64>,
}

impl Usage {
    /// Takes in what a run used that was carried out for this one, under the same limits: the larger of both counts.
    pub fn include(&mut self, other: &Self) {
        self.fuel = self.fuel.max(other.fuel);
        self.memory = self.memory.max(other.memory);
        self.output = self.output.max(other.output);
        self.log = self.log.max(other.log);
        self.reached.extend(&other.reached);
    }
}

impl Outcome {
    /// Whether the run succeeded.
    pub fn succeeded(&self) -> bool {
        *self == Self::Succeeded
    }

    /// `succeeded`, `failed` or `interrupted`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Whether the same run would come to the same again on any machine, so that it may be answered from the cache.
    pub fn is_deterministic(&self) -> bool {
        !matches!(self, Self::Interrupted { .. } | Self::Failed(Failure::Stack))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Interrupted {
                by: Interruption::Caller,
            } => f.write_str("interrupted"),
            Self::Interrupted { by: Interruption::Time } => f.write_str("interrupted: the time limit was reached"),
            Self::Interrupted { by: Interruption::Host } => f.write_str("interrupted: the machine ran out of memory or disk"),
            Self::Interrupted { by: Interruption::Input } => f.write_str("interrupted: it reads more from stdin than there is"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code, message } if message.is_empty() => write!(f, "failed with exit code {code}"),
            Self::Exit { code, message } => write!(f, "failed with exit code {code}: {message}"),
            Self::Panic {
                message,
                location: Some(location),
            } => write!(f, "panicked at {location}: {message}"),
            Self::Panic { message, location: None } => write!(f, "panicked: {message}"),
            Self::Trap { rule } => write!(f, "trapped: {rule}"),
            Self::Limit {
                limit: Limit::Fuel,
                value,
            } => write!(f, "out of fuel: more than {value} units"),
            Self::Limit {
                limit: Limit::Memory,
                value,
            } => write!(f, "out of memory: more than {value} bytes"),
            Self::Limit { limit, value } => write!(f, "too much {limit}: more than {value} bytes"),
            Self::Stack => f.write_str("out of stack: calls nested too deeply"),
            Self::MissingOutput { name } => write!(f, "ended well but did not write its output `{name}`"),
        }
    }
}
