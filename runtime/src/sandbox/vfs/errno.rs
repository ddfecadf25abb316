use std::io;

use crate::step::Limit;

/// An error number of WASI preview 1 (`errno` in wasi_snapshot_preview1.witx).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Errno {
    BadFd = 8,
    Busy = 10,
    Exists = 20,
    Fault = 21,
    TooBig = 22,
    IllegalBytes = 25,
    Invalid = 28,
    IsDirectory = 31,
    TooManyOpen = 33,
    NameTooLong = 37,
    NoEntry = 44,
    NoMemory = 48,
    NoSpace = 51,
    NotImplemented = 52,
    NotDirectory = 54,
    NotEmpty = 55,
    NotSocket = 57,
    NotSupported = 58,
    ReadOnly = 69,
    NotSeekable = 70,
}

/// Why a run can't go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It came to a limit.
    Limit(Limit),
    /// The machine failed: no disk left, say.
    Host(io::Error),
    /// The caller or the clock asked for it.
    Interrupted(crate::step::Interruption),
}

/// Why a call of the guest did not do what it asks for.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The guest is told, and goes on.
    Errno(Errno),
    /// The run ends.
    Stop(Stop),
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<io::Error> for Fault {
    fn from(source: io::Error) -> Self {
        Self::Stop(Stop::Host(source))
    }
}
