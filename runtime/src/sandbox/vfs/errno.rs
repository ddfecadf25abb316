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
    Loop = 32,
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
    NotPermitted = 63,
    ReadOnly = 69,
    NotSeekable = 70,
    CrossDevice = 75,
    NotCapable = 76,
}

/// The reason why a run must end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It reached a limit.
    Limit(Limit),
    /// A host error, such as a full disk.
    Host(io::Error),
    /// The run was interrupted.
    Interrupted(crate::step::Interruption),
}

/// The failure of a guest's call.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The call returns an error number, and the guest continues.
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
