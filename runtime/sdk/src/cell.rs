//! Functions that the generated code of notebook cells calls. Not for use in steps or cells directly: the functions for users
//! are in [`show`](crate::show).
//!
//! A cell is a program. It loads the variables that it uses from `/in`, runs its statements, saves the variables that it
//! defines to `/out/<name>`, and describes them in `/out/cell.json`.
//!
//! How a value is stored depends on its type, which only the compiler knows. So method lookup makes the choice: the traits in
//! [`by_type`] are implemented for types behind different numbers of references, and a call on `&&&&&it` selects the applicable
//! one with the most references.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::encoding::bulk;
#[doc(hidden)]
pub use crate::encoding::bulk::{Bulk, BulkIn, NotNull, Sink, Source};
use crate::media_type::VALUE;
pub use crate::show::{Bundle, Show};
use crate::{Artifact, Context, Error, Result};

#[doc(hidden)]
pub mod auto;
mod last;
mod quiet;
mod value;

pub use last::{Last, Shown};
#[doc(hidden)]
pub use value::common;

/// Marks the start of a failing cell's message on stderr: the notebook shows the rest as an error, not as text.
const FAILING: &str = "\x1b]9;lockstep;failing\x1b\\";

/// The types of variables that a cell may use by name.
pub mod types {
    pub use super::Encoded;
    #[cfg(feature = "parquet")]
    pub use crate::Parquet;
    pub use crate::{Bytes, Csv, Directory, Figure, Json, Metrics, Rows, Table, Text};
}

/// A running cell: its saved variables and its result.
#[derive(Debug, Default)]
pub struct Cell {
    variables: BTreeMap<&'static str, Saved>,
    result: Option<Bundle>,
}

/// A variable in `cell.json`.
#[derive(Debug, Serialize)]
struct Saved {
    #[serde(rename = "type")]
    type_name: &'static str,
    #[serde(flatten)]
    kept: Option<Kept>,
}

#[derive(Debug, Serialize)]
struct Kept {
    via: &'static str,
    media_type: &'static str,
}

/// The content of `cell.json`.
#[derive(Serialize)]
struct Said<'a> {
    variables: &'a BTreeMap<&'static str, Saved>,
    result: &'a Option<Bundle>,
}

/// Runs a cell and ends the program: with exit code 0, or with 1 and the error on stderr if the cell returned one by `?`.
pub fn run(body: fn(&mut Cell) -> Result<()>) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprint!("{FAILING}");
        hook(panic);
    }));
    let mut cell = Cell::default();
    if let Err(error) = body(&mut cell).and_then(|()| cell.say()) {
        eprint!("{FAILING}");
        crate::start::report(&error);
        std::process::exit(1);
    }
}

impl Cell {
    /// Reads the variable `name` from the input `input`: an artifact with a format of its own.
    pub fn load_artifact<T: Artifact>(&self, input: &str, name: &str) -> Result<T> {
        match T::read(&place(input)) {
            Ok(value) => Ok(value),
            Err(error) => Err(error.context(format!("`{name}` can't be read as {}", type_name::<T>()))),
        }
    }

    /// Reads a variable that is a reference to the value in the input. The value is leaked.
    pub fn load_reference<T>(&self, input: &str, name: &str) -> Result<&'static T>
    where
        T: ToOwned<Owned: DeserializeOwned + 'static> + ?Sized,
    {
        Ok(std::borrow::Borrow::borrow(Box::leak(Box::new(read::<T::Owned>(
            value::read,
            input,
            name,
        )?))))
    }

    /// Like [`load_artifact`](Self::load_artifact), for a type that is given by a tag.
    pub fn load_artifact_as<T: Artifact>(&self, _: &Tag<T>, input: &str, name: &str) -> Result<T> {
        self.load_artifact(input, name)
    }

    /// Like [`load_reference`](Self::load_reference), for a type that is given by a tag.
    pub fn load_reference_as<T: ToOwned<Owned: DeserializeOwned + 'static> + ?Sized>(
        &self,
        _: &Tag<&T>,
        input: &str,
        name: &str,
    ) -> Result<&'static T> {
        self.load_reference(input, name)
    }

    /// Computes a variable again, discarding everything that is printed.
    pub fn remake<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        quiet::quietly(make)
    }

    /// Saves a variable that is a serde value, or a reference to one.
    fn keep_value(
        &mut self,
        name: &'static str,
        type_name: &'static str,
        via: &'static str,
        value: &dyn erased_serde::Serialize,
    ) -> Result<()> {
        self.keep(name, type_name, (via, VALUE), &|path| value::write(value, path))
    }

    fn keep(
        &mut self,
        name: &'static str,
        type_name: &'static str,
        (via, media_type): (&'static str, &'static str),
        write: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        match write(&Path::new("/out").join(name)) {
            Ok(()) => {
                self.variables.insert(
                    name,
                    Saved {
                        type_name,
                        kept: Some(Kept { via, media_type }),
                    },
                );
                Ok(())
            }
            // cells that need it compute it again
            Err(_) => self.leave(name, type_name),
        }
    }

    fn leave(&mut self, name: &'static str, type_name: &'static str) -> Result<()> {
        std::fs::write(Path::new("/out").join(name), "")?;
        self.variables.insert(name, Saved { type_name, kept: None });
        Ok(())
    }

    fn show(&mut self, bundle: Bundle) {
        self.result = Some(bundle).filter(|bundle| !bundle.data.is_empty());
    }

    fn say(&self) -> Result<()> {
        let said = Said {
            variables: &self.variables,
            result: &self.result,
        };
        Ok(std::fs::write("/out/cell.json", serde_json::to_vec(&said)?)?)
    }
}

