//! Calls of steps of other modules. Each call is a separate run: in its own sandbox, cached and recorded, with the same run key
//! and digests as on the command line.
//!
//! Notebooks generate this code after `:use steps.wasm`. It requires that the run was given the module, which is then part of
//! its run key; otherwise a call is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde_json::Value;

use crate::{Artifact, Bytes, Context, Csv, Directory, Parts, Result, Table, Text, bail};

/// A call under construction.
#[derive(Debug)]
pub struct Call {
    request: Request,
    /// The directory of its inputs.
    directory: PathBuf,
}

#[derive(Debug, Serialize)]
struct Request {
    module: &'static str,
    step: &'static str,
    inputs: BTreeMap<&'static str, PathBuf>,
    parameters: BTreeMap<&'static str, Value>,
}

/// The result of a successful call.
#[derive(Debug)]
pub struct Called {
    outputs: PathBuf,
}

impl Call {
    /// Creates a call of a step of `module`, by the name that the module has in this run.
    pub fn new(module: &'static str, step: &'static str) -> Self {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        Self {
            request: Request {
                module,
                step,
                inputs: BTreeMap::new(),
                parameters: BTreeMap::new(),
            },
            directory: PathBuf::from(format!("/tmp/call.{number}")),
        }
    }

    /// Sets an input that the step reads as a `T`.
    pub fn input<T>(mut self, name: &'static str, value: impl Given<T>) -> Result<Self> {
        std::fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(name);
        value.give(&path)?;
        self.request.inputs.insert(name, path);
        Ok(self)
    }

    /// Creates a directory for an input, whose files the caller writes, and returns its path.
    pub fn directory(&mut self, name: &'static str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        std::fs::create_dir_all(&path)?;
        self.request.inputs.insert(name, path.clone());
        Ok(path)
    }

    /// Sets an input to the file or directory at `path`, without copying it.
    pub fn file(mut self, name: &'static str, path: &Path) -> Self {
        self.request.inputs.insert(name, path.to_owned());
        self
    }

    /// Sets a parameter; `None` leaves it at its default.
    pub fn parameter<K: ?Sized>(mut self, name: &'static str, argument: impl Argument<K>) -> Result<Self> {
        if let Some(value) = argument.value()? {
            self.request.parameters.insert(name, value);
        }
        Ok(self)
    }

    /// Runs the step. The error describes how it failed.
    pub fn run(self) -> Result<Called> {
        let answer = carry_out(&serde_json::to_vec(&self.request)?);
        if self.directory.exists() {
            std::fs::remove_dir_all(&self.directory)?;
        }
        let answer = PathBuf::from(format!("/call/{}", answer?));
        match std::fs::read_to_string(answer.join("error")) {
            Ok(error) => bail!("{error}"),
            Err(_) => Ok(Called {
                outputs: answer.join("out"),
            }),
        }
    }
}

impl Called {
    /// Reads an output of the step.
    pub fn output<T: Artifact>(&self, name: &str) -> Result<T> {
        T::read(&self.path(name)).with_context(|| format!("output `{name}`"))
    }

    /// Returns the path of an output of the step.
    pub fn path(&self, name: &str) -> PathBuf {
        self.outputs.join(name)
    }
}

/// A value for an input that is read as a `T`: a `T`, or a type with a format that `T` can read.
#[diagnostic::on_unimplemented(message = "the step reads a `{T}` here, not a `{Self}`", label = "not a `{T}`")]
pub trait Given<T> {
    /// Writes the value to a new file at `path`.
    fn give(&self, path: &Path) -> Result<()>;
}

impl<T: Artifact> Given<T> for T {
    fn give(&self, path: &Path) -> Result<()> {
        self.write_artifact(path)
    }
}

impl<T: Artifact> Given<T> for &T {
    fn give(&self, path: &Path) -> Result<()> {
        self.write_artifact(path)
    }
}

macro_rules! given {
    ($($type:ty as $($read:ty),+;)+) => {$($(
        impl Given<$read> for $type {
            fn give(&self, path: &Path) -> Result<()> {
                self.write_artifact(path)
            }
        }

        impl Given<$read> for &$type {
            fn give(&self, path: &Path) -> Result<()> {
                self.write_artifact(path)
            }
        }
    )+)+};
}

given! {
    Csv as Table, Text, Bytes;
    Text as Csv, Bytes;
    Table as Bytes;
    Bytes as Table, Csv, Text;
}

impl<T: Artifact> Given<Directory> for Parts<T> {
    fn give(&self, path: &Path) -> Result<()> {
        self.write_to(path)
    }
}

impl<T: Artifact> Given<Directory> for &Parts<T> {
    fn give(&self, path: &Path) -> Result<()> {
        self.write_to(path)
    }
}

/// A value for a parameter of kind `K`: `i64` for integers, `f64`, `bool`, `str`, and `serde_json::Value` for everything else.
/// `None` is the parameter's default.
#[diagnostic::on_unimplemented(message = "the parameter is a `{K}`, not a `{Self}`", label = "not a `{K}`")]
pub trait Argument<K: ?Sized> {
    /// Converts the value to JSON.
    fn value(self) -> Result<Option<Value>>;
}

macro_rules! argument {
    ($($kind:ty: $($type:ty),+;)+) => {$($(
        impl Argument<$kind> for $type {
            fn value(self) -> Result<Option<Value>> {
                Ok(Some(serde_json::to_value(self)?))
            }
        }
    )+)+};
}

argument! {
    i64: i8, i16, i32, i64, isize, u8, u16, u32, u64, usize;
    f64: i8, i16, i32, u8, u16, u32, f32, f64;
    bool: bool;
    str: &str, String, &String;
    Value: Value, &Value;
}

// one `Option` per kind, so that the type of a bare `None` can be inferred
macro_rules! default {
    ($($kind:ty: $type:ty;)+) => {$(
        impl Argument<$kind> for Option<$type> {
            fn value(self) -> Result<Option<Value>> {
                Ok(self.map(serde_json::to_value).transpose()?)
            }
        }
    )+};
}

default! {
    i64: i64;
    f64: f64;
    bool: bool;
    str: &str;
    Value: Value;
}

impl<T: Serialize> Argument<Value> for Vec<T> {
    fn value(self) -> Result<Option<Value>> {
        Ok(Some(serde_json::to_value(self)?))
    }
}

impl<T: Serialize> Argument<Value> for &[T] {
    fn value(self) -> Result<Option<Value>> {
        Ok(Some(serde_json::to_value(self)?))
    }
}

impl<T: Serialize, const COUNT: usize> Argument<Value> for [T; COUNT] {
    fn value(self) -> Result<Option<Value>> {
        Ok(Some(serde_json::to_value(&self[..])?))
    }
}

#[cfg(target_os = "wasi")]
fn carry_out(request: &[u8]) -> Result<u32> {
    #[link(wasm_import_module = "lockstep")]
    unsafe extern "C" {
        fn call(request: *const u8, len: usize, number: *mut u32) -> u32;
    }
    use std::io::Write;
    std::io::stdout().flush()?;
    let mut number = 0;
    // SAFETY: the sandbox reads `len` bytes at `request` and writes 4 bytes at `number`, as it defines the function.
    match unsafe { call(request.as_ptr(), request.len(), &mut number) } {
        0 => Ok(number),
        _ => bail!("this run was given no modules whose steps it may call"),
    }
}

#[cfg(not(target_os = "wasi"))]
fn carry_out(_: &[u8]) -> Result<u32> {
    bail!("steps of other modules can be called in the sandbox only")
}
