//! The deterministic environment that a guest runs in. The only module that uses wasmtime.
//!
//! An [`Engine`] compiles modules; [`Module::run`] runs one in a [`World`], which is independent of the machine: files are values in
//! memory or in a [`Storage`], clocks are virtual, random numbers come from a seed, there is no network, and no host directory is ever
//! opened for a guest. The result of a run is a [`Finished`]; a [`SandboxError`] means that the module did not run.
//!
//! All functions of WASI preview 1 are implemented, on top of a file system that is independent of WebAssembly.

mod budget;
mod call;
mod caller;
mod clock;
mod code_key;

mod backtrace;
mod based;
mod compiler;
mod engine;
mod execute;
mod fiber;
mod guest;
mod huge_pages;
mod interrupt;
mod meter;
mod native_cache;
mod outputs;
mod preview1;
mod random;
mod says;
mod target;
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
pub use caller::{Answer, Asking, Caller, Given, Unanswered};
pub use clock::{CLOCK_QUANTUM, EPOCH};
pub use code_key::CodeKey;
pub use compiler::{Compiler, compile};
pub use engine::{Engine, EngineOptions, Module};
pub use interrupt::{Interrupt, Pause};
pub(crate) use outputs::check_outputs;
pub use target::{Instrumentation, Target};

/// A read-only file or directory for the guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// The bytes of a file. Clones share memory.
    File(Bytes),
    /// A file that is too large for memory, and for mapping.
    Large(Large),
    /// A directory: nodes by name. A name is one part of a path.
    Directory(BTreeMap<String, Node>),
}

/// A file that is read in pieces, so that it takes no memory.
#[derive(Clone)]
pub struct Large(pub Arc<dyn Source>);

/// The immutable bytes of a [`Large`] file.
pub trait Source: Send + Sync {
    /// Returns the size in bytes.
    fn len(&self) -> u64;
    /// Returns whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` with the bytes from `offset`; fewer only at the end.
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

/// An output stream of a guest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A file being written. Gaps are zero, as in a POSIX file.
pub trait Sink: Send {
    /// Writes all of `data` at `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Reads some bytes from `offset`; 0 at the end of the file.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Truncates the file, or extends it with zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Stores the file as it is now, and returns its digest and size. The file can still be read, and written to. Calls `check` as
    /// [`finish`](Self::finish) does.
    fn share(&mut self, check: &mut Check<'_>) -> io::Result<(Digest, u64)>;
    /// Stores the file, and returns its digest and size. Calls `check` every few milliseconds, and fails if it does. Dropping a sink
    /// discards the file.
    fn finish(self: Box<Self>, check: &mut Check<'_>) -> io::Result<(Digest, u64)>;
}

/// Fails if the run must end.
pub type Check<'c> = dyn FnMut() -> io::Result<()> + 'c;

/// Storage for outputs, and for writable files that are too large for memory.
///
/// An error of the storage or its sinks ends the run as interrupted by the host.
pub trait Storage: Send + Sync {
    /// Creates an empty file, which must take neither memory nor a file descriptor: a guest may create many.
    fn create(&self) -> io::Result<Box<dyn Sink>>;
    /// Stores a small file, and returns its digest.
    fn put(&self, bytes: Bytes) -> io::Result<Digest>;
}

/// Everything that a guest can observe.
pub struct World<'a> {
    /// The arguments, starting with the program's name.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The content of stdin.
    pub stdin: Bytes,
    /// The inputs, by path.
    pub files: BTreeMap<GuestPath, Node>,
    /// The seed of random numbers.
    pub seed: u64,
    /// The names under `/out` that the run must write.
    pub outputs: BTreeSet<String>,
    /// Stores stdout as this output instead of sending it to the log.
    pub stdout: Option<String>,
    /// The handler of requests beyond WASI; without it, requests fail with `ENOTSUP`.
    pub caller: Option<Box<dyn Caller>>,
    /// The storage of outputs.
    pub storage: Arc<dyn Storage>,
    /// Called on the caller's thread with the guest's stdout and stderr as they are written. While it blocks, the guest waits and the
    /// time limit is not checked.
    pub log: &'a mut dyn FnMut(Stream, &[u8]),
}

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The outcome.
    pub outcome: Outcome,
    /// The resources used. Without fuel after [`Failure::Stack`](crate::step::Failure::Stack), as that depends on the machine.
    pub usage: Usage,
    /// The declared outputs; empty unless the run succeeded.
    pub outputs: BTreeMap<String, Made>,
    /// The backtrace of a trap, with file and line if the module has debug information. For display only: it depends on the engine.
    pub backtrace: Option<String>,
    /// The machine's error when it interrupted the run.
    pub host_error: Option<String>,
}

/// An output in the storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Made {
    /// A file.
    File {
        /// the digest of its bytes
        digest: Digest,
        /// the size in bytes
        size: u64,
    },
    /// A directory; it may be empty.
    Directory(BTreeMap<String, Made>),
}