/// Returns the path of an input.
fn place(input: &str) -> PathBuf {
    Path::new("/in").join(input)
}

#[cold]
fn explain(error: Error, name: &str, type_name: &str) -> Error {
    error.context(format!(
        "`{name}` was made with another type than {type_name} is now: run the cell that makes it again"
    ))
}

/// Reads the variable `name` from the input `input`.
fn read<T>(read: fn(&Path) -> Result<T>, input: &str, name: &str) -> Result<T> {
    match read(&place(input)) {
        Ok(value) => Ok(value),
        Err(error) => Err(explain(error, name, type_name::<T>())),
    }
}

/// A type, as a value.
pub struct Tag<T>(PhantomData<fn() -> T>);

impl<T> Tag<T> {
    /// Returns the tag of the type.
    #[expect(clippy::new_without_default, reason = "only generated code creates it")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Debug for Tag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag<{}>", type_name::<T>())
    }
}

/// Nested pairs `(a, (b, ()))`, with the tags of their types in the same shape.
pub trait Pairs {
    /// Pairs of [`Tag`]s.
    type Tags;
    /// Returns the tags.
    fn tags() -> Self::Tags;
}

impl Pairs for () {
    type Tags = ();

    fn tags() {}
}

impl<A, B: Pairs> Pairs for (A, B) {
    type Tags = (Tag<A>, B::Tags);

    fn tags() -> Self::Tags {
        (Tag::new(), B::tags())
    }
}

/// Runs a future to completion. There is only one thread, and no events except for other futures.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut made = None;
    poll_until_ready(&mut |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => {
            made = Some(value);
            true
        }
        Poll::Pending => false,
    });
    match made {
        Some(value) => value,
        None => unreachable!("a future that is ready has a value"),
    }
}

fn poll_until_ready(poll: &mut dyn FnMut(&mut std::task::Context<'_>) -> bool) {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = woken.clone().into();
    while !poll(&mut std::task::Context::from_waker(&waker)) {
        assert!(
            woken.0.swap(false, Ordering::Relaxed),
            "the cell waits for something that never comes: there are no threads, timers and sockets in the sandbox"
        );
    }
}

/// Returns the types of a closure's result. Does not call the closure.
pub fn tags<T: Pairs>(_: &impl Fn() -> Result<T>) -> T::Tags {
    T::tags()
}

#[cold]
fn held(name: &str) -> Error {
    Error::msg(format!(
        "`{name}` borrows another variable until the end of the cell, so that one can't be kept: end the cell with `drop({name});`"
    ))
}

/// Warns if a value that can change belongs to several variables: each of them is kept.
fn shared<T>(name: &str, owners: usize, changing: &[&str]) {
    if owners > 1 && changes(type_name::<T>(), changing) {
        warn(&format!(
            "`{name}` shares its value with another variable. Each is kept by itself, so a later cell that changes one does not change the other"
        ));
    }
}

/// Returns whether the values of a type change behind a shared reference, as far as its name says: it has one of std, or of `changing`.
fn changes(type_name: &str, changing: &[&str]) -> bool {
    let mut words = type_name.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let of_std = ["Cell", "Mutex", "OnceCell", "OnceLock", "RefCell", "RwLock", "UnsafeCell"];
    words.any(|word| of_std.contains(&word) || word.starts_with("Atomic") || changing.contains(&word))
}

/// Warns that changes of a static are lost.
pub fn starts_anew(name: &str) {
    warn(&format!(
        "the static `{name}` starts anew in each cell, because a cell is a program of its own: keep what changes in a variable"
    ));
}

fn warn(text: &str) {
    eprintln!("warning: {text}");
}

/// A variable at the end of a cell.
#[derive(Debug)]
pub struct Of<'a, T>(pub &'a T);

/// Traits that are selected by the type of a value.
pub mod by_type {
    use super::*;

    pub use super::Of;
    pub use super::last::{DisplayElse, DisplayRich, ShowDebug, ShowNothing, ShowType};

    // `Deserialize<'static>` and not `DeserializeOwned`: method lookup ignores lifetimes, so it would also select the latter
    // for a `Vec<&str>`, which then fails to compile

