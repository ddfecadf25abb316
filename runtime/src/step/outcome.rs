use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Limit;

/// The outcome of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Outcome {
    /// The run exited with code 0 and wrote every declared output.
    Succeeded,
    /// The run failed. Deterministic, except for [`Failure::Stack`].
    Failed(Failure),
    /// The machine or a person ended the run. Not deterministic, so never cached.
    Interrupted {
        /// the cause
        by: Interruption,
    },
}

/// How a run failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Failure {
    /// It exited with a code other than 0.
    Exit {
        /// the code
        code: u32,
        /// the last lines of stderr
        message: String,
    },
    /// The guest panicked.
    Panic {
        /// the panic message
        message: String,
        /// file, line and column, if the guest printed them
        location: Option<String>,
    },
    /// It violated a rule of WebAssembly, such as reading outside its memory.
    Trap {
        /// the violated rule
        rule: String,
    },
    /// It exceeded a limit.
    Limit {
        /// the limit
        limit: Limit,
        /// its value
        value: u64,
    },
    /// Its stack overflowed. The maximum depth depends on the code generator, so this is recorded without log and fuel, and never
    /// cached.
    Stack,
    /// It exited with code 0 without writing a declared output.
    MissingOutput {
        /// the output
        name: String,
    },
}

/// The cause of an interruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interruption {
    /// The caller.
    Caller,
    /// The time limit.
    Time,
    /// The machine ran out of memory or disk.
    Host,
    /// The guest reads past the end of stdin, and more input may follow.
    Input,
}

/// The resources that a run used. Deterministic.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Fuel used.
    pub fuel: u64,
    /// Peak memory, in bytes.
    pub memory: u64,
    /// Peak total size of writable files, in bytes.
    pub output: u64,
    /// Size of stdout and stderr together, in bytes.
    pub log: u64,
    /// The limits that it reached, with their values, including those that did not end it.
    #[serde(default)]
    pub reached: BTreeMap<Limit, u64>,
}

impl Usage {
    /// Adds the usage of a run that this run called, under the same limits: the larger value of both.
    pub fn include(&mut self, other: &Self) {
        self.fuel = self.fuel.max(other.fuel);
        self.memory = self.memory.max(other.memory);
        self.output = self.output.max(other.output);
        self.log = self.log.max(other.log);
        self.reached.extend(&other.reached);
    }
}

impl Outcome {
    /// Returns whether the run succeeded.
    pub fn succeeded(&self) -> bool {
        *self == Self::Succeeded
    }

    /// Returns `succeeded`, `failed` or `interrupted`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Returns whether the same run has the same outcome on any machine, so that it may be answered from the cache.
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
            Self::Interrupted { by: Interruption::Input } => f.write_str("interrupted: the guest needs more input on stdin"),
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
