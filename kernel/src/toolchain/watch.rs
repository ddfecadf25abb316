use std::fmt;

use super::BuildProgress;

/// Callbacks of a prelude build.
pub struct Watch<'a> {
    /// Returns whether to stop.
    pub interrupt: &'a dyn Fn() -> bool,
    /// Called with each step.
    pub tell: &'a mut dyn FnMut(Doing),
}

/// The current step of a prelude build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Waiting for another process.
    Waiting,
    /// Resolving versions.
    Resolving,
    /// Fetching sources.
    Fetching,
    /// Compiling crates.
    Compiling(BuildProgress),
    /// Linking the base.
    Joining,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for another notebook that compiles crates"),
            Self::Resolving => f.write_str("resolving versions"),
            Self::Fetching => f.write_str("fetching crates"),
            Self::Compiling(at) => write!(f, "compiling {}", at.doing),
            Self::Joining => f.write_str("linking crates"),
        }
    }
}