/// The error of creating a world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The path of an input is reserved by the sandbox.
    #[error("can't bind an input at {path}: /{own} is reserved by the sandbox; use another path, such as /in/data")]
    Reserved {
        /// the input's path
        path: GuestPath,
        /// the reserved top-level directory
        own: String,
    },
    /// The paths of two inputs conflict.
    #[error("can't bind an input at {path}: the path conflicts with another input; use another path")]
    Overlap {
        /// the path of the second input
        path: GuestPath,
    },
    /// The name of an output is not a path below `/out`.
    #[error("can't store output `{name}`: use a name without `.` and `..` as parts, such as rows.csv")]
    Output {
        /// the name
        name: String,
    },
    /// An output is inside another one.
    #[error("output `{name}` is inside output `{outer}`, which contains it anyway: declare only one of them")]
    Nested {
        /// the name
        name: String,
        /// the other output
        outer: String,
    },
    /// Stdout can't be stored under this name.
    #[error("can't store stdout as output `{name}`: use a plain file name")]
    Stdout {
        /// the name
        name: String,
    },
}

/// The error of loading or starting a module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The engine can't be created with these options.
    #[error("can't create the WebAssembly engine: {reason}")]
    Engine {
        /// the engine's error
        reason: String,
    },
    /// The directory of the native code cache can't be used.
    #[error("can't use the native code cache {path}: {source}; choose a directory that only you can write to")]
    NativeCache {
        /// the directory
        path: String,
        /// the cause
        source: io::Error,
    },
    /// The module is invalid or unsupported.
    #[error("can't compile module {digest}: {reason}")]
    Compile {
        /// the digest of the module
        digest: Digest,
        /// the compiler's error
        reason: String,
    },
    /// Compiling the module could take too long.
    #[error(
        "module {digest} is too large to compile: {found} {what}, limit {allowed}; if you trust the module, raise the limits with --large-module"
    )]
    Budget {
        /// the digest of the module
        digest: Digest,
        /// the exceeded quantity
        what: &'static str,
        /// its value
        found: u64,
        /// its limit
        allowed: u64,
    },
    /// Compiling the module took too long.
    #[error(
        "compiling module {digest} took longer than {seconds} s; if you trust the module, raise the limits with --large-module"
    )]
    CompileTime {
        /// the digest of the module
        digest: Digest,
        /// the limit
        seconds: u64,
    },
    /// The process that compiled the module was ended.
    #[error(
        "the compiler of module {digest} was ended ({status}), probably because it needs more than {} of memory; if you trust the module, raise the limits with --large-module",
        bytesize::ByteSize(*memory)
    )]
    CompilerEnded {
        /// the digest of the module
        digest: Digest,
        /// the limit of memory, in bytes
        memory: u64,
        /// how the process ended
        status: std::process::ExitStatus,
    },
    /// Compiling the module was interrupted.
    #[error("compiling module {digest} was interrupted")]
    CompileInterrupted {
        /// the digest of the module
        digest: Digest,
    },
    /// No process can be started for the compiler.
    #[error("can't start the compiler of module {digest}: {source}")]
    Compiler {
        /// the digest of the module
        digest: Digest,
        /// the cause
        source: io::Error,
    },
    /// The module imports a function that the sandbox does not provide.
    #[error(
        "module {digest} imports `{module}` `{name}`, which the sandbox does not provide: build it for wasm32-wasip1, without threads or sockets"
    )]
    UnknownImport {
        /// the digest of the module
        digest: Digest,
        /// the import's module
        module: String,
        /// the import's name
        name: String,
    },
    /// The module imports a function of WASI preview 1 with the wrong type.
    #[error("module {digest} imports a WASI preview 1 function with the wrong type: {reason}")]
    ImportType {
        /// the digest of the module
        digest: Digest,
        /// the import and its types
        reason: String,
    },
    /// The module has no entry point.
    #[error("module {digest} is not a command: {reason}; build it as a program (`fn main`), or as steps with #[step]")]
    NotACommand {
        /// the digest of the module
        digest: Digest,
        /// the problem with `_start`
        reason: &'static str,
    },
    /// The module and its base are incompatible.
    #[error("can't link module {digest} to its base {base}: {reason}; both must come from the same `lockstep`")]
    Base {
        /// the digest of the module
        digest: Digest,
        /// the digest of its base
        base: Digest,
        /// the incompatibility
        reason: String,
    },
    /// The world can't be created.
    #[error(transparent)]
    World(#[from] WorldError),
    /// No thread can be started for the guest.
    #[error("can't start a thread for the module: {0}")]
    Thread(io::Error),
}
