use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a run. Only the time limit depends on the machine; reaching any other is a deterministic outcome.
///
/// Limits are not part of the run key: a run that reaches none of them has the same result under any other limits that it fits in.
/// A record names the limits that were reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Memory of the guest, in bytes: linear memory, and what the host keeps in memory for the guest beyond 16 MiB.
    pub memory: u64,
    /// Fuel: about one unit per executed WebAssembly instruction, and per nanosecond of the host's work beyond 0.1 s.
    pub fuel: u64,
    /// Maximum total size of writable files (outputs and scratch) at any time, in bytes. Holes count.
    pub output: u64,
    /// Maximum size of stdout and stderr together, in bytes.
    pub log: u64,
    /// Wall-clock time; `None` means unlimited.
    pub time: Option<Duration>,
}

impl Default for Limits {
    /// Returns 4 GiB of memory (all that a 32-bit guest can address), unlimited fuel and time, 64 GiB of output, 16 MiB of log.
    fn default() -> Self {
        Self {
            memory: 4 << 30,
            fuel: u64::MAX,
            output: 64 << 30,
            log: 16 << 20,
            time: None,
        }
    }
}

/// Limits of which some may be unset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnLimits {
    /// [`Limits::memory`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// [`Limits::fuel`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// [`Limits::output`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// [`Limits::log`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<u64>,
    /// [`Limits::time`], in milliseconds
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
}

impl OwnLimits {
    /// Returns whether no limit is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns these limits, with unset ones taken from `others`.
    pub fn or(&self, others: &Limits) -> Limits {
        Limits {
            memory: self.memory.unwrap_or(others.memory),
            fuel: self.fuel.unwrap_or(others.fuel),
            output: self.output.unwrap_or(others.output),
            log: self.log.unwrap_or(others.log),
            time: self.time_ms.map(Duration::from_millis).or(others.time),
        }
    }
}

impl From<&Limits> for OwnLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            memory: Some(limits.memory),
            fuel: Some(limits.fuel),
            output: Some(limits.output),
            log: Some(limits.log),
            time_ms: limits.time.map(|time| time.as_millis() as u64),
        }
    }
}

/// A limit that ends a run deterministically.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// [`Limits::memory`]
    Memory,
    /// [`Limits::fuel`]
    Fuel,
    /// [`Limits::output`]
    Output,
    /// [`Limits::log`]
    Log,
}

impl Limit {
    /// Returns its value in `limits`.
    pub fn of(self, limits: &Limits) -> u64 {
        match self {
            Self::Memory => limits.memory,
            Self::Fuel => limits.fuel,
            Self::Output => limits.output,
            Self::Log => limits.log,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Fuel => "fuel",
            Self::Output => "output",
            Self::Log => "log",
        })
    }
}
