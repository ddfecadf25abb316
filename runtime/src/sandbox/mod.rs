//! The deterministic world that a guest runs in. The only place that names wasmtime.
//!
//! An [`Engine`] compiles modules; [`Module::run`] runs one in a [`World`] that holds nothing of the machine: files are
//! values in memory or in a [`Storage`], clocks are virtual, randomness comes from a seed, there is no network, and no
//! host directory is ever opened for a guest. What a run comes to is data ([`Finished`]); a [`SandboxError`] means that
//! there was no run.
//!
//! Preview 1 of WASI is bound here in full, all 45 functions, over a filesystem that knows no WebAssembly.

mod budget;
mod call;
mod clock;
mod code_key;

mod based;
mod engine;
mod execute;
mod guest;
mod interrupt;
mod native_cache;
mod preview1;
mod random;
mod says;
mod vfs;
mod workers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::Digest;
use crate::step::{GuestPath, Outcome, Usage};

pub use budget::CompileBudget;
pub use call::{Answer, Asking, Caller, Unanswered};
pub use clock::{CLOCK_QUANTUM, EPOCH};
pub use code_key::CodeKey;
pub use engine::{Engine, EngineOptions, Instrumentation, Module, Target};
pub use interrupt::Interrupt;

/// A file or directory that the guest is given; it can't write to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// The bytes of a file; a clone of a memory map costs nothing.
    File(Bytes),
    /// A file that is too large to be in memory, mapped or not.
    Large(Large),
    /// Names and what is there. A name is one part of a path.
    Directory(BTreeMap<String, Node>),
}

/// A file that is read piece by piece, so that it takes no memory.
#[derive(Clone)]
pub struct Large(pub Arc<dyn Source>);

/// The bytes of a [`Large`] file, which never change.
pub trait Source: Send + Sync {
    /// How many there are.
    fn len(&self) -> u64;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` with those from `offset` on, fewer only at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl PartialEq for Large {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Large {}

impl std::fmt::Debug for Large {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Large({} bytes)", self.0.len())
    }
}

/// Where a guest's text went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A file being written. Bytes that were skipped are zero, as in a POSIX file.
pub trait Sink: Send {
    /// Writes all of `data` at `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Reads some bytes from `offset` on; 0 at the end of the file.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Keeps the file: its digest and size. A sink that is dropped instead leaves nothing behind.
    fn finish(self: Box<Self>) -> io::Result<(Digest, u64)>;
}

/// Where writable files go that are too large for memory, and outputs.
///
/// An error of it or of its sinks ends the run as interrupted by the host.
pub trait Storage: Send + Sync {
    /// A new empty file.
    fn create(&self) -> io::Result<Box<dyn Sink>>;
}

/// All that a guest can see.
pub struct World<'a> {
    /// The arguments, beginning with the program's name.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// What stdin holds.
    pub stdin: Bytes,
    /// Inputs and where they are.
    pub files: BTreeMap<GuestPath, Node>,
    /// Where randomness comes from.
    pub seed: u64,
    /// The names under `/out` that the run must make.
    pub outputs: BTreeSet<String>,
    /// Keep stdout as this output instead of sending it to the log.
    pub stdout: Option<String>,
    /// Answers what the guest asks for beyond WASI; without it the guest is told that nobody does.
    pub caller: Option<Box<dyn Caller>>,
    /// Where the outputs go.
    pub storage: Arc<dyn Storage>,
    /// Is called, on the thread that runs the module, with what the guest writes to stdout and stderr, as it does. While it
    /// takes its time the guest waits, and a time limit too.
    pub log: &'a mut dyn FnMut(Stream, &[u8]),
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used. Without fuel after [`Failure::Stack`](crate::step::Failure::Stack), as that depends on the machine.
    pub usage: Usage,
    /// The declared outputs; empty unless the run succeeded.
    pub outputs: BTreeMap<String, Made>,
    /// The calls that led to a trap, with file and line where the module says them. For people: not the same on all engines.
    pub backtrace: Option<String>,
    /// What the machine said when it interrupted the run.
    pub host_error: Option<String>,
}

/// An output as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Made {
    /// A file.
    File {
        /// of its bytes
        digest: Digest,
        /// in bytes
        size: u64,
    },
    /// A directory; it may be empty.
    Directory(BTreeMap<String, Made>),
}

/// Why a world can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// An input would hide a place that belongs to the sandbox.
    #[error("an input can't be at {path}: /{own} is the sandbox's own; bind it elsewhere, such as /in/data")]
    Reserved {
        /// the input's path
        path: GuestPath,
        /// the top directory
        own: String,
    },
    /// Two inputs are in each other's way.
    #[error("an input can't be at {path}: another input is in the way; bind it elsewhere")]
    Overlap {
        /// the path of the later one
        path: GuestPath,
    },
    /// Stdout can't be kept under this name.
    #[error("stdout can't be kept as output `{name}`: use a plain file name")]
    Stdout {
        /// the name
        name: String,
    },
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The engine can't be built with these options.
    #[error("the WebAssembly engine can't be built: {reason}")]
    Engine {
        /// what the engine says
        reason: String,
    },
    /// The directory of the native code cache can't be used.
    #[error("the native code cache {path} can't be used: {source}; choose a directory that only you can write to")]
    NativeCache {
        /// the directory
        path: String,
        /// why not
        source: io::Error,
    },
    /// The bytes are no module that can be compiled.
    #[error("module {digest} can't be compiled: {reason}")]
    Compile {
        /// of the module
        digest: Digest,
        /// what the compiler says
        reason: String,
    },
    /// Compiling the module could take too long.
    #[error(
        "module {digest} is too large to compile: {found} {what}, at most {allowed} are allowed; if you trust it, give it a larger budget with --large-module"
    )]
    Budget {
        /// of the module
        digest: Digest,
        /// what there is too much of
        what: &'static str,
        /// how much there is
        found: u64,
        /// how much there may be
        allowed: u64,
    },
    /// The module asks for something that the sandbox does not have.
    #[error(
        "module {digest} imports `{module}` `{name}`, which the sandbox does not have: build it for wasm32-wasip1, without threads and sockets"
    )]
    UnknownImport {
        /// of the module
        digest: Digest,
        /// the import's module
        module: String,
        /// its name
        name: String,
    },
    /// The module asks for a function of preview 1 with another type.
    #[error("module {digest} imports a function with a type that it does not have in WASI preview 1: {reason}")]
    ImportType {
        /// of the module
        digest: Digest,
        /// which import, and the types
        reason: String,
    },
    /// The module has nothing to start.
    #[error("module {digest} is not a command: {reason}; build it as a program (`fn main`), or as steps with #[step]")]
    NotACommand {
        /// of the module
        digest: Digest,
        /// what is wrong with `_start`
        reason: &'static str,
    },
    /// The module and its base don't fit.
    #[error("module {digest} can't be put onto its base {base}: {reason}; both must come from the same `lockstep`")]
    Base {
        /// of the module
        digest: Digest,
        /// of its base
        base: Digest,
        /// what does not fit
        reason: String,
    },
    /// The world can't be built.
    #[error(transparent)]
    World(#[from] WorldError),
    /// No thread to run on.
    #[error("no thread to run the module on: {0}")]
    Thread(io::Error),
}