    /// Reads a value that needs no serde.
    pub trait LoadBulk {
        /// The type of the value.
        type Value;
        /// Reads the variable `name` from the input `input`.
        fn load(&self, cell: &Cell, input: &str, name: &str) -> Result<Self::Value>;
    }

    impl<T: Bulk + DeserializeOwned + 'static> LoadBulk for &Tag<T> {
        type Value = T;

        fn load(&self, _: &Cell, input: &str, name: &str) -> Result<T> {
            read(value::read_bulk, input, name)
        }
    }

    /// Reads a value of a serde type.
    pub trait LoadValue {
        /// The type of the value.
        type Value;
        /// Reads the variable `name` from the input `input`.
        fn load(&self, cell: &Cell, input: &str, name: &str) -> Result<Self::Value>;
    }

    impl<T: DeserializeOwned + 'static> LoadValue for Tag<T> {
        type Value = T;

        fn load(&self, _: &Cell, input: &str, name: &str) -> Result<T> {
            read(value::read, input, name)
        }
    }

    /// Any type that is known.
    pub trait Known {
        /// Makes rustc report a type that is not known.
        fn __known(&self) {}
    }

    impl<T: ?Sized> Known for T {}

    /// Checks a variable before the variables of a cell are saved.
    pub trait CheckKept {
        /// Returns an error if the variable prevents others from being saved. Warns if it shares its value with another variable, and the
        /// value can change: `changing` has the names of the notebook's types for which that is so.
        fn check(&self, name: &'static str, changing: &[&str]) -> Result<()>;
    }

    macro_rules! guards {
        ($($guard:ty),*) => {$(
            impl<T: ?Sized> CheckKept for &Of<'_, $guard> {
                fn check(&self, name: &'static str, _: &[&str]) -> Result<()> {
                    Err(held(name))
                }
            }
        )*};
    }

    guards! {
        std::sync::MutexGuard<'_, T>, std::sync::RwLockReadGuard<'_, T>, std::sync::RwLockWriteGuard<'_, T>, std::cell::RefMut<'_, T>
    }

    impl<T> CheckKept for &Of<'_, std::rc::Rc<T>> {
        fn check(&self, name: &'static str, changing: &[&str]) -> Result<()> {
            shared::<T>(name, std::rc::Rc::strong_count(self.0), changing);
            Ok(())
        }
    }

    impl<T> CheckKept for &Of<'_, Arc<T>> {
        fn check(&self, name: &'static str, changing: &[&str]) -> Result<()> {
            shared::<T>(name, Arc::strong_count(self.0), changing);
            Ok(())
        }
    }

    /// Any other variable.
    pub trait CheckNothing {
        /// Accepts the variable.
        fn check(&self, name: &'static str, changing: &[&str]) -> Result<()>;
    }

    impl<T> CheckNothing for Of<'_, T> {
        fn check(&self, _: &'static str, _: &[&str]) -> Result<()> {
            Ok(())
        }
    }

    /// Saves a value that needs no serde.
    pub trait SaveBulk {
        /// Saves the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: Bulk> SaveBulk for &&&&Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.keep(name, type_name::<T>(), ("value", VALUE), &|path| {
                bulk::to_file(path, &|to| self.0.write(to))
            })
        }
    }

    /// Saves the target of a reference.
    pub trait SaveReference {
        /// Saves the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: ToOwned<Owned: Serialize + Deserialize<'static>> + ?Sized> SaveReference for &&&Of<'_, &T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            let owned = (*self.0).to_owned();
            cell.keep_value(name, type_name::<&T>(), "reference", &owned)
        }
    }

    /// Saves a value of a serde type.
    pub trait SaveValue {
        /// Saves the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: Serialize + Deserialize<'static>> SaveValue for &&Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.keep_value(name, type_name::<T>(), "value", self.0)
        }
    }

    /// Saves an artifact.
    pub trait SaveArtifact {
        /// Saves the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: Artifact> SaveArtifact for &Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.keep(name, type_name::<T>(), ("artifact", T::MEDIA_TYPE), &|path| {
                self.0.write_artifact(path)
            })
        }
    }

    /// Records the type of a value that can't be saved.
    pub trait SaveNothing {
        /// Saves the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T> SaveNothing for Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.leave(name, type_name::<T>())
        }
    }
}

/// A value of a type that this notebook does not know: the output of another module's step. Pass it to another step, or decode
/// it as a type with the same shape.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    /// Decodes the value as a type with the same shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        crate::encoding::read(&self.0[..]).with_context(|| format!("the value is no {}", type_name::<T>()))
    }
}

impl Artifact for Encoded {
    const MEDIA_TYPE: &'static str = VALUE;

    fn read(path: &Path) -> Result<Self> {
        crate::artifact::read(path).map(Self)
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, &self.0)?)
    }
}

impl Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ciborium::from_reader::<ciborium::Value, _>(&self.0[..]) {
            Ok(value) => value.fmt(f),
            Err(_) => write!(f, "{} bytes", self.0.len()),
        }
    }
}
